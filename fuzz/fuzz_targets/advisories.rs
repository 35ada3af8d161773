#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wheelport_fuzz::advisories(bytes));
