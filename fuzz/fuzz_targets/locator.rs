//! Where arenas are, and entries of the registry of names.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ndshare::fuzzing::locator(data);
});
