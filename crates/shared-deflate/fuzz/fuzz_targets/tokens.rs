//! Hands the fuzzer's input to `shared_deflate_fuzz::tokens`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shared_deflate_fuzz::tokens(input));
