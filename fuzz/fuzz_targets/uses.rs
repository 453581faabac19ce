//! The uses of overlays.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ndshare::fuzzing::uses(data);
});
