//! The messages of a server to the canary, of which it reads the beginning: what they are, and their offset.

use shared_deflate::frame::Opcode;
use shared_deflate::scan::FrameHeader;

/// Bytes of a message that are looked at: its topic, of at most 256 bytes, stands before its offset.
const HEAD_BYTES: usize = 1024;
/// How every message of the server's own begins.
const NOTICE: &[u8] = b"{\"op\":\"";
const OFFSET: &[u8] = b",\"offset\":";

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A message of the feed.
    Frame {
        offset: u64,
    },
    /// The server greets it.
    Welcome,
    /// It is refused something, in these words.
    Refusal(String),
    Ping,
    /// The server ends the connection.
    Close,
    /// Nothing that matters.
    Other,
}

/// The stream is not that of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected messages of fanline.v1, found something else")]
pub struct NoMessages;

/// What has been received and not read.
#[derive(Debug, Default)]
pub struct MessageReader {
    held: Vec<u8>,
    /// Bytes of the last message that are still to come, and not looked at.
    skip: u64,
}

impl MessageReader {
    /// Takes received bytes, and shows each message once its beginning is whole.
    pub fn take(&mut self, bytes: &[u8], mut show: impl FnMut(Heard)) -> Result<(), NoMessages> {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= skipped as u64;
        self.held.extend_from_slice(&bytes[skipped..]);
        let mut at = 0;
        while let Some(header) = FrameHeader::read(&self.held[at..]).map_err(|_| NoMessages)? {
            let payload_bytes = usize::try_from(header.payload_bytes).unwrap_or(usize::MAX);
            let start = at + header.header_bytes;
            let Some(head) = self.held.get(start..start + payload_bytes.min(HEAD_BYTES)) else { break };
            show(heard(header.opcode().ok_or(NoMessages)?, head));
            let end = start.saturating_add(payload_bytes);
            at = end.min(self.held.len());
            self.skip = (end - at) as u64;
        }
        self.held.drain(..at);
        Ok(())
    }
}

fn heard(opcode: Opcode, head: &[u8]) -> Heard {
    match opcode {
        Opcode::Ping => Heard::Ping,
        Opcode::Close => Heard::Close,
        Opcode::Text if head.starts_with(b"{\"op\":\"welcome\"") => Heard::Welcome,
        Opcode::Text if head.starts_with(b"{\"op\":\"error\"") => {
            Heard::Refusal(String::from_utf8_lossy(head).into_owned())
        }
        Opcode::Text if !head.starts_with(NOTICE) => {
            offset(head).map_or(Heard::Other, |offset| Heard::Frame { offset })
        }
        _ => Heard::Other,
    }
}

/// A quote in a topic is escaped, so that this stands in none.
fn offset(head: &[u8]) -> Option<u64> {
    let at = head.windows(OFFSET.len()).position(|window| window == OFFSET)? + OFFSET.len();
    let digits = head[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&head[at..at + digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared_deflate::frame::{put_close, put_frame};

    #[test]
    fn messages_are_read_wherever_the_stream_is_cut() {
        let long = format!(
            "{{\"topic\":\"a\\\",\\\"offset\\\":1\",\"offset\":9,\"ts\":1,\"data\":\"{}\"}}",
            "x".repeat(70_000)
        );
        let refusal = "{\"op\":\"error\",\"code\":\"too_many_lanes\"}";
        let mut stream = Vec::new();
        for text in ["{\"op\":\"welcome\",\"offset\":3}", refusal, "{\"topic\":\"t\",\"offset\":4,\"data\":{}}", &long]
        {
            put_frame(&mut stream, Opcode::Text, text.as_bytes());
        }
        put_frame(&mut stream, Opcode::Ping, b"");
        put_frame(&mut stream, Opcode::Text, b"{\"op\":\"gap\",\"topic\":\"t\",\"offset\":5}");
        put_close(&mut stream, 1001, "going away");
        let expected = [
            Heard::Welcome,
            Heard::Refusal(refusal.to_owned()),
            Heard::Frame { offset: 4 },
            Heard::Frame { offset: 9 },
            Heard::Ping,
            Heard::Other,
            Heard::Close,
        ];
        for piece_bytes in [1, 3, 17, 1000, 1 << 20] {
            let (mut reader, mut found) = (MessageReader::default(), Vec::new());
            for piece in stream.chunks(piece_bytes) {
                reader.take(piece, |heard| found.push(heard)).expect("messages of a server");
            }
            assert_eq!(found, expected, "pieces of {piece_bytes} bytes");
            assert!(reader.held.is_empty() && reader.skip == 0);
        }
    }

    #[test]
    fn what_no_server_sends_is_refused_and_an_endless_message_is_no_memory() {
        assert_eq!(MessageReader::default().take(&[0x81, 0x80], |_| {}), Err(NoMessages));
        let mut reader = MessageReader::default();
        let endless = [&[0x82, 127, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF][..], &[b'x'; 5000]].concat();
        for _ in 0..3 {
            reader.take(&endless, |_| {}).expect("one message");
            assert!(reader.held.len() <= HEAD_BYTES + 16, "{}", reader.held.len());
        }
    }
}
