//! Any text as `smartlog.toml`, any text as the value of an option's variable and flag.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smartlog_fuzz::config::check(data));
