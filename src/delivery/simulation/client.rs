//! A client of the simulation: both ends of its connection, and what it makes of what it receives.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use flate2::{Decompress, FlushDecompress};
use serde_json::Value;

use self::receiver::Receiver;
use super::TOPICS;
use super::model::{Model, ModelKind, changed};
use crate::bus::topic_status::TopicStatusKind;
use crate::delivery::handoff::{SessionOptions, StreamKind};
use crate::delivery::session_id::SessionId;
use crate::delivery::transport::socket::Socket;
use crate::protocol::encoding::Format;
use crate::protocol::event_stream::GZIP_HEADER;
use crate::words::topic::Pattern;
use shared_deflate::negotiate::Agreement;

/// Inflates as any client would, and refuses each reference that the agreed window does not hold.
#[path = "../../../crates/shared-deflate/fuzz/src/receiver.rs"]
mod receiver;
#[path = "../../../crates/shared-deflate/fuzz/src/strict_inflater.rs"]
mod strict_inflater;

/// The tier of clients that have shown no token.
pub const ANONYMOUS: &str = "anonymous";

/// What comes before the messages of a stream.
pub const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// Both ends of a client's connection.
#[derive(Default)]
pub struct Pipe {
    pub to_server: VecDeque<u8>,
    pub to_client: Vec<u8>,
    /// Bytes the client's socket still takes.
    pub room: usize,
    pub broken: bool,
    /// The socket takes bytes and does not pass them on, as one with TLS may.
    pub holds_back: bool,
}

impl Pipe {
    pub fn new(room: usize) -> Rc<RefCell<Pipe>> {
        Rc::new(RefCell::new(Pipe { room, ..Pipe::default() }))
    }
}

#[derive(Clone)]
pub struct FakeSocket(pub Rc<RefCell<Pipe>>);

impl Read for FakeSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        if pipe.broken {
            return Ok(0);
        }
        if pipe.to_server.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        pipe.to_server.read(buffer)
    }
}

impl Write for FakeSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        if pipe.broken {
            return Err(ErrorKind::ConnectionReset.into());
        }
        assert!(!bytes.is_empty(), "nothing is never sent");
        let taken = bytes.len().min(pipe.room);
        if taken == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        pipe.room -= taken;
        pipe.to_client.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.0.borrow().holds_back { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }
}

impl Socket for FakeSocket {
    fn has_unsent(&self) -> bool {
        self.0.borrow().holds_back
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The text of a stream that was not read yet.
pub struct StreamText {
    /// Bytes of the head, and of gzip's own, that are still to come.
    head_bytes: usize,
    gzip_header_bytes: usize,
    inflater: Decompress,
    text: String,
}

impl Default for StreamText {
    fn default() -> StreamText {
        let (head_bytes, gzip_header_bytes) = (HEAD.len(), GZIP_HEADER.len());
        StreamText { head_bytes, gzip_header_bytes, inflater: Decompress::new(false), text: String::new() }
    }
}

impl StreamText {
    fn push(&mut self, bytes: &[u8], gzip: bool) {
        let mut rest = &bytes[bytes.len().min(self.head_bytes)..];
        self.head_bytes -= bytes.len() - rest.len();
        if !gzip {
            return self.text.push_str(std::str::from_utf8(rest).expect("the stream is ASCII"));
        }
        let header = rest.len().min(self.gzip_header_bytes);
        self.gzip_header_bytes -= header;
        rest = &rest[header..];
        let mut out = vec![0; 1 << 20];
        let (read, written) = (self.inflater.total_in(), self.inflater.total_out());
        self.inflater.decompress(rest, &mut out, FlushDecompress::None).expect("a deflate stream");
        assert_eq!(self.inflater.total_in() - read, rest.len() as u64, "there was room");
        let text = &out[..(self.inflater.total_out() - written) as usize];
        self.text.push_str(std::str::from_utf8(text).expect("the stream is ASCII"));
    }

    fn take_until(&mut self, end: &str) -> Option<String> {
        let bytes = self.text.find(end)?;
        let taken = self.text.drain(..bytes + end.len()).collect::<String>();
        Some(taken[..bytes].to_owned())
    }
}

/// What a client knows and expects.
pub struct SimulatedClient {
    pub id: SessionId,
    /// Of its session.
    pub number: u64,
    pub pipe: Rc<RefCell<Pipe>>,
    pub paced: bool,
    pub format: Format,
    pub deflate: Option<Agreement>,
    /// None: it speaks WebSocket.
    pub stream: Option<(StreamKind, bool)>,
    pub text: StreamText,
    /// The window is as agreed, and kept unless it was agreed otherwise.
    pub receiver: Receiver,
    /// Patterns in force, as the server has confirmed them, and since which offset.
    pub patterns: BTreeMap<String, u64>,
    pub known: HashMap<String, Known>,
    /// Ranges that the server reported as skipped, and the last reason.
    pub skipped: Vec<(u64, u64)>,
    pub skip_reason: String,
    /// Whether a command awaits its answer.
    pub asked: bool,
    /// Where to resume, kept as docs/PROTOCOL.md describes; none while that is unknown.
    pub cursor: Option<u64>,
    /// Its tier, as it was told; that of anonymous clients before.
    pub tier: String,
    pub subject: Option<String>,
    /// When it must be sent nothing more; none if its token does not end.
    pub ends_ms: Option<u64>,
    /// What its wildcards are narrowed to, as it was told; none where all topics are allowed.
    within: Option<Vec<Vec<Pattern>>>,
    /// Since which offset it may have a topic that it might not have before.
    pub topic_since: HashMap<&'static str, u64>,
    /// The server has ended the session.
    pub is_closed: bool,
    has_subscribed: bool,
    /// Offset of the last `subscribed`, if it was not the connection's first.
    added_at: u64,
}

/// What a client knows of one topic.
#[derive(Debug, Default)]
pub struct Known {
    /// Offsets received, statuses included, in the order of arrival.
    pub seen: Vec<u64>,
    /// The last of them that was no status.
    pub data: u64,
    /// The folded state of snapshot and deltas; none before a snapshot.
    pub state: Option<u32>,
    /// The newest snapshot or delta of `state`.
    last: u64,
    /// The newest offset that supersedes everything before it: a snapshot, a value, or a report that the snapshot is lost.
    pub base: u64,
    /// The server has reported the snapshot as lost; deltas that follow have none.
    pub lost_snapshot: bool,
    /// The `stale` or `refused` that holds.
    pub mark: Option<u64>,
}

impl SimulatedClient {
    pub fn new(id: SessionId, pipe: Rc<RefCell<Pipe>>, options: &SessionOptions) -> SimulatedClient {
        let mut patterns = BTreeMap::new();
        if options.format == Format::Raw {
            // There will be no answer.
            patterns.extend(options.patterns.iter().map(|pattern| (pattern.to_string(), 0)));
        }
        SimulatedClient {
            id,
            number: 0,
            pipe,
            paced: options.every.is_some(),
            format: options.format,
            deflate: options.deflate,
            stream: options.stream.as_ref().map(|stream| (stream.kind, stream.gzip)),
            text: StreamText::default(),
            receiver: receiver(options.deflate),
            asked: options.format == Format::Envelope && !options.patterns.is_empty(),
            patterns,
            known: HashMap::new(),
            skipped: Vec::new(),
            skip_reason: String::new(),
            cursor: Some(0),
            tier: ANONYMOUS.into(),
            subject: None,
            ends_ms: None,
            within: None,
            topic_since: HashMap::new(),
            is_closed: false,
            has_subscribed: false,
            added_at: 0,
        }
    }

    pub fn wants(&self, topic: &str) -> bool {
        let is_allowed = || {
            let lists = self.within.iter().flatten();
            lists.into_iter().all(|list| list.iter().any(|pattern| pattern.matches(topic)))
        };
        self.patterns.keys().any(|pattern| matches(pattern, topic) && (pattern == topic || is_allowed()))
    }

    /// Decodes what has arrived, as any client would.
    pub fn receive(&mut self, model: &Model) {
        match self.stream {
            None => self.receive_frames(model),
            Some(kind) => self.receive_stream(kind, model),
        }
    }

    /// Whole events or lines; what is not whole stays.
    fn receive_stream(&mut self, (kind, gzip): (StreamKind, bool), model: &Model) {
        let bytes = std::mem::take(&mut self.pipe.borrow_mut().to_client);
        self.text.push(&bytes, gzip);
        let end = match kind {
            StreamKind::Events => "\n\n",
            StreamKind::Lines => "\n",
        };
        while let Some(event) = self.text.take_until(end) {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
            let data = if kind == StreamKind::Lines { Some(&*event) } else { field("data: ") };
            let Some(data) = data else {
                assert!(field("retry: ").is_some(), "{event}");
                continue;
            };
            let message: Value = serde_json::from_str(data).expect("JSON");
            if kind == StreamKind::Events {
                assert_eq!(field("event: "), message["op"].as_str(), "{event}");
            }
            self.receive_message(&message, model);
            if let Some(id) = field("id: ") {
                let (_, offset) = id.split_once(':').expect("a cursor");
                // As a browser does: the newest, not the greatest.
                self.cursor = Some(offset.parse().expect("an offset"));
            }
        }
    }

    fn receive_frames(&mut self, model: &Model) {
        let bytes = std::mem::take(&mut self.pipe.borrow_mut().to_client);
        let mut rest = bytes.as_slice();
        while let Some((first, payload, tail)) = split_frame(rest) {
            rest = tail;
            self.is_closed |= first & 0x0F == 0x8;
            if first & 0x0F == 0x1 {
                let inflated = if first & 0x40 != 0 { self.inflate(payload) } else { payload.to_vec() };
                let message = serde_json::from_slice(&inflated).expect("JSON");
                match self.format {
                    Format::Envelope => self.receive_message(&message, model),
                    Format::Raw | Format::Form(_) => self.receive_raw(&message, model),
                }
            }
        }
        let kept = rest.to_vec();
        self.pipe.borrow_mut().to_client = kept;
    }

    fn inflate(&mut self, payload: &[u8]) -> Vec<u8> {
        if self.deflate.expect("compression was agreed on").server_no_context_takeover {
            self.receiver.reset();
        }
        const MESSAGE_BYTES_MAX: usize = 4096;
        self.receiver.read(payload, MESSAGE_BYTES_MAX)
    }

    fn receive_message(&mut self, message: &Value, model: &Model) {
        let number = |name: &str| message[name].as_u64().expect("a number");
        let topic = message["topic"].as_str().or_else(|| message["topics"][0].as_str()).unwrap_or_default();
        match message["op"].as_str() {
            None => self.receive_frame(topic, message, model),
            Some("gap" | "stale" | "live" | "refused") if message.get("offset").is_some() => {
                self.receive_status(topic, message, model);
            }
            Some("subscribed" | "unsubscribed") => self.receive_answer(message),
            Some("error") => self.asked = false,
            Some("heartbeat") => self.move_cursor(number("offset"), self.added_at),
            Some("skipped") => {
                self.skipped.push((number("from"), number("to")));
                self.skip_reason = message["reason"].as_str().expect("a reason").to_string();
            }
            Some("authenticated") => self.receive_identity(message, model),
            Some("close") => self.is_closed = true,
            Some("welcome" | "token_expiring" | "goodbye") => {}
            Some(other) => panic!("unexpected {other}"),
        }
    }

    fn receive_frame(&mut self, topic: &str, message: &Value, model: &Model) {
        let (offset, data) = (message["offset"].as_u64().expect("an offset"), &message["data"]);
        self.see(topic, offset, model);
        assert_eq!(data["n"].as_u64(), Some(offset), "a frame carries its own payload");
        let known = self.known.get_mut(topic).expect("it was seen just now");
        (known.data, known.mark) = (offset, None);
        let item = model.item(offset);
        let small = |name: &str| u32::try_from(data[name].as_u64().expect("a number")).expect("a small one");
        match (message["kind"].as_str(), item.what) {
            (None, ModelKind::Transient) => {}
            (None, ModelKind::Value) => *known = known.superseded(None, offset),
            (Some("snapshot"), ModelKind::Snapshot | ModelKind::Delta) => {
                let state = Some(small("state"));
                assert_eq!(state, item.state, "{topic} {offset}: a snapshot is the whole value");
                *known = known.superseded(state, offset);
            }
            // Deltas after a gap with `forgotten` are not applied to what was before.
            (Some("delta"), ModelKind::Delta) => match known.state.filter(|_| known.last > item.began) {
                Some(state) => {
                    assert_eq!(Some(known.last), data["prev"].as_u64(), "{topic} {offset}: a delta is missing");
                    known.state = Some(changed(state, small("add")));
                    known.last = offset;
                    assert_eq!(known.state, item.state, "{topic} {offset}");
                }
                None => {
                    let may_lack = known.lost_snapshot || item.state.is_none();
                    assert!(may_lack, "{topic} {offset}: a delta without its snapshot");
                    known.state = None;
                }
            },
            other => panic!("{topic} {offset} arrives as {other:?}"),
        }
        self.move_cursor(offset, self.added_at + 1);
    }

    fn receive_status(&mut self, topic: &str, message: &Value, model: &Model) {
        let offset = message["offset"].as_u64().expect("an offset");
        self.see(topic, offset, model);
        let item = model.item(offset);
        let known = self.known.get_mut(topic).expect("it was seen just now");
        match (message["op"].as_str().expect("an op"), item.what) {
            ("gap", _) if message["reason"] == "overflow" => {
                assert!(item.overflowed, "{topic} {offset} is no overflow");
                *known = known.superseded(None, offset);
                known.lost_snapshot = true;
                known.mark = None;
            }
            ("gap", ModelKind::Status(TopicStatusKind::Gap)) => {
                let expected = (message["reason"] != "forgotten").then_some(offset);
                assert_eq!(message["missed"].as_u64(), expected);
            }
            ("stale", ModelKind::Status(TopicStatusKind::Stale))
            | ("refused", ModelKind::Status(TopicStatusKind::Refused)) => {
                known.mark = Some(offset);
            }
            ("live", ModelKind::Status(TopicStatusKind::Live)) => known.mark = None,
            other => panic!("{topic} {offset} arrives as {other:?}"),
        }
        self.move_cursor(offset, self.added_at + 1);
    }

    /// A raw client knows no more than the payloads hold.
    fn receive_raw(&mut self, data: &Value, model: &Model) {
        let (topic, offset) = (data["t"].as_str().expect("a payload"), data["n"].as_u64().expect("a number"));
        self.see(topic, offset, model);
        let known = self.known.get_mut(topic).expect("it was seen just now");
        known.data = offset;
        known.state = data["state"].as_u64().and_then(|state| u32::try_from(state).ok());
    }

    fn receive_identity(&mut self, message: &Value, model: &Model) {
        self.asked = false;
        self.tier = message["tier"].as_str().expect("a tier").into();
        self.subject = message["sub"].as_str().map(String::from);
        self.ends_ms = message["expires_ms"].as_u64().map(|left_ms| model.now_ms + left_ms);
        if self.patterns.is_empty() {
            self.within = within(message);
        }
    }

    fn see(&mut self, topic: &str, offset: u64, model: &Model) {
        let Model { now_ms, revoked, .. } = model;
        assert!(model.allows(&self.tier, topic), "{topic} is not for the tier `{}`", self.tier);
        assert!(self.ends_ms.is_none_or(|ends_ms| *now_ms <= ends_ms), "{topic} {offset}: the token has ended");
        assert!(self.subject.as_ref().is_none_or(|subject| !revoked.contains(subject)), "the subject is revoked");
        assert!(self.asked || self.wants(topic), "{topic} is wanted");
        assert_eq!(model.item(offset).topic, topic, "{offset} is of its topic");
        let seen = &mut self.known.entry(topic.to_string()).or_default().seen;
        assert!(seen.last().is_none_or(|last| *last < offset), "{topic} {offset} comes after {seen:?}");
        seen.push(offset);
    }

    fn receive_answer(&mut self, message: &Value) {
        self.asked = false;
        let offset = message["offset"].as_u64().expect("an offset");
        let topics = message["topics"].as_array().expect("topics");
        let topics: Vec<&str> = topics.iter().filter_map(Value::as_str).collect();
        if self.has_subscribed && !topics.iter().all(|topic| self.patterns.contains_key(*topic)) {
            (self.cursor, self.added_at) = (None, offset);
        }
        if !self.has_subscribed {
            // A heartbeat before speaks of no topics.
            (self.cursor, self.has_subscribed) = (Some(0), true);
        }
        let before: Vec<&'static str> =
            TOPICS.into_iter().map(|(topic, _)| topic).filter(|it| self.wants(it)).collect();
        self.patterns.retain(|pattern, _| topics.contains(&pattern.as_str()));
        for topic in &topics {
            self.patterns.entry(topic.to_string()).or_insert(offset);
        }
        if topics.iter().any(|topic| topic.contains(['*', '>'])) {
            self.within = within(message);
        }
        // A topic that was left and is subscribed to again, or is allowed again, starts over.
        for (topic, _) in TOPICS {
            match (before.contains(&topic), self.wants(topic)) {
                (false, true) => drop(self.topic_since.insert(topic, offset)),
                (true, true) => {}
                (_, false) => drop(self.known.remove(topic)),
            }
        }
    }

    /// After a further subscription an offset is a cursor only from `valid_from` on.
    fn move_cursor(&mut self, offset: u64, valid_from: u64) {
        if offset >= valid_from || self.cursor.is_some() {
            self.cursor = self.cursor.max(Some(offset));
        }
    }
}

impl Known {
    /// The same after everything before `offset` was superseded.
    fn superseded(&mut self, state: Option<u32>, offset: u64) -> Known {
        Known { state, last: offset, base: offset, lost_snapshot: false, ..std::mem::take(self) }
    }
}

/// What a message says that wildcards are narrowed to.
fn within(message: &Value) -> Option<Vec<Vec<Pattern>>> {
    let list = |name: &str| {
        let texts = message.get(name)?.as_array().expect("a list").iter().filter_map(Value::as_str);
        Some(texts.map(|text| Pattern::parse(text).expect("a pattern")).collect::<Vec<Pattern>>())
    };
    Some(std::iter::once(list("within")?).chain(list("named")).collect())
}

pub fn receiver(deflate: Option<Agreement>) -> Receiver {
    Receiver::new(deflate.map_or(15, Agreement::window_bits))
}

pub fn matches(pattern: &str, topic: &str) -> bool {
    Pattern::parse(pattern).expect("a pattern").matches(topic)
}

/// The first byte, the payload, and what follows the first WireFrame of `bytes`, if it is whole.
pub fn split_frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (length, header) = match *bytes.get(1)? {
        126 => (usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])), 4),
        127 => (u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize, 10),
        short => (usize::from(short), 2),
    };
    let payload = bytes.get(header..header + length)?;
    Some((bytes[0], payload, &bytes[header + length..]))
}
