//! What a user says who offers an object to another one.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ndshare::fuzzing::letter(data);
});
