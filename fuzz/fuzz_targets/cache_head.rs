//! Words of a cache's tables.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ndshare::fuzzing::cache_head(data);
});
