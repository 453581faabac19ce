//! Opening the browser. The address has the token, and every user of the machine sees the command lines of others: so the
//! browser is given a file of this user's own, which leads there. It goes when the page was asked for, or nobody has asked for
//! long enough, or the viewer ends.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use super::bell::locked;

/// The browser has read the file by then.
const READ: Duration = Duration::from_secs(20);
/// The file, while it is there.
static LEFT: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Opens the browser at an address; whether there is one to be opened.
pub(super) fn open(address: &str) -> io::Result<()> {
    let path = write(address)?;
    let opened = Command::new("xdg-open")
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .inspect_err(|_| _ = fs::remove_file(&path));
    let mut child = opened?;
    *locked(&LEFT) = Some(path);
    thread::Builder::new().name("ndshare-open".to_owned()).spawn(move || {
        thread::sleep(READ);
        forget();
        // It may be the browser itself, and stay.
        let _ = child.wait();
    })?;
    Ok(())
}

/// Nobody needs the file any more.
pub(super) fn forget() {
    let path = locked(&LEFT).take();
    path.into_iter().for_each(|path| _ = fs::remove_file(path));
}

/// A page that leads to the address, which nobody else can read.
fn write(address: &str) -> io::Result<PathBuf> {
    let directory = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let path = directory.join(format!("ndshare-view-{:016x}.html", ndshare::os::random_u64()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let page =
        format!("<!doctype html><meta http-equiv=\"refresh\" content=\"0; url={address}\"><title>ndshare</title>\n");
    file.write_all(page.as_bytes()).inspect_err(|_| _ = fs::remove_file(&path))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn nobody_else_can_read_the_address() {
        let path = write("http://127.0.0.1:1/x/").unwrap();
        let (mode, page) = (fs::metadata(&path).unwrap().permissions().mode(), fs::read_to_string(&path).unwrap());
        fs::remove_file(&path).unwrap();
        assert_eq!(mode & 0o777, 0o600);
        assert!(page.contains("url=http://127.0.0.1:1/x/\""));
    }
}
