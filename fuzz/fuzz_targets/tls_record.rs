//! Hands the fuzzer's input to `fanline_fuzz::tls_record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fanline_fuzz::tls_record(input));
