//! What fuzzing has found stays fixed, and the committed inputs of each target still pass, without a fuzzer. For shared
//! tokens, whose faults are silent, so do random inputs, and all that may happen happens in them.

use std::fs;
use std::path::Path;

use shared_deflate::deflate::{Deflater, Inflater};
use shared_deflate::frame::{DecodeError, Decoder, Opcode, put_header};
use shared_deflate::token::REFERENCES_MAX;

#[path = "../fuzz/src/lib.rs"]
mod targets;

/// Random inputs of shared tokens, and their length.
const TOKEN_RUNS: u64 = 40;
const TOKEN_INPUT_BYTES: usize = 6000;

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

#[test]
fn every_recipient_reads_every_text_whatever_it_has_missed() {
    let mut all = targets::Happened::default();
    for seed in 1..=TOKEN_RUNS {
        // Shown if a run fails.
        println!("seed {seed}");
        let happened = targets::happened_with(&noise(seed));
        for (sum, count) in all.by_tokens.iter_mut().zip(happened.by_tokens) {
            *sum += count;
        }
        all.refused += happened.refused;
        all.too_long += happened.too_long;
        all.stateless += happened.stateless;
        all.plain += happened.plain;
        all.joined += happened.joined;
    }
    for (needed, count) in all.by_tokens.iter().enumerate() {
        assert!(*count > 200, "{count} messages needed {needed} references: {all:?}");
    }
    assert_eq!(all.by_tokens.len(), REFERENCES_MAX + 1);
    for count in [all.refused, all.stateless, all.plain] {
        assert!(count > 1000, "{all:?}");
    }
    assert!(all.too_long > 50 && all.joined > 500, "{all:?}");
}

fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..TOKEN_INPUT_BYTES).map(|_| next()).collect()
}
