//! Files of arenas.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ndshare::fuzzing::path_arena(data);
});
