//! Layouts of arrays, and what is copied by them.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ndshare::fuzzing::layout(data);
});
