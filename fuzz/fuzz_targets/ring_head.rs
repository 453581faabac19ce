//! Words of a ring's head and entries.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ndshare::fuzzing::ring_head(data);
});
