//! What clients say to the upstream, and how the answers come back to them.
//!
//! An answer comes by the shard's mailbox, for a seat and the number of an ask. Numbers are never used again, so an
//! answer that comes late cannot reach whoever got the seat meanwhile. It is written in the session's place between
//! two chunks, uncompressed, also to a session that is behind. What waits for that is bounded: by `ASKS_MAX` answers
//! for each session, and by `HELD_BYTES_MAX` in all. What was asked is bounded likewise, until its answer has come.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::{RawValue, to_raw_value};

use crate::bus::demand::requests::{AnswerTo, ClientRequest, RequestAnswer, RequestFailure, RequestKind, Requests};
use crate::delivery::catch_up::path::Compression;
use crate::delivery::lanes::lane::SessionId;
use crate::delivery::sessions::session::Socket;
use crate::delivery::sessions::subscriptions::CommandEffect;
use crate::delivery::shard::Shard;
use crate::protocol::command::{CommandId, CommandRefusal};
use crate::protocol::encoding::Format;
use crate::protocol::server_message::ServerMessage;
use crate::words::stamp::Stamp;

/// Requests of one session that are not answered, or whose answer is not wholly written.
pub(in crate::delivery) const ASKS_MAX: usize = 8;
/// Responses of one shard that are not wholly written, in bytes; a further one becomes the error `busy`.
const HELD_BYTES_MAX: usize = 16 << 20;
/// What the asks of one shard say that are not answered, in bytes; a further one is refused as `busy`.
const OPEN_BYTES_MAX: usize = 16 << 20;

/// An answer on its way to the shard whose client asked.
pub struct Reply {
    session: SessionId,
    number: u64,
    /// Of the ask.
    bytes: usize,
    answer: RequestAnswer,
}

/// Puts a reply into the shard's mailbox and wakes the shard; called from any thread.
pub type Mailbox = Arc<dyn Fn(Reply) + Send + Sync>;

/// A shard's end of the asks.
pub struct PendingRequests {
    asks: Requests,
    mailbox: Mailbox,
    /// Of the last ask; counts up.
    number: u64,
    /// Answers not wholly written, in bytes.
    held_bytes: usize,
    /// Requests not answered, in bytes; also those of sessions that have ended.
    open_bytes: usize,
}

/// What one session has asked.
#[derive(Default)]
pub struct SessionRequests {
    open: Vec<OpenRequest>,
    /// Answers as WireFrames; those not wholly written, oldest first.
    answers: VecDeque<Bytes>,
    /// The first of `answers` is what the session writes now.
    writing: bool,
    /// Requests since the sweep last came by, about a second ago.
    asked: u32,
}

struct OpenRequest {
    number: u64,
    id: Option<CommandId>,
}

impl PendingRequests {
    pub fn new(asks: Requests, mailbox: Mailbox) -> PendingRequests {
        PendingRequests { asks, mailbox, number: 0, held_bytes: 0, open_bytes: 0 }
    }
}

impl SessionRequests {
    /// A second has passed. True if there is nothing left to remember.
    pub fn pass_second(&mut self) -> bool {
        self.asked = 0;
        self.open.is_empty() && self.answers.is_empty()
    }

    fn held_bytes(&self) -> usize {
        self.answers.iter().map(Bytes::len).sum()
    }
}

impl<S: Socket> Shard<S> {
    /// Passes on what a client says to the upstream; the answer comes later.
    pub(in crate::delivery) fn ask(
        &mut self,
        id: SessionId,
        by: Option<&CommandId>,
        kind: RequestKind,
    ) -> Result<CommandEffect, CommandRefusal> {
        if let Err(refusal) = self.may_ask(id, &kind) {
            self.meters.asked(refusal.code);
            return Err(refusal);
        }
        self.desk.number += 1;
        let number = self.desk.number;
        let asking = self.sessions[id.0].asking.get_or_insert_default();
        asking.asked += 1;
        asking.open.push(OpenRequest { number, id: by.cloned() });
        let mailbox = self.desk.mailbox.clone();
        let bytes = bytes_of(&kind);
        self.desk.open_bytes += bytes;
        let answer = AnswerTo::new(move |answer| mailbox(Reply { session: id, number, bytes, answer }));
        self.desk.asks.put(ClientRequest { kind, answer });
        Ok(CommandEffect::Asked)
    }

    fn may_ask(&self, id: SessionId, kind: &RequestKind) -> Result<(), CommandRefusal> {
        let rules = self.desk.asks.rules();
        match kind {
            RequestKind::Send { topic, .. } if !rules.may_send(topic) => {
                let message = format!("expected a topic that clients may send to (upstream.send), found `{topic}`");
                return Err(CommandRefusal::new("forbidden", message));
            }
            RequestKind::Request { .. } if !rules.request => {
                let message = "expected a server that passes requests on (upstream.request), found one that does not";
                return Err(CommandRefusal::new("forbidden", message));
            }
            RequestKind::Send { .. } | RequestKind::Request { .. } => {}
        }
        if self.desk.open_bytes + bytes_of(kind) > OPEN_BYTES_MAX {
            let message = format!(
                "expected `send` and `request` of at most {OPEN_BYTES_MAX} bytes that wait for an answer, of all clients \
                 together, found more; send it again later"
            );
            return Err(CommandRefusal::new(RequestFailure::Busy.label(), message));
        }
        let Some(asking) = &self.sessions[id.0].asking else { return Ok(()) };
        let max = self.settings.limits.client_requests_per_second_max;
        if asking.asked >= max {
            let message = format!(
                "expected at most {max} of `send` and `request` in a second (limits.client_requests_per_second_max), \
                 found one more; send it again later"
            );
            return Err(CommandRefusal::new("too_fast", message));
        }
        if asking.open.len() + asking.answers.len() >= ASKS_MAX {
            let message = format!("expected at most {ASKS_MAX} of `send` and `request` without an answer, found more");
            return Err(CommandRefusal::new(RequestFailure::Busy.label(), message));
        }
        Ok(())
    }

    /// Takes an answer from the mailbox. One for a session that is gone is dropped.
    pub fn answered(&mut self, reply: Reply, now: Stamp) {
        let Reply { session: id, number, bytes, mut answer } = reply;
        self.desk.open_bytes -= bytes;
        let Some(session) = self.sessions.get_mut(id.0) else { return self.meters.asked(result(&answer)) };
        let open = session.asking.as_mut().and_then(|asking| {
            let place = asking.open.iter().position(|ask| ask.number == number)?;
            Some((asking.open.remove(place), asking))
        });
        let Some((ask, asking)) = open.filter(|_| session.format == Format::Envelope) else {
            return self.meters.asked(result(&answer));
        };
        if let RequestAnswer::Response(text) = &answer
            && self.desk.held_bytes + text.len() > HELD_BYTES_MAX
        {
            let message = format!("expected answers of at most {HELD_BYTES_MAX} bytes that clients have not read yet");
            answer = RequestAnswer::Failed(RequestFailure::Busy, message);
        }
        self.meters.asked(result(&answer));
        let mut out = Vec::new();
        put_answer(ask.id.as_ref(), &answer, &mut out);
        self.desk.held_bytes += out.len();
        asking.answers.push_back(out.into());
        if session.takes_commands() {
            self.write_answers(id, now);
        } else {
            self.enqueue(id);
        }
    }

    /// Writes the answers to a session that is in step and has nothing unsent.
    fn write_answers(&mut self, id: SessionId, now: Stamp) {
        while self.next_answer(id) {
            if !self.flush(id, now) {
                if self.sessions.contains(id.0) {
                    self.fall_behind(id);
                }
                return;
            }
        }
    }

    /// Makes the next answer what the session writes, if there is one. The session must have nothing unsent.
    pub(in crate::delivery) fn next_answer(&mut self, id: SessionId) -> bool {
        let session = &mut self.sessions[id.0];
        let Some(asking) = &mut session.asking else { return false };
        if std::mem::take(&mut asking.writing)
            && let Some(written) = asking.answers.pop_front()
        {
            self.desk.held_bytes -= written.len();
        }
        let Some(answer) = asking.answers.front() else { return false };
        (session.unsent, session.unsent_form) = (answer.clone(), Compression::Plain);
        asking.writing = true;
        true
    }

    /// Forgets what the session has asked; answers that still come are dropped.
    pub(in crate::delivery) fn forget_asks(&mut self, id: SessionId) {
        if let Some(asking) = self.sessions[id.0].asking.take() {
            self.desk.held_bytes -= asking.held_bytes();
        }
    }
}

fn bytes_of(kind: &RequestKind) -> usize {
    match kind {
        RequestKind::Send { topic, data } => topic.len() + data.len(),
        RequestKind::Request { data, .. } => data.len(),
    }
}

fn put_answer(id: Option<&CommandId>, answer: &RequestAnswer, out: &mut Vec<u8>) {
    match answer {
        RequestAnswer::Sent => ServerMessage::Sent { id }.put(out),
        RequestAnswer::Response(text) => {
            let text = String::from_utf8_lossy(text);
            match serde_json::from_str::<&RawValue>(&text) {
                Ok(data) => ServerMessage::Response { id, data }.put(out),
                Err(_) => {
                    let data = to_raw_value(&text).expect("a string always serialises");
                    ServerMessage::Response { id, data: &data }.put(out);
                }
            }
        }
        RequestAnswer::Failed(failure, message) => ServerMessage::Error { id, code: failure.label(), message }.put(out),
    }
}

/// Value of the `result` label in metrics.
fn result(answer: &RequestAnswer) -> &'static str {
    match answer {
        RequestAnswer::Sent => "sent",
        RequestAnswer::Response(_) => "response",
        RequestAnswer::Failed(failure, _) => failure.label(),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use serde_json::{Value, json};

    use super::*;
    use crate::delivery::handoff::SessionOptions;
    use crate::delivery::harness::{Harness, HarnessClient};

    const SEND: &str = r##"{"op":"send","id":1,"topic":"chat.#rust","data":"hi"}"##;
    const REQUEST: &str = r#"{"op":"request","id":"q","data":{"a": 1}}"#;
    const SUBSCRIBE: &str = r#"{"op":"subscribe","topics":["a.>"]}"#;

    fn taken(stage: &Harness) -> ClientRequest {
        stage.queue.next().now_or_never().flatten().expect("an ask waits")
    }

    fn codes(messages: &[Value]) -> Vec<&str> {
        messages.iter().map(|message| message["code"].as_str().or(message["op"].as_str()).expect("an op")).collect()
    }

    #[test]
    fn what_a_client_says_reaches_the_upstream_as_it_was_written() {
        let mut stage = Harness::open();
        let puppet = stage.join();
        assert!(stage.ask(&puppet, SEND).is_empty(), "the answer comes later");
        let ask = taken(&stage);
        assert_eq!(ask.kind, RequestKind::Send { topic: "chat.#rust".into(), data: "\"hi\"".into() });
        ask.answer.give(RequestAnswer::Sent);
        stage.settle();
        assert_eq!(puppet.hear(), [json!({"op": "sent", "id": 1})]);

        for (answer, data) in [(r#"{"p": 1.50}"#, json!({"p": 1.5})), ("not JSON", json!("not JSON"))] {
            assert!(stage.ask(&puppet, REQUEST).is_empty());
            let ask = taken(&stage);
            let RequestKind::Request { data: text, .. } = &ask.kind else {
                panic!("expected a request, found {ask:?}")
            };
            assert_eq!(&**text, "{\"a\": 1}");
            ask.answer.give(RequestAnswer::Response(answer.into()));
            stage.settle();
            assert_eq!(puppet.hear(), [json!({"op": "response", "id": "q", "data": data})]);
        }
    }

    #[test]
    fn an_answer_reaches_the_asker_and_nobody_who_has_its_seat_later() {
        let mut stage = Harness::open();
        let (asker, other) = (stage.join(), stage.join());
        stage.say(&asker, SEND);
        stage.say(&other, REQUEST);
        let (first, second) = (taken(&stage), taken(&stage));
        second.answer.give(RequestAnswer::Response("7".into()));
        stage.settle();
        assert_eq!(codes(&other.hear()), ["response"]);
        assert!(asker.hear().is_empty());

        stage.vanish(&asker);
        let newcomer = stage.join();
        assert_eq!(newcomer.id, asker.id, "the seat is used again");
        stage.say(&newcomer, SEND);
        first.answer.give(RequestAnswer::Failed(RequestFailure::NotSent, "too late".into()));
        stage.settle();
        assert!(newcomer.hear().is_empty());
        taken(&stage).answer.give(RequestAnswer::Sent);
        stage.settle();
        assert_eq!(codes(&newcomer.hear()), ["sent"]);
        assert!(other.hear().is_empty() && asker.hear().is_empty());
    }

    #[test]
    fn an_ask_that_is_dropped_or_taken_by_nobody_is_answered() {
        let mut stage = Harness::open();
        let puppet = stage.join();
        stage.say(&puppet, SEND);
        drop(taken(&stage));
        stage.settle();
        assert_eq!(codes(&puppet.hear()), ["unanswered"]);
        let (_, another) = crate::bus::demand::requests::open(Default::default());
        stage.queue = another;
        assert_eq!(codes(&stage.ask(&puppet, REQUEST)), ["upstream_down"]);
    }

    #[test]
    fn clients_may_ask_what_is_allowed_and_not_too_much() {
        let mut stage = Harness::open();
        let puppet = stage.join();
        let elsewhere = r#"{"op":"send","id":5,"topic":"orders","data":1}"#;
        let refused = stage.ask(&puppet, elsewhere);
        assert_eq!((&refused[0]["code"], &refused[0]["id"]), (&json!("forbidden"), &json!(5)));

        for _ in 0..ASKS_MAX {
            assert!(stage.ask(&puppet, SEND).is_empty());
        }
        assert_eq!(codes(&stage.ask(&puppet, SEND)), ["busy"]);
        for _ in ASKS_MAX as u32..stage.shard.settings.limits.client_requests_per_second_max {
            taken(&stage).answer.give(RequestAnswer::Sent);
            stage.settle();
            assert_eq!(codes(&stage.ask(&puppet, SEND)), ["sent"], "one place is free again");
        }
        taken(&stage).answer.give(RequestAnswer::Sent);
        assert_eq!(codes(&stage.ask(&puppet, SEND)), ["too_fast", "sent"]);
        stage.pass_second();
        assert!(stage.ask(&puppet, SEND).is_empty(), "a second later it may ask again");
    }

    #[test]
    fn a_client_that_is_behind_gets_its_answers_between_whole_messages() {
        let mut stage = Harness::open();
        let puppet = stage.join();
        stage.ask(&puppet, SUBSCRIBE);
        stage.say(&puppet, SEND);
        stage.say(&puppet, REQUEST);
        puppet.pipe.borrow_mut().room = 7;
        stage.publish("a.b");
        stage.turn();
        let (first, second) = (taken(&stage), taken(&stage));
        first.answer.give(RequestAnswer::Sent);
        second.answer.give(RequestAnswer::Response("[1]".into()));
        stage.settle();
        let mut messages = Vec::new();
        for _ in 0..100 {
            puppet.pipe.borrow_mut().room += 11;
            stage.shard.ready(puppet.id, false, stage.now);
            stage.settle();
            messages.extend(puppet.hear());
        }
        assert_eq!(messages.len(), 3);
        assert_eq!(messages[0]["topic"], "a.b");
        assert_eq!(codes(&messages[1..]), ["sent", "response"]);
        assert_eq!(stage.shard.desk.held_bytes, 0);
    }

    #[test]
    fn answers_that_clients_do_not_read_are_bounded() {
        let mut stage = Harness::open();
        let puppets: Vec<HarnessClient> = (0..3).map(|_| stage.join()).collect();
        for puppet in &puppets {
            stage.ask(puppet, SUBSCRIBE);
            (0..ASKS_MAX).for_each(|_| stage.say(puppet, REQUEST));
            puppet.pipe.borrow_mut().room = 0;
        }
        stage.publish("a.b");
        stage.turn();
        let large = Bytes::from(vec![b'1'; HELD_BYTES_MAX / 16]);
        for _ in 0..ASKS_MAX * puppets.len() {
            taken(&stage).answer.give(RequestAnswer::Response(large.clone()));
        }
        stage.settle();
        let held = stage.shard.desk.held_bytes;
        assert!(held > HELD_BYTES_MAX / 2 && held < HELD_BYTES_MAX + ASKS_MAX * puppets.len() * 200, "{held}");
        puppets.iter().for_each(|puppet| stage.vanish(puppet));
        stage.settle();
        assert_eq!(stage.shard.desk.held_bytes, 0);
    }

    #[test]
    fn a_raw_client_is_told_nothing_and_nothing_is_remembered_of_it() {
        let mut stage = Harness::open();
        let raw = stage.adopt(SessionOptions { format: Format::Raw, ..SessionOptions::default() });
        stage.settle();
        assert!(stage.ask(&raw, SEND).is_empty());
        taken(&stage).answer.give(RequestAnswer::Sent);
        stage.settle();
        assert!(raw.pipe.borrow().to_client.is_empty());
        stage.pass_second();
        assert!(stage.shard.sessions[raw.id.0].asking.is_none());
    }
}
