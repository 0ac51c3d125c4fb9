//! Any bytes, parsed both ways and under every preset.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smartlog_fuzz::parse(data));
