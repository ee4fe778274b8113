//! libFuzzer's entry to [`sosna_protocol_fuzz::frame`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sosna_protocol_fuzz::frame(bytes));
