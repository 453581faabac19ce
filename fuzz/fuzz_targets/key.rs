//! Keys of caches.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ndshare::fuzzing::key(data);
});
