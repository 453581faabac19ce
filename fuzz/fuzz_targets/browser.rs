//! What a browser says to the viewer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ndshare_cli::fuzzing::browser(data);
});
