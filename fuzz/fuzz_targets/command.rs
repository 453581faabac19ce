//! Command lines.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ndshare_cli::fuzzing::command(data);
});
