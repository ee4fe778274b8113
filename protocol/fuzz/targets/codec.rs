//! libFuzzer's entry to [`sosna_protocol_fuzz::codec`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sosna_protocol_fuzz::codec(bytes));
