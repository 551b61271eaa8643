//! Hands the fuzzer's input to `fanline_fuzz::proxy_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fanline_fuzz::proxy_head(input));
