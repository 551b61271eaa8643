//! A connection leaves HTTP: for a WebSocket after `101`, for a stream of events after a head that this file writes.
//!
//! hyper gives a connection back once its last answer is written, and takes `101` for a last answer in any case. So a
//! stream, too, is a `101` for hyper, whose bytes are dropped; the head of the stream is that of the answer which all
//! layers have completed, without a length: the stream ends with the connection (RFC 9112 section 6.3).

use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use bytes::Bytes;

use crate::edge::listen::client_files::ClientFile;
use crate::edge::listen::client_stream::ClientStream;

/// The status line of an answer that is dropped.
const SWITCHING: &[u8] = b" 101 Switching Protocols\r\n";
/// `HTTP/1.1` before it.
const VERSION_BYTES: usize = 8;

/// What a connection is when HTTP has ended on it.
pub(in crate::edge) struct TakenConnection {
    pub socket: ClientStream,
    /// What was read from it beyond the request.
    pub unread: Bytes,
    /// The head of a stream, which is not sent yet; empty after `101`.
    pub head: Bytes,
    pub file: Option<ClientFile>,
}

type TakeOver = Box<dyn FnOnce(TakenConnection) + Send>;

/// Stands in the extensions of an answer after which the connection belongs to somebody else.
#[derive(Clone)]
pub(in crate::edge) struct Takeover(Arc<Mutex<Option<TakeOver>>>);

impl Takeover {
    pub(crate) fn new(take_over: impl FnOnce(TakenConnection) + Send + 'static) -> Takeover {
        Takeover(Arc::new(Mutex::new(Some(Box::new(take_over)))))
    }
}

/// Of one connection: who takes it over, once its answer is written.
#[derive(Default)]
pub(in crate::edge) struct TakeoverSlot(Mutex<Option<PendingTakeover>>);

struct PendingTakeover {
    take_over: TakeOver,
    head: Bytes,
}

impl TakeoverSlot {
    /// Looks whether this answer is the last. For hyper it is `101` then.
    pub(crate) fn look(&self, mut response: Response<Body>) -> Response<Body> {
        let takeover = response.extensions_mut().remove::<Takeover>();
        let take_over = takeover.and_then(|it| it.0.lock().unwrap_or_else(PoisonError::into_inner).take());
        let Some(take_over) = take_over else { return response };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            *self.pending() = Some(PendingTakeover { take_over, head: Bytes::new() });
            return response;
        }
        *self.pending() = Some(PendingTakeover { take_over, head: head_of(&response) });
        let mut last = Response::new(Body::empty());
        *last.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        last
    }

    /// What hyper writes last is not sent.
    pub(crate) fn is_silent(&self) -> bool {
        self.pending().as_ref().is_some_and(|pending| !pending.head.is_empty())
    }

    /// How many of the bytes that hyper writes are sent; none where all are.
    pub(crate) fn sent_of(&self, bytes: &[u8]) -> Option<usize> {
        if !self.is_silent() {
            return None;
        }
        // The rest of answers before may stand in front, or be written alone; nothing follows the last head.
        let line = bytes.windows(SWITCHING.len()).rposition(|window| window == SWITCHING);
        line.map(|line| line.saturating_sub(VERSION_BYTES))
    }

    /// HTTP has ended.
    pub(crate) fn complete(
        &self,
        socket: ClientStream,
        unread: Bytes,
        file: &mut Option<ClientFile>,
    ) -> Result<(), ClientStream> {
        let Some(PendingTakeover { take_over, head }) = self.pending().take() else { return Err(socket) };
        take_over(TakenConnection { socket, unread, head, file: file.take() });
        Ok(())
    }

    fn pending(&self) -> MutexGuard<'_, Option<PendingTakeover>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn head_of(response: &Response<Body>) -> Bytes {
    let mut head = format!("HTTP/1.1 {}\r\nconnection: close\r\n", response.status());
    // The answer has no body for the layers that it has passed.
    let headers = response.headers().iter().filter(|(name, _)| *name != header::CONTENT_LENGTH);
    for (name, value) in headers {
        // Values are of this server, but for an origin, which was compared.
        let _ = write!(head, "{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
    }
    head.push_str("\r\n");
    head.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(status: StatusCode) -> (TakeoverSlot, Response<Body>) {
        let slot = TakeoverSlot::default();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, "text/event-stream".parse().expect("a value"));
        response.headers_mut().insert(header::CONTENT_LENGTH, 0.into());
        response.extensions_mut().insert(Takeover::new(|_| {}));
        let response = slot.look(response);
        (slot, response)
    }

    #[test]
    fn the_head_of_a_stream_is_that_of_its_answer_and_what_hyper_writes_is_dropped() {
        let (slot, response) = slot(StatusCode::OK);
        assert_eq!((response.status(), response.headers().len()), (StatusCode::SWITCHING_PROTOCOLS, 0));
        let head = b"HTTP/1.1 101 Switching Protocols\r\ndate: now\r\n\r\n";
        assert_eq!(slot.sent_of(head), Some(0));
        let before = b"{\"data\":\"HTTP/1.1 101 Switching Protocols\r\n\"}";
        assert_eq!(slot.sent_of(&[&before[..], head].concat()), Some(before.len()));
        assert_eq!(slot.sent_of(b"{\"data\":1}"), None, "an answer before, of which the rest is still to be written");
        let pending = slot.pending();
        let head = pending.as_ref().map(|pending| &pending.head[..]);
        assert_eq!(head, Some(&b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n"[..]));
    }

    #[test]
    fn other_answers_are_written_as_they_are() {
        let (slot, response) = slot(StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!((response.headers().len(), slot.sent_of(b"HTTP/1.1 101 Switching Protocols\r\n")), (2, None));
        assert_eq!(TakeoverSlot::default().sent_of(b"HTTP/1.1 200 OK\r\n"), None);
    }
}
