//! A venue under the test's control, and an intake that is connected to it.
//!
//! The venue is a real WebSocket server on the loopback. What it does wrong is counted where it does it, and the test says at its end
//! what it must have been: a fault that never happened proves nothing.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanline::bus::feed_state::StaleReason;
use fanline::intake::upstream::Settings;
use fanline::profile::{Profile, check};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderMap;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use super::intake::{self, Intake, PATIENCE};

type Faults = Arc<Mutex<BTreeMap<&'static str, u64>>>;

/// What a venue has done wrong so far, by the fault's name.
#[derive(Clone, Default)]
pub struct Record(Faults);

impl Record {
    pub fn add(&self, fault: &'static str) {
        *self.0.lock().expect("no holder panics").entry(fault).or_default() += 1;
    }

    /// These faults have happened so often, and no others.
    pub fn assert(&self, expected: &[(&'static str, u64)]) {
        let found = self.0.lock().expect("no holder panics").clone();
        assert_eq!(found, expected.iter().copied().collect(), "faults of the venue");
    }
}

/// The venue's door.
pub struct ScriptedFeed {
    listener: TcpListener,
    pub record: Record,
}

impl ScriptedFeed {
    pub async fn open() -> ScriptedFeed {
        ScriptedFeed {
            listener: TcpListener::bind("127.0.0.1:0").await.expect("a free port"),
            record: Record::default(),
        }
    }

    pub fn ws(&self, path: &str) -> String {
        format!("ws://{}{path}", self.listener.local_addr().expect("bound"))
    }

    /// Whether somebody stands at the door.
    pub async fn is_called(&self, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.listener.accept()).await.is_ok()
    }

    pub async fn accept(&self) -> Caller {
        let tcp = self.accept_tcp().await;
        let (mut uri, mut headers) = (String::new(), HeaderMap::new());
        let look = Look { uri: &mut uri, headers: &mut headers };
        let socket = accept_hdr_async(tcp, look).await.expect("a handshake");
        Caller { socket, uri, headers, record: self.record.clone() }
    }

    /// Answers the next handshake, or another request, with this instead. Gives the request.
    pub async fn turn_away(&self, fault: &'static str, answer: &str) -> String {
        let request = self.answer(|_| answer.to_string()).await;
        self.record.add(fault);
        request
    }

    /// Answers the next request. Gives it.
    pub async fn answer(&self, answer: impl FnOnce(&str) -> String) -> String {
        let mut tcp = self.accept_tcp().await;
        let mut request = [0; 4096];
        let bytes = tcp.read(&mut request).await.expect("a request");
        assert!(bytes > 0);
        let request = String::from_utf8_lossy(&request[..bytes]).into_owned();
        let answer = answer(&request);
        // One that gets more than it wants may hang up.
        let said = tcp.write_all(answer.as_bytes()).await;
        assert!(said.is_ok() || answer.len() > 4096, "{said:?}");
        request
    }

    async fn accept_tcp(&self) -> TcpStream {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await.expect("a connection in time");
        let (tcp, _) = accepted.expect("a connection");
        tcp.set_nodelay(true).expect("a TCP option");
        tcp
    }
}

/// Reads what a caller asks for.
struct Look<'a> {
    uri: &'a mut String,
    headers: &'a mut HeaderMap,
}

impl Callback for Look<'_> {
    fn on_request(self, request: &Request, response: Response) -> Result<Response, ErrorResponse> {
        *self.uri = request.uri().to_string();
        *self.headers = request.headers().clone();
        Ok(response)
    }
}

/// One connection to the venue, seen from there.
pub struct Caller {
    socket: WebSocketStream<TcpStream>,
    /// Path and query that were asked for.
    pub uri: String,
    headers: HeaderMap,
    record: Record,
}

impl Caller {
    /// What the caller said in this header of the handshake.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    /// The next text that the caller sends.
    pub async fn hear(&mut self) -> String {
        loop {
            match self.next().await {
                Some(Ok(Message::Text(text))) => return text.to_string(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("expected a text from the caller, found {other:?}"),
            }
        }
    }

    pub async fn hear_json(&mut self) -> Value {
        let text = self.hear().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("expected JSON ({error}): {text}"))
    }

    pub async fn say(&mut self, message: impl Into<Message>) {
        self.socket.send(message.into()).await.expect("the caller listens");
    }

    /// Says something that a good venue would not say, or not now.
    pub async fn misbehave(&mut self, fault: &'static str, message: impl Into<Message>) {
        self.say(message).await;
        self.record.add(fault);
    }

    /// As `misbehave`, with something that the caller hangs up on before it was said to its end.
    pub async fn overdo(mut self, fault: &'static str, message: impl Into<Message>) {
        self.record.add(fault);
        let said = self.socket.send(message.into()).await;
        assert!(said.is_ok() || matches!(said, Err(Error::Io(_))), "{said:?}");
        self.ended().await;
    }

    /// Does not say what a good venue would.
    pub fn omit(&mut self, fault: &'static str) {
        self.record.add(fault);
    }

    pub async fn close(mut self, fault: &'static str, code: u16, reason: &'static str) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        self.socket.close(Some(frame)).await.expect("the caller listens");
        self.record.add(fault);
        self.ended().await;
    }

    /// Ends the connection without a word.
    pub fn cut(self, fault: &'static str) {
        self.record.add(fault);
    }

    /// Waits until the caller has left; what it says until then is given.
    pub async fn ended(mut self) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            match self.next().await {
                Some(Ok(Message::Text(text))) => said.push(text.to_string()),
                Some(Ok(Message::Close(_))) | None => return said,
                Some(Err(Error::ConnectionClosed | Error::Protocol(_) | Error::Io(_))) => return said,
                Some(Ok(_)) => {}
                Some(Err(error)) => panic!("expected the caller to leave, found {error}"),
            }
        }
    }

    /// The caller says nothing of its own before it has answered a WebSocket ping.
    pub async fn expect_silence(&mut self) {
        self.say(Message::Ping("silence".into())).await;
        loop {
            match self.next().await {
                Some(Ok(Message::Pong(found))) if found == "silence" => return,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("expected nothing but a pong, found {other:?}"),
            }
        }
    }

    async fn next(&mut self) -> Option<Result<Message, Error>> {
        tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a message from the caller in time")
    }
}

/// A venue and the intake that listens to it.
pub struct IntakeHarness {
    pub venue: ScriptedFeed,
    intake: Intake,
}

impl Deref for IntakeHarness {
    type Target = Intake;

    fn deref(&self) -> &Intake {
        &self.intake
    }
}

impl IntakeHarness {
    /// `profile` is a profile's text, or the name of a built-in one.
    pub async fn open(profile: &str, items: &[&str]) -> IntakeHarness {
        IntakeHarness::open_with(profile, items, "/feed", |_| {}).await
    }

    pub async fn open_with(
        profile: &str,
        items: &[&str],
        path: &str,
        change: impl FnOnce(&mut Settings),
    ) -> IntakeHarness {
        let venue = ScriptedFeed::open().await;
        let profile = match Profile::built_in(profile) {
            Some(profile) => profile,
            None => check(profile, "test.toml").unwrap_or_else(|error| panic!("{error}")),
        };
        let mut settings = intake::settings(&venue.ws(path), profile, items);
        change(&mut settings);
        IntakeHarness { venue, intake: Intake::start(settings) }
    }

    pub async fn accept(&self) -> Caller {
        self.venue.accept().await
    }

    /// Waits until so many frames were published, and gives them all: topic and payload.
    pub async fn until_frames(&self, count: usize) -> Vec<(String, String)> {
        self.until(&format!("{count} frames"), |_| self.frames().len() >= count).await;
        let frames = self.frames();
        assert_eq!(frames.len(), count, "nothing else was published: {frames:#?}");
        frames
    }

    /// Waits for a note about a topic: `gap`, `stale`, `live`, `refused`. Returns it.
    pub async fn until_note(&self, op: &str, topic: &str) -> Value {
        let told = || self.notes().into_iter().find(|(of, note)| of == topic && note["op"] == op);
        self.until(&format!("`{op}` of {topic}"), |_| told().is_some()).await;
        told().expect("it was there").1
    }

    /// All notes so far, with the topics that they are about.
    pub fn notes(&self) -> Vec<(String, Value)> {
        let notes = self.published().into_iter().filter(|(_, text)| is_status(text));
        notes.map(|(topic, text)| (topic, serde_json::from_str(&text).expect("JSON"))).collect()
    }

    /// All frames so far, as topic and payload.
    pub fn frames(&self) -> Vec<(String, String)> {
        self.published().into_iter().filter(|(_, text)| !is_status(text)).collect()
    }

    /// Waits until a line of the metrics is this one.
    pub async fn until_metric(&self, line: &str) {
        const INTERVAL: Duration = Duration::from_millis(5);
        let there = || self.metrics().lines().any(|found| found == line);
        let waiting = async {
            while !there() {
                tokio::time::sleep(INTERVAL).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "expected `{line}` in\n{}", self.metrics());
    }

    /// Stops the intake, which must still have been there, and checks what the venue has done wrong.
    pub async fn end(self, faults: &[(&'static str, u64)]) {
        self.venue.record.assert(faults);
        let ended = self.intake.end().await;
        assert!(ended.is_ok(), "{ended:?}");
    }

    /// Waits until the intake has given up by itself, and gives the reason.
    pub async fn given_up(self, faults: &[(&'static str, u64)]) -> String {
        self.until_stale(StaleReason::UpstreamDown, "refused permanently").await;
        let ended = self.intake.ended().await;
        self.venue.record.assert(faults);
        ended.expect_err("it is for good").to_string()
    }
}

fn is_status(text: &str) -> bool {
    text.starts_with(r#"{"op":"#)
}
