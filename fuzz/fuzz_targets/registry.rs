//! Words of an arena's table of names.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ndshare::fuzzing::registry(data);
});
