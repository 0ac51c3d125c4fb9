//! Any text as a timestamp, in a string and as a number.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smartlog_fuzz::timestamp(data));
