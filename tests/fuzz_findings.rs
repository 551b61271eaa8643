//! What fuzzing has found stays fixed, and the committed inputs of each target still pass, without a fuzzer.

use std::fs;
use std::path::Path;

use fanline::json::{Pointer, find};
use fanline::protocol::command;

#[path = "../fuzz/src/lib.rs"]
mod targets;

#[test]
fn every_committed_input_passes_its_target() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, target) in targets::TARGETS {
        let folder = fs::read_dir(seeds.join(name)).expect("each target has seeds");
        let inputs: Vec<_> = folder.map(|entry| entry.expect("a readable entry").path()).collect();
        assert!(!inputs.is_empty(), "{name} has no seeds");
        for input in inputs {
            // Shown if the target panics.
            println!("{}", input.display());
            target(&fs::read(&input).expect("a readable seed"));
        }
    }
}

#[test]
fn a_refusal_does_not_repeat_a_long_text() {
    let text = serde_json::to_string(&"\u{7f}".repeat(10_000)).expect("a string");
    let (_, result) = command::parse(&text, 1000);
    let refusal = result.expect_err("no object");
    assert!(refusal.message.len() < 400, "{} bytes", refusal.message.len());
}

#[test]
fn a_refusal_shows_control_characters_escaped() {
    for part in
        [r#""topics":["a\u007fb"]"#, r#""topics":["a"],"since":"a\u007fb""#, r#""topics":["a"],"policy":"\u007f""#]
    {
        let (_, result) = command::parse(&format!(r#"{{"op":"subscribe",{part}}}"#), 1000);
        let refusal = result.expect_err(part);
        assert!(!refusal.message.contains(char::is_control), "{refusal:?}");
    }
}

#[test]
fn an_index_with_leading_zeros_is_a_name() {
    let pointer = |text| Pointer::parse(text).expect("a pointer");
    assert_eq!(find("[7,8]", &pointer("/00")), None);
    assert_eq!(find("[7,8]", &pointer("/-0")), None);
    assert_eq!(find(r#"{"00":7}"#, &pointer("/00")), Some("7"));
}
