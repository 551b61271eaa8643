//! Server-sent events (WHATWG HTML section 9.2), and lines of JSON: how messages stand in a stream of text, and how such a
//! stream is compressed.
//!
//! gzip is a header and one deflate stream, which may be put together of blocks from anywhere, as long as each ends at a
//! byte and refers back no further than its recipient has received. The checksum at its end is left out: it would differ
//! for each client, and no browser looks at it.

use crate::words::ids::Cursor;
use shared_deflate::deflate::{Deflater, TAIL, store};

/// Time after which a browser connects again, in milliseconds, where another attempt makes no sense: a day.
pub const FINAL_RETRY_MS: u64 = 86_400_000;

/// What an event says of itself besides its data.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventFields<'e> {
    /// None for a frame.
    pub name: Option<&'e str>,
    /// Everything up to here has been sent.
    pub id: Option<Cursor>,
    /// When the client shall come back, once the stream has ended.
    pub retry_ms: Option<u64>,
}

/// Appends one event.
pub fn put_event(out: &mut Vec<u8>, EventFields { name, id, retry_ms }: EventFields<'_>, text: &[u8]) {
    out.reserve(text.len() + 64);
    if let Some(retry_ms) = retry_ms {
        put_field(out, b"retry: ", retry_ms.to_string().as_bytes());
    }
    if let Some(name) = name {
        put_field(out, b"event: ", name.as_bytes());
    }
    if let Some(id) = id {
        put_field(out, b"id: ", id.to_string().as_bytes());
    }
    // A payload may have line breaks between its members. A client joins the lines again.
    for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
        put_field(out, b"data: ", line);
    }
    out.push(b'\n');
}

/// Appends a message as one line. Line breaks in JSON stand between its members, so that spaces do as well.
pub fn put_line(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    out.push(b'\n');
}

/// What a stream in gzip begins with (RFC 1952 section 2.3): no name, no time, an unknown system.
pub const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Appends a text to a stream in gzip as it is: blocks that refer to nothing, and end at a byte.
pub fn put_stored(out: &mut Vec<u8>, text: &[u8]) {
    store(text, out);
    // The header of the block that a message of permessage-deflate ends with.
    out.pop();
}

/// Appends a text to a stream in gzip, by itself.
pub fn put_deflated(out: &mut Vec<u8>, text: &[u8], deflater: &mut Deflater) {
    let start = out.len();
    deflater.cut();
    deflater.deflate(text, out);
    out.extend_from_slice(&TAIL);
    if out.len() - start > text.len() {
        out.truncate(start);
        put_stored(out, text);
    }
}

/// The `op` of a message of the server, which comes first in it.
pub fn op_of(text: &[u8]) -> Option<&str> {
    let rest = text.strip_prefix(b"{\"op\":\"")?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    std::str::from_utf8(&rest[..end]).ok()
}

fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::ids::{Epoch, Offset};

    #[test]
    fn an_event_has_its_fields_before_its_data_and_an_empty_line_behind() {
        let id = Some(Cursor { epoch: Epoch(16), offset: Offset(7) });
        for (fields, text, expected) in [
            (EventFields { id, ..EventFields::default() }, "{}", "id: 0000000000000010:7\ndata: {}\n\n"),
            (EventFields { name: Some("live"), ..EventFields::default() }, "{}", "event: live\ndata: {}\n\n"),
            (
                EventFields { retry_ms: Some(5), ..EventFields::default() },
                "{\n\r\n}",
                "retry: 5\ndata: {\ndata: \ndata: \ndata: }\n\n",
            ),
        ] {
            let mut out = Vec::new();
            put_event(&mut out, fields, text.as_bytes());
            assert_eq!(String::from_utf8(out).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn a_message_is_one_line_whatever_the_payload() {
        let mut out = Vec::new();
        put_line(&mut out, b"{\"a\":\r\n1}");
        assert_eq!(out, b"{\"a\":  1}\n");
    }

    #[test]
    fn a_message_is_named_by_its_op() {
        assert_eq!(op_of(br#"{"op":"heartbeat","offset":1}"#), Some("heartbeat"));
        assert_eq!(op_of(br#"{"topic":"a"}"#), None);
    }
}
