//! The files of the page. They are in the program: nothing is fetched from anywhere.

/// Each file by its name, with the type that a browser needs.
macro_rules! files {
    ($($name:literal $kind:literal;)*) => {
        const FILES: &[(&str, &str, &[u8])] = &[
            $(($name, $kind, include_bytes!(concat!("page/", $name))),)*
        ];
    };
}

files! {
    "index.html" "text/html; charset=utf-8";
    "style.css" "text/css; charset=utf-8";
    "chart.js" "text/javascript; charset=utf-8";
    "colour.js" "text/javascript; charset=utf-8";
    "format.js" "text/javascript; charset=utf-8";
    "gl.js" "text/javascript; charset=utf-8";
    "histogram.js" "text/javascript; charset=utf-8";
    "icon.svg" "image/svg+xml";
    "keys.js" "text/javascript; charset=utf-8";
    "main.js" "text/javascript; charset=utf-8";
    "message.js" "text/javascript; charset=utf-8";
    "painter.js" "text/javascript; charset=utf-8";
    "panel.js" "text/javascript; charset=utf-8";
    "pointer.js" "text/javascript; charset=utf-8";
    "save.js" "text/javascript; charset=utf-8";
    "socket.js" "text/javascript; charset=utf-8";
    "view.js" "text/javascript; charset=utf-8";
}

/// Type and contents of a file; the page itself has no name.
pub(super) fn file(name: &str) -> Option<(&'static str, &'static [u8])> {
    let name = if name.is_empty() { "index.html" } else { name };
    FILES.iter().find(|(file, ..)| *file == name).map(|&(_, kind, contents)| (kind, contents))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_no_other_host_for_anything() {
        for (name, _, contents) in FILES {
            let text = std::str::from_utf8(contents).unwrap();
            let links = text.split("//").skip(1).zip(text.split("//"));
            // A link has a colon before its slashes; the names of two standards look like links.
            let hosts = links.filter(|(_, before)| before.ends_with("http:") || before.ends_with("https:"));
            let foreign = hosts.filter(|(after, _)| !after.starts_with("www.w3.org/")).count();
            assert_eq!(foreign, 0, "{name}");
        }
        assert!(file("").is_some() && file("main.js").is_some() && file("../args.rs").is_none());
    }

    #[test]
    fn every_module_that_is_imported_is_served() {
        for (name, _, contents) in FILES {
            let text = std::str::from_utf8(contents).unwrap();
            for import in text.split("from \"./").skip(1) {
                let module = import.split('"').next().unwrap();
                assert!(file(module).is_some(), "{name} imports {module}");
            }
        }
    }
}
