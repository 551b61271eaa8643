//! Commands of a client: `subscribe` with its patterns, after the upgrade, and `unsubscribe`.

use serde_json::json;

use shared_deflate::frame::{Opcode, put_frame};

/// A `subscribe` as docs/PROTOCOL.md has it, in a client's WireFrame.
pub fn subscribe(patterns: &[&str]) -> Vec<u8> {
    command("subscribe", patterns)
}

/// An `unsubscribe`, likewise.
pub fn unsubscribe(patterns: &[&str]) -> Vec<u8> {
    command("unsubscribe", patterns)
}

/// The mask is zero, which leaves the payload unchanged.
fn command(op: &str, patterns: &[&str]) -> Vec<u8> {
    let command = json!({ "op": op, "topics": patterns }).to_string();
    let mut frame = Vec::new();
    put_frame(&mut frame, Opcode::Text, command.as_bytes());
    frame[1] |= 0x80;
    let header_bytes = frame.len() - command.len();
    frame.splice(header_bytes..header_bytes, [0; 4]);
    frame
}

/// Most bytes of the command's text, for `patterns` patterns of at most `pattern_bytes` each.
pub fn command_bytes(patterns: usize, pattern_bytes: usize) -> usize {
    // Two quotes and a comma each.
    r#"{"op":"subscribe","topics":[]}"#.len() + patterns * (pattern_bytes + 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared_deflate::deflate::Inflater;
    use shared_deflate::frame::{Decoder, Message};

    #[test]
    fn a_server_can_read_the_command() {
        for patterns in [1, 10, 1000] {
            let mut decoder = Decoder::new(1 << 20, false);
            decoder.push(&subscribe(&vec!["quote.AAPL"; patterns]));
            let message = decoder.next(&mut Inflater::new()).expect("a WireFrame").expect("a whole one");
            let Message::Text(text) = message else { panic!("{message:?}") };
            let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(value["op"], "subscribe");
            assert_eq!(value["topics"].as_array().map(Vec::len), Some(patterns));
            assert!((text.len()..text.len() + 4).contains(&command_bytes(patterns, "quote.AAPL".len())));
        }
    }
}
