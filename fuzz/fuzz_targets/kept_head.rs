//! Words of the heads of overlays, canvases, named arrays and locks.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ndshare::fuzzing::kept_head(data);
});
