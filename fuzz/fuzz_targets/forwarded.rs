//! Hands the fuzzer's input to `fanline_fuzz::forwarded`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fanline_fuzz::forwarded(input));
