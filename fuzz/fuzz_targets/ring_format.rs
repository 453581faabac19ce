//! What a ring says of its frames.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ndshare::fuzzing::ring_format(data);
});
