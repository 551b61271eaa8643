//! What fuzzing has found stays fixed, and the committed inputs of each target still pass, without a fuzzer.

use std::fs;
use std::path::Path;

use shared_deflate::deflate::{Deflater, Inflater};
use shared_deflate::frame::{DecodeError, Decoder, Opcode, put_header};

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
fn a_limit_below_that_of_control_frames_holds_for_messages() {
    let mut frame = Vec::new();
    put_header(&mut frame, Opcode::Binary, false, 20);
    frame[1] |= 0x80;
    frame.extend_from_slice(&[0; 4 + 20]);
    let mut decoder = Decoder::new(16, false);
    decoder.push(&frame);
    assert_eq!(decoder.next(&mut Inflater::new()), Err(DecodeError::TooBig { max: 16 }));
}

#[test]
fn an_empty_message_can_be_deflated_into_a_kept_window() {
    let mut deflater = Deflater::new(6, 15);
    let mut out = Vec::new();
    deflater.deflate(b"before", &mut out);
    out.clear();
    deflater.deflate(b"", &mut out);
    assert_eq!(out, [0]);
}
