//! How the shared library is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Programs look for it by this name, wherever it was when they were linked.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libndshare.so");
    // What runs at forks points into it.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
