//! The encodings of a frame: envelope or raw, plain or deflated, each a complete WireFrame ready for a socket.

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;

use crate::wire::deflate::{Deflater, WINDOW_BITS_MAX};
use crate::wire::frame::{Opcode, put_frame, put_header};
use crate::words::ids::Offset;

/// An upstream payload, exactly as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    pub bytes: Bytes,
    pub kind: PayloadKind,
}

/// What is known of a payload's bytes; decided by the intake, which has checked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// One valid JSON value in UTF-8.
    Json,
    /// UTF-8 that is not JSON.
    Text,
    /// Anything else.
    Binary,
}

/// Form in which a session gets frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// `{"topic":…,"offset":…,"ts":…,"data":…}`
    #[default]
    Envelope,
    /// The payload exactly as received and nothing else.
    Raw,
}

/// What a frame of a topic of snapshots and deltas is: `kind` in an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeKind {
    /// The whole value.
    Snapshot,
    /// It changes the value that the frames before it made.
    Delta,
}

/// All that an envelope says.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    pub topic: &'a str,
    pub offset: Offset,
    /// When it was received, in milliseconds since the Unix epoch.
    pub ts_ms: u64,
    pub kind: Option<EnvelopeKind>,
    pub payload: &'a Payload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    EnvelopePlain,
    EnvelopeDeflate,
    RawPlain,
    RawDeflate,
}

impl Encoding {
    pub const COUNT: usize = 4;
    pub const ALL: [Encoding; Encoding::COUNT] =
        [Encoding::EnvelopePlain, Encoding::EnvelopeDeflate, Encoding::RawPlain, Encoding::RawDeflate];

    pub fn of(format: Format, deflate: bool) -> Encoding {
        match (format, deflate) {
            (Format::Envelope, false) => Encoding::EnvelopePlain,
            (Format::Envelope, true) => Encoding::EnvelopeDeflate,
            (Format::Raw, false) => Encoding::RawPlain,
            (Format::Raw, true) => Encoding::RawDeflate,
        }
    }

    /// Value of the `encoding` label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Encoding::EnvelopePlain => "envelope",
            Encoding::EnvelopeDeflate => "envelope_deflate",
            Encoding::RawPlain => "raw",
            Encoding::RawDeflate => "raw_deflate",
        }
    }
}

/// A complete WireFrame; empty where there is nothing to send.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    pub bytes: Bytes,
    /// Size of the same WireFrame without compression, to tell what was saved.
    pub plain_bytes: usize,
}

/// Longest header of an unmasked WireFrame.
const HEADER_BYTES_MAX: usize = 10;

/// Makes encodings, and counts how many it made. One per shard.
pub struct Encoder {
    deflater: Deflater,
    text: Vec<u8>,
    made: [u64; Encoding::COUNT],
}

impl Encoder {
    /// `level` is zlib's, 1 to 9.
    pub fn new(level: u32) -> Encoder {
        Encoder { deflater: Deflater::new(level, WINDOW_BITS_MAX), text: Vec::new(), made: [0; Encoding::COUNT] }
    }

    pub fn encode(&mut self, encoding: Encoding, envelope: &Envelope<'_>) -> Encoded {
        self.made[encoding as usize] += 1;
        let payload = envelope.payload;
        match encoding {
            Encoding::RawPlain | Encoding::RawDeflate => {
                let opcode = match payload.kind {
                    PayloadKind::Json | PayloadKind::Text => Opcode::Text,
                    PayloadKind::Binary => Opcode::Binary,
                };
                wire_frame(encoding == Encoding::RawDeflate, opcode, &payload.bytes, &mut self.deflater)
            }
            Encoding::EnvelopePlain | Encoding::EnvelopeDeflate => {
                self.text.clear();
                put_envelope(&mut self.text, envelope);
                wire_frame(encoding == Encoding::EnvelopeDeflate, Opcode::Text, &self.text, &mut self.deflater)
            }
        }
    }

    /// How many encodings of each kind were made since the last call.
    pub fn take_made(&mut self) -> [u64; Encoding::COUNT] {
        std::mem::take(&mut self.made)
    }
}

impl Encoded {
    /// A notice in its place between the frames: never compressed, and nothing at all for raw sessions.
    pub fn notice(encoding: Encoding, text: &[u8]) -> Encoded {
        match encoding {
            Encoding::RawPlain | Encoding::RawDeflate => Encoded::default(),
            Encoding::EnvelopePlain | Encoding::EnvelopeDeflate => {
                let mut out = Vec::with_capacity(HEADER_BYTES_MAX + text.len());
                put_frame(&mut out, Opcode::Text, text);
                Encoded { plain_bytes: out.len(), bytes: out.into() }
            }
        }
    }
}

impl EnvelopeKind {
    fn label(self) -> &'static [u8] {
        match self {
            EnvelopeKind::Snapshot => b"snapshot",
            EnvelopeKind::Delta => b"delta",
        }
    }
}

/// Appends the envelope of one frame. The data are the payload's own bytes; only what is not JSON is quoted.
pub fn put_envelope(out: &mut Vec<u8>, envelope: &Envelope<'_>) {
    let Envelope { topic, offset, ts_ms, kind, payload } = *envelope;
    out.reserve(topic.len() + payload.bytes.len() + 80);
    out.extend_from_slice(b"{\"topic\":");
    put_json_string(out, topic);
    out.extend_from_slice(b",\"offset\":");
    put_number(out, offset.0);
    out.extend_from_slice(b",\"ts\":");
    put_number(out, ts_ms);
    if let Some(kind) = kind {
        out.extend_from_slice(b",\"kind\":\"");
        out.extend_from_slice(kind.label());
        out.push(b'"');
    }
    match payload.kind {
        PayloadKind::Json => {
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(&payload.bytes);
        }
        PayloadKind::Text => {
            out.extend_from_slice(b",\"data\":");
            put_json_string(out, &String::from_utf8_lossy(&payload.bytes));
        }
        PayloadKind::Binary => {
            out.extend_from_slice(b",\"data_base64\":\"");
            out.extend_from_slice(BASE64_STANDARD.encode(&payload.bytes).as_bytes());
            out.push(b'"');
        }
    }
    out.push(b'}');
}

fn wire_frame(deflate: bool, opcode: Opcode, payload: &[u8], deflater: &mut Deflater) -> Encoded {
    let mut out = Vec::with_capacity(HEADER_BYTES_MAX + payload.len());
    put_header(&mut out, opcode, false, payload.len());
    let plain_bytes = out.len() + payload.len();
    if deflate {
        deflater.cut();
        let mut deflated = Vec::new();
        deflater.deflate(payload, &mut deflated);
        // RFC 7692 leaves it to the sender, message by message; what does not shrink goes out as it is.
        if deflated.len() < payload.len() {
            out.clear();
            put_header(&mut out, opcode, true, deflated.len());
            out.extend_from_slice(&deflated);
            out.shrink_to_fit();
            return Encoded { bytes: out.into(), plain_bytes };
        }
    }
    out.extend_from_slice(payload);
    out.shrink_to_fit();
    Encoded { bytes: out.into(), plain_bytes }
}

fn put_json_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string always serialises into memory");
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    serde_json::to_writer(out, &number).expect("a number always serialises into memory");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::deflate::Inflater;

    fn payload(bytes: &'static [u8], kind: PayloadKind) -> Payload {
        Payload { bytes: Bytes::from_static(bytes), kind }
    }

    fn envelope(offset: u64, payload: &Payload) -> Envelope<'_> {
        Envelope { topic: "a.\"b\"", offset: Offset(offset), ts_ms: 9, kind: None, payload }
    }

    #[test]
    fn an_envelope_holds_the_payload_byte_for_byte() {
        for (payload, expected) in [
            (
                payload(b"{\"p\": 1.500}", PayloadKind::Json),
                r#"{"topic":"a.\"b\"","offset":7,"ts":9,"data":{"p": 1.500}}"#,
            ),
            (
                payload(b"say \"hi\"\r\n", PayloadKind::Text),
                r#"{"topic":"a.\"b\"","offset":7,"ts":9,"data":"say \"hi\"\r\n"}"#,
            ),
            (
                payload(&[0, 255, 16], PayloadKind::Binary),
                r#"{"topic":"a.\"b\"","offset":7,"ts":9,"data_base64":"AP8Q"}"#,
            ),
        ] {
            let mut out = Vec::new();
            put_envelope(&mut out, &envelope(7, &payload));
            assert_eq!(String::from_utf8(out).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn snapshots_and_deltas_say_so() {
        let payload = payload(b"1", PayloadKind::Json);
        for (kind, expected) in [(EnvelopeKind::Snapshot, "snapshot"), (EnvelopeKind::Delta, "delta")] {
            let mut out = Vec::new();
            put_envelope(&mut out, &Envelope { topic: "a", kind: Some(kind), ..envelope(7, &payload) });
            let expected = format!(r#"{{"topic":"a","offset":7,"ts":9,"kind":"{expected}","data":1}}"#);
            assert_eq!(String::from_utf8(out), Ok(expected));
        }
    }

    #[test]
    fn a_notice_between_frames_is_plain_for_envelopes_and_nothing_for_raw() {
        let text = [b'x'; 200];
        for encoding in Encoding::ALL {
            let Encoded { bytes, plain_bytes } = Encoded::notice(encoding, &text);
            let is_raw = matches!(encoding, Encoding::RawPlain | Encoding::RawDeflate);
            assert_eq!((bytes.len(), plain_bytes), if is_raw { (0, 0) } else { (204, 204) }, "{encoding:?}");
            assert_eq!(bytes.first(), if is_raw { None } else { Some(&0x81) });
        }
    }

    #[test]
    fn a_deflated_encoding_is_smaller_or_plain() {
        let mut encoder = Encoder::new(6);
        let long = payload(&[b'x'; 1000], PayloadKind::Text);
        let Encoded { bytes: deflated, plain_bytes } = encoder.encode(Encoding::RawDeflate, &envelope(1, &long));
        assert_eq!(plain_bytes, 1004);
        assert_eq!(deflated[0], 0xC1);
        assert_eq!(Inflater::new().inflate(&deflated[2..], 1000).as_deref(), Ok(&long.bytes[..]));
        let short = payload(b"q7", PayloadKind::Binary);
        assert_eq!(&encoder.encode(Encoding::RawDeflate, &envelope(2, &short)).bytes[..], b"\x82\x02q7");
        assert_eq!(encoder.take_made(), [0, 0, 0, 2]);
    }
}
