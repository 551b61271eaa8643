//! Client requests that are not answered, or whose answer is not wholly written.
//!
//! An answer arrives in the shard's mailbox, with the session's id and the number of the request. Numbers are never
//! reused, so a late answer cannot reach a session that has the id now. What waits is bounded: by `REQUESTS_MAX` for
//! each session, by `HELD_BYTES_MAX` of answers and `OPEN_BYTES_MAX` of requests for all of a shard.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::value::{RawValue, to_raw_value};

use crate::bus::demand::requests::{AnswerTo, ClientRequest, RequestAnswer, RequestFailure, RequestKind, Requests};
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::mail::{Mail, Mailbox};
use crate::protocol::command::{CommandId, CommandRefusal};
use crate::protocol::encoding::Encoding;
use crate::protocol::server_message::ServerMessage;

/// Requests of one session that are not answered, or whose answer is not wholly written.
pub(in crate::delivery) const REQUESTS_MAX: usize = 8;
/// Answers of one shard that are not wholly written, in bytes; a further one becomes the error `busy`.
pub(in crate::delivery) const HELD_BYTES_MAX: usize = 16 << 20;
/// Requests of one shard that are not answered, in bytes; a further one is refused as `busy`.
const OPEN_BYTES_MAX: usize = 16 << 20;

/// An answer on its way to the shard of the client that sent the request.
pub struct Reply {
    session: SessionId,
    number: u64,
    /// Of the request.
    bytes: usize,
    answer: RequestAnswer,
}

impl Reply {
    pub fn session(&self) -> SessionId {
        self.session
    }
}

/// The requests of all sessions of a shard.
pub struct PendingRequests {
    upstream: Requests,
    mailbox: Mailbox,
    /// Of the last request; counts up.
    number: u64,
    /// Answers not wholly written, in bytes.
    held_bytes: usize,
    /// Requests not answered, in bytes; also those of sessions that have ended.
    open_bytes: usize,
}

/// The requests of one session.
#[derive(Default)]
pub struct SessionRequests {
    open: Vec<OpenRequest>,
    /// Answers, encoded; those not wholly written, oldest first.
    answers: VecDeque<Bytes>,
    /// The first of `answers` is what the session writes now.
    is_writing: bool,
    /// Requests since the last sweep, about a second ago.
    in_second: u32,
}

struct OpenRequest {
    number: u64,
    id: Option<CommandId>,
}

impl SessionRequests {
    /// A second has passed. True if there is nothing left to remember.
    pub fn pass_second(&mut self) -> bool {
        self.in_second = 0;
        self.open.is_empty() && self.answers.is_empty()
    }
}

impl PendingRequests {
    pub fn new(upstream: Requests, mailbox: Mailbox) -> PendingRequests {
        PendingRequests { upstream, mailbox, number: 0, held_bytes: 0, open_bytes: 0 }
    }

    /// Passes a request on; its answer arrives later in the mailbox. `per_second_max` bounds the requests of one
    /// client.
    pub fn pass_on(
        &mut self,
        (session, id): (SessionId, Option<&CommandId>),
        kind: RequestKind,
        requests: &mut Option<Box<SessionRequests>>,
        per_second_max: u32,
    ) -> Result<(), CommandRefusal> {
        self.check(&kind, requests.as_deref(), per_second_max)?;
        self.number += 1;
        let (number, bytes) = (self.number, bytes_of(&kind));
        self.open_bytes += bytes;
        let requests = requests.get_or_insert_default();
        requests.in_second += 1;
        requests.open.push(OpenRequest { number, id: id.cloned() });
        let mailbox = self.mailbox.clone();
        let answer = AnswerTo::new(move |answer| mailbox(Mail::Answer(Reply { session, number, bytes, answer })));
        self.upstream.put(ClientRequest { kind, answer });
        Ok(())
    }

    fn check(
        &self,
        kind: &RequestKind,
        requests: Option<&SessionRequests>,
        per_second_max: u32,
    ) -> Result<(), CommandRefusal> {
        let rules = self.upstream.rules();
        match kind {
            RequestKind::Send { topic, .. } if !rules.may_send(topic) => {
                let message = format!("expected a topic that clients may send to (upstream.send), found `{topic}`");
                return Err(CommandRefusal::new("forbidden", message));
            }
            RequestKind::Request { .. } if !rules.request => {
                let message = "expected a server that passes on requests, found upstream.request off";
                return Err(CommandRefusal::new("forbidden", message));
            }
            RequestKind::Send { .. } | RequestKind::Request { .. } => {}
        }
        if self.open_bytes + bytes_of(kind) > OPEN_BYTES_MAX {
            let message = format!(
                "expected `send` and `request` of at most {OPEN_BYTES_MAX} bytes that wait for an answer, of all clients \
                 together, found more; send it again later"
            );
            return Err(CommandRefusal::new(RequestFailure::Busy.label(), message));
        }
        let Some(requests) = requests else { return Ok(()) };
        if requests.in_second >= per_second_max {
            let message = format!(
                "expected at most {per_second_max} of `send` and `request` in a second \
                 (limits.client_requests_per_second_max), found one more; send it again later"
            );
            return Err(CommandRefusal::new("too_fast", message));
        }
        if requests.open.len() + requests.answers.len() >= REQUESTS_MAX {
            let message =
                format!("expected at most {REQUESTS_MAX} unanswered `send` and `request` commands, found more");
            return Err(CommandRefusal::new(RequestFailure::Busy.label(), message));
        }
        Ok(())
    }

    /// Takes a reply for a session with these requests, if it is there; gives the `result` for the metrics, and whether
    /// there is an answer to write.
    pub fn take(&mut self, reply: Reply, session: Option<(&mut SessionRequests, Encoding)>) -> (&'static str, bool) {
        let Reply { number, bytes, mut answer, .. } = reply;
        self.open_bytes -= bytes;
        let open = session.and_then(|(requests, encoding)| {
            let place = requests.open.iter().position(|request| request.number == number)?;
            Some((requests.open.remove(place), requests, encoding))
        });
        let Some((request, requests, encoding)) = open else { return (result(&answer), false) };
        if let RequestAnswer::Response(text) = &answer
            && self.held_bytes + text.len() > HELD_BYTES_MAX
        {
            let message = format!("expected at most {HELD_BYTES_MAX} bytes of unread answers on a shard, found more");
            answer = RequestAnswer::Failed(RequestFailure::Busy, message);
        }
        let mut out = Vec::new();
        put_answer(request.id.as_ref(), &answer, encoding, &mut out);
        let has_answer = !out.is_empty();
        if has_answer {
            self.held_bytes += out.len();
            requests.answers.push_back(out.into());
        }
        (result(&answer), has_answer)
    }

    /// The answer that the session writes next; the one before is written.
    pub fn next_answer(&mut self, requests: &mut SessionRequests) -> Option<Bytes> {
        if std::mem::take(&mut requests.is_writing)
            && let Some(written) = requests.answers.pop_front()
        {
            self.held_bytes -= written.len();
        }
        let answer = requests.answers.front()?.clone();
        requests.is_writing = true;
        Some(answer)
    }

    /// Forgets the requests of a session; answers that arrive later are dropped.
    pub fn forget(&mut self, requests: Option<Box<SessionRequests>>) {
        if let Some(requests) = requests {
            self.held_bytes -= requests.answers.iter().map(Bytes::len).sum::<usize>();
        }
    }

    /// Answers not wholly written, in bytes.
    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

fn bytes_of(kind: &RequestKind) -> usize {
    match kind {
        RequestKind::Send { topic, data } => topic.len() + data.len(),
        RequestKind::Request { data, .. } => data.len(),
    }
}

fn put_answer(id: Option<&CommandId>, answer: &RequestAnswer, encoding: Encoding, out: &mut Vec<u8>) {
    match answer {
        RequestAnswer::Sent => ServerMessage::Sent { id }.put(encoding, out),
        RequestAnswer::Response(text) => {
            let text = String::from_utf8_lossy(text);
            match serde_json::from_str::<&RawValue>(&text) {
                Ok(data) => ServerMessage::Response { id, data }.put(encoding, out),
                Err(_) => {
                    let data = to_raw_value(&text).expect("a string always serialises");
                    ServerMessage::Response { id, data: &data }.put(encoding, out);
                }
            }
        }
        RequestAnswer::Failed(failure, message) => {
            ServerMessage::Error { id, code: failure.label(), message }.put(encoding, out);
        }
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
