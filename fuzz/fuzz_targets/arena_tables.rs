//! Words of an arena's control part.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ndshare::fuzzing::arena_tables(data);
});
