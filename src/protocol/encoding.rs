//! The encodings of a frame: its content (format), its place in the byte stream (framing), deflated or not. Each is
//! ready for a socket. `encodings.rs` keeps those of a frame.
//!
//! A further framing or format is an entry of `Encoding::ALL` and an arm in `Encoder::encode`.

use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;

use crate::protocol::event_stream::{EventFields, op_of, put_deflated, put_event, put_line, put_stored};
use crate::protocol::form::{FormId, Forms};
use crate::words::ids::{Cursor, Epoch, Offset};
use shared_deflate::deflate::{Deflater, WINDOW_BITS_MAX};
use shared_deflate::frame::{Opcode, parts, put_frame, put_header};
use shared_deflate::token::{Tokenizer, Tokens};

/// A payload of the feed, exactly as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    pub bytes: Bytes,
    pub kind: PayloadKind,
}

impl Payload {
    /// Of the WebSocket message that it is sent in.
    pub fn opcode(&self, format: Format) -> Opcode {
        match (format, self.kind) {
            (Format::Raw | Format::Form(_), PayloadKind::Binary) => Opcode::Binary,
            _ => Opcode::Text,
        }
    }
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

/// What a session is sent of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// `{"topic":…,"offset":…,"ts":…,"data":…}`
    #[default]
    Envelope,
    /// The payload exactly as received and nothing else.
    Raw,
    /// The payload in a form of the dialect that the session speaks, and nothing else.
    Form(FormId),
}

impl Format {
    /// Places of formats in tables: all forms share one.
    pub const COUNT: usize = 3;

    pub fn index(self) -> usize {
        match self {
            Format::Envelope => 0,
            Format::Raw => 1,
            Format::Form(_) => 2,
        }
    }

    /// The session speaks a dialect: it knows no message of the server's own.
    pub fn is_form(self) -> bool {
        matches!(self, Format::Form(_))
    }
}

/// Which of the messages of its topic before it the tokens of a frame refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum References {
    /// As many as tokens can refer to.
    All,
    /// The one just before it.
    Newest,
}

impl References {
    pub const COUNT: usize = 2;
}

/// What a frame of a topic of snapshots and deltas is: `kind` in an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeKind {
    /// The whole value.
    Snapshot,
    /// It changes the value that the frames before it made.
    Delta,
}

/// The content of an envelope.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    pub topic: &'a str,
    pub offset: Offset,
    /// When it was received, in milliseconds since the Unix epoch.
    pub ts_ms: u64,
    pub kind: Option<EnvelopeKind>,
    pub payload: &'a Payload,
}

/// How encodings and messages stand in the byte stream of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Each is a WebSocket message of its own (RFC 6455).
    #[default]
    WebSocket,
    /// Each is a server-sent event; ids are of this epoch.
    Events(Epoch),
    /// The same, in gzip.
    Gzip(Epoch),
    /// Each is a line.
    Lines,
}

/// What an event says of a message besides its text.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageMarks {
    /// A client that has the message has everything up to here.
    pub offset: Option<Offset>,
    /// When the client shall come back.
    pub retry_ms: Option<u64>,
}

impl Framing {
    /// How the text stands that a client reads in the end.
    pub fn of_text(self) -> Framing {
        match self {
            Framing::Gzip(epoch) => Framing::Events(epoch),
            other => other,
        }
    }

    /// Appends a message of the server, which is not compressed.
    pub fn put_message(self, text: &[u8], MessageMarks { offset, retry_ms }: MessageMarks, out: &mut Vec<u8>) {
        match self {
            Framing::WebSocket => put_frame(out, Opcode::Text, text),
            Framing::Events(epoch) => {
                let id = offset.map(|offset| Cursor { epoch, offset });
                put_event(out, EventFields { name: op_of(text), id, retry_ms }, text);
            }
            Framing::Gzip(_) => {
                let mut event = Vec::new();
                self.of_text().put_message(text, MessageMarks { offset, retry_ms }, &mut event);
                put_stored(out, &event);
            }
            Framing::Lines => put_line(out, text),
        }
    }
}

/// One encoding of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Encoding {
    pub format: Format,
    pub framing: Framing,
    pub deflated: bool,
}

impl Encoding {
    pub const COUNT: usize = 8;
    /// One for each place; the epoch of events and the form are any.
    pub const ALL: [Encoding; Encoding::COUNT] = [
        Encoding::websocket(Format::Envelope, false),
        Encoding::websocket(Format::Envelope, true),
        Encoding::websocket(Format::Raw, false),
        Encoding::websocket(Format::Raw, true),
        Encoding { format: Format::Envelope, framing: Framing::Events(Epoch(0)), deflated: false },
        Encoding { format: Format::Envelope, framing: Framing::Lines, deflated: false },
        Encoding { format: Format::Envelope, framing: Framing::Gzip(Epoch(0)), deflated: false },
        Encoding::websocket(Format::Form(FormId(0)), false),
    ];

    pub const fn websocket(format: Format, deflated: bool) -> Encoding {
        Encoding { format, framing: Framing::WebSocket, deflated }
    }

    /// Its place among kinds of encodings. Streams of text have one format, and no compression; nor have forms.
    pub fn index(self) -> usize {
        match (self.framing, self.format, self.deflated) {
            (Framing::WebSocket, Format::Form(_), _) => 7,
            (Framing::WebSocket, Format::Envelope, false) => 0,
            (Framing::WebSocket, Format::Envelope, true) => 1,
            (Framing::WebSocket, Format::Raw, false) => 2,
            (Framing::WebSocket, Format::Raw, true) => 3,
            (Framing::Events(_), _, _) => 4,
            (Framing::Lines, _, _) => 5,
            (Framing::Gzip(_), _, _) => 6,
        }
    }

    /// Value of the `encoding` label in metrics.
    pub fn label(self) -> &'static str {
        ["envelope", "envelope_deflate", "raw", "raw_deflate", "events", "lines", "events_gzip", "form"][self.index()]
    }
}

/// A complete WireFrame; empty where there is nothing to send.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    pub bytes: Bytes,
    /// Size of the same WireFrame without compression, to count what was saved.
    pub plain_bytes: usize,
}

/// Longest header of an unmasked WireFrame.
const HEADER_BYTES_MAX: usize = 10;

/// Makes encodings, and counts how many it made. One per shard.
pub struct Encoder {
    deflater: Deflater,
    tokenizer: Tokenizer,
    text: Vec<u8>,
    /// None without a dialect.
    forms: Option<Arc<dyn Forms>>,
    made: [u64; Encoding::COUNT],
}

impl Encoder {
    /// `level` is zlib's, 1 to 9.
    pub fn new(level: u32) -> Encoder {
        Encoder {
            deflater: Deflater::new(level, WINDOW_BITS_MAX),
            tokenizer: Tokenizer::new(),
            text: Vec::new(),
            forms: None,
            made: [0; Encoding::COUNT],
        }
    }

    /// An encoder that knows these forms.
    pub fn with_forms(level: u32, forms: Option<Arc<dyn Forms>>) -> Encoder {
        Encoder { forms, ..Encoder::new(level) }
    }

    /// The tokens of a text, which may refer to these, the newest first.
    pub fn tokens(&mut self, text: &[u8], references: &[&[u8]]) -> Option<Tokens> {
        self.tokenizer.tokens(text, references)
    }

    pub fn encode(&mut self, encoding: Encoding, envelope: &Envelope<'_>) -> Encoded {
        self.made[encoding.index()] += 1;
        let payload = envelope.payload;
        let bytes: &[u8] = match encoding.format {
            Format::Raw => &payload.bytes,
            Format::Envelope => {
                self.text.clear();
                put_envelope(&mut self.text, envelope);
                &self.text
            }
            Format::Form(form) => match &self.forms {
                Some(forms) => {
                    self.text.clear();
                    forms.put(form, envelope, &mut self.text);
                    &self.text
                }
                None => &payload.bytes,
            },
        };
        match encoding.framing {
            Framing::WebSocket => {
                wire_frame(encoding.deflated, payload.opcode(encoding.format), bytes, &mut self.deflater)
            }
            Framing::Events(epoch) => {
                let id = Some(Cursor { epoch, offset: envelope.offset });
                Encoded::plain(|out| put_event(out, EventFields { id, ..EventFields::default() }, bytes))
            }
            Framing::Gzip(epoch) => {
                let id = Some(Cursor { epoch, offset: envelope.offset });
                let (mut event, mut out) = (Vec::new(), Vec::new());
                put_event(&mut event, EventFields { id, ..EventFields::default() }, bytes);
                put_deflated(&mut out, &event, &mut self.deflater);
                out.shrink_to_fit();
                Encoded { bytes: out.into(), plain_bytes: event.len() }
            }
            Framing::Lines => Encoded::plain(|out| put_line(out, bytes)),
        }
    }

    /// How many encodings of each kind were made since the last call.
    pub fn take_made(&mut self) -> [u64; Encoding::COUNT] {
        std::mem::take(&mut self.made)
    }
}

impl Encoded {
    /// Whether it is a compressed message (RSV1, RFC 7692 section 6).
    pub fn is_compressed(&self) -> bool {
        self.bytes.first().is_some_and(|first| first & 0x40 != 0)
    }

    /// The text of the message that it is; for an encoding without compression, which is not empty.
    pub fn text(&self) -> &[u8] {
        parts(&self.bytes).expect("an encoding is a whole frame").1
    }

    /// A message of the server in its place between the frames: never compressed, and only where the format has such
    /// messages.
    pub fn message(encoding: Encoding, offset: Offset, text: &[u8]) -> Encoded {
        if encoding.format != Format::Envelope {
            return Encoded::default();
        }
        let marks = MessageMarks { offset: Some(offset), retry_ms: None };
        Encoded::plain(|out| encoding.framing.put_message(text, marks, out))
    }

    fn plain(put: impl FnOnce(&mut Vec<u8>)) -> Encoded {
        let mut out = Vec::new();
        put(&mut out);
        out.shrink_to_fit();
        Encoded { plain_bytes: out.len(), bytes: out.into() }
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
mod tests;
