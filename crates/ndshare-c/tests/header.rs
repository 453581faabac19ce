//! The header says what the functions are: it is made of them by cbindgen, and this test fails when it is not what it
//! would be now. `make header` writes it.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The files with functions and types, in the header's order.
const SOURCES: [&str; 10] = ["error", "session", "info", "note", "array", "lock", "ring", "writer", "reader", "names"];

fn header() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).unwrap();
    let file = |name: &&str| folder.join("src").join(name).with_extension("rs");
    let builder = cbindgen::Builder::new().with_config(config);
    let builder = SOURCES.iter().map(file).fold(builder, cbindgen::Builder::with_src);
    let mut bytes = Vec::new();
    builder.generate().unwrap().write(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_header_is_that_of_the_functions() {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../python/ndshare/include/ndshare.h"].iter().collect();
    if env::var_os("NDSHARE_WRITE_HEADER").is_some() {
        fs::write(&path, header()).unwrap();
    }
    let is_current = fs::read_to_string(&path).unwrap_or_default() == header();
    assert!(is_current, "the header is not that of the functions: run `make header`, and commit it");
}

#[test]
fn every_function_is_in_the_header() {
    let header = header();
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap() {
        let source = fs::read_to_string(file.unwrap().path()).unwrap();
        let functions = source.split("extern \"C\" fn ").skip(1).filter_map(|rest| rest.split('(').next());
        functions.for_each(|name| assert!(header.contains(&format!("{name}(")), "{name}"));
    }
}
