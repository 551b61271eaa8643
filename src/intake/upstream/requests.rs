//! Client requests: messages that are passed on, and requests whose answers are passed back.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::bus::demand::requests::{AnswerTo, ClientRequest, RequestAnswer, RequestFailure, RequestKind, RequestQueue};
use crate::json::{Pointer, find};
use crate::profile::Profile;
use crate::profile::placeholders::Context;
use crate::words::stamp::Stamp;

use crate::intake::connection::Connection;
use crate::intake::time::ns;
use crate::intake::update::ConnectionId;
use crate::intake::upstream::Upstream;

/// Requests that wait for an answer at most; further ones are refused as `busy`.
const REQUESTS_MAX: usize = 1024;

const DOWN: &str = "there is no connection to the feed; try again later";
const BUSY: &str = "too many messages wait for the feed; try again later";
const CANNOT_SEND: &str = "this server has no way to send that to the feed";

/// Requests that wait for an answer of the feed, by connection and by their number on it.
#[derive(Default)]
pub(super) struct ForwardedRequests {
    requests: BTreeMap<(ConnectionId, u64), ForwardedRequest>,
}

/// A client's request on its way.
struct ForwardedRequest {
    answer: AnswerTo,
    /// The client's own number, as sent.
    id: Option<String>,
    by_ns: u64,
}

impl ForwardedRequests {
    /// The next client request.
    pub(super) async fn next(queue: &Option<RequestQueue>) -> ClientRequest {
        if let Some(queue) = queue
            && let Some(request) = queue.next().await
        {
            return request;
        }
        std::future::pending().await
    }

    /// Whether the message answers a client's request, and was handed to the client.
    pub(super) fn answered(&mut self, profile: &Profile, connection: ConnectionId, text: &str) -> bool {
        if self.requests.is_empty() {
            return false;
        }
        let Some(pointer) = profile.client.request.as_ref().map(|request| &request.id) else { return false };
        let number = find(text, pointer).and_then(|token| token.trim_matches('"').parse().ok());
        let Some(request) = number.and_then(|number| self.requests.remove(&(connection, number))) else {
            return false;
        };
        let text = with_id(text, pointer, request.id.as_deref());
        request.answer.give(RequestAnswer::Response(Bytes::from(text)));
        true
    }

    pub(super) fn deadline_ns(&self) -> Option<u64> {
        self.requests.values().map(|request| request.by_ns).min()
    }

    /// Fails requests that were not answered in time.
    pub(super) fn tick(&mut self, now: Stamp) {
        let late = |request: &ForwardedRequest, _: ConnectionId| request.by_ns <= now.mono_ns;
        self.fail(late, RequestFailure::Timeout, "the feed did not answer in time");
    }

    /// Fails the requests of a connection that is gone.
    pub(super) fn connection_lost(&mut self, id: ConnectionId) {
        let owed = |_: &ForwardedRequest, connection: ConnectionId| connection == id;
        self.fail(owed, RequestFailure::UpstreamDown, "the connection to the feed was lost before it answered");
    }

    fn fail(
        &mut self,
        fails: impl Fn(&ForwardedRequest, ConnectionId) -> bool,
        failure: RequestFailure,
        message: &str,
    ) {
        let keys = self.requests.iter().filter(|((connection, _), request)| fails(request, *connection));
        let keys: Vec<(ConnectionId, u64)> = keys.map(|(key, _)| *key).collect();
        for request in keys.iter().filter_map(|key| self.requests.remove(key)).collect::<Vec<_>>() {
            request.answer.give(RequestAnswer::Failed(failure, message.to_string()));
        }
    }
}

impl Upstream {
    /// Hands a client request to a connection.
    pub(super) fn forward(&mut self, request: ClientRequest, now: Stamp) {
        let ClientRequest { kind, answer } = request;
        match kind {
            RequestKind::Send { topic, data } => answer.give(self.send(&topic, &data, now)),
            RequestKind::Request { data, timeout } => {
                if let Err((answer, failed)) = self.request(&data, timeout, answer, now) {
                    answer.give(failed);
                }
            }
        }
    }

    /// Sends over a connection that carries the topic, if one does.
    fn send(&mut self, topic: &str, data: &str, now: Stamp) -> RequestAnswer {
        let carriers = self.assignment.connections_of(topic);
        let open = self.connections.iter_mut().filter(|connection| connection.is_open());
        let best = open.min_by_key(|connection| !carriers.contains(&connection.id()));
        let Some(protocol) = best.and_then(Connection::protocol) else {
            return failed(RequestFailure::UpstreamDown, DOWN);
        };
        let Some(template) = &self.profile.client.send else { return failed(RequestFailure::NotSent, CANNOT_SEND) };
        let item = self.config.subscribe.as_ref().map(|subscribe| subscribe.item(topic));
        let (venue, channel, symbol) = match &item {
            Some(item) => (item.venue.clone(), &*item.channel, item.symbol.clone()),
            None => (topic.to_string(), "", topic.to_string()),
        };
        let (items, symbols) = ([venue], [symbol]);
        let context = Context {
            items: &items,
            symbols: &symbols,
            channel,
            data: Some(data),
            ..Context::plain(&self.config.secrets, now, protocol.number())
        };
        let text = match context.fill(template) {
            Ok(text) => text,
            Err(missing) => {
                tracing::warn!("upstream: a client's message cannot be sent: {missing}");
                return failed(RequestFailure::NotSent, CANNOT_SEND);
            }
        };
        // For a feed of lines, another line is another command.
        if self.profile.rules.decode.is_of_lines() && text.trim_end_matches(['\r', '\n']).contains(['\r', '\n', '\0']) {
            let message = "expected `data` of one line, found a line break or NUL in it; send each line separately";
            return failed(RequestFailure::NotSent, message);
        }
        if protocol.forward(text) { RequestAnswer::Sent } else { failed(RequestFailure::Busy, BUSY) }
    }

    fn request(
        &mut self,
        data: &str,
        timeout: Duration,
        answer: AnswerTo,
        now: Stamp,
    ) -> Result<(), (AnswerTo, RequestAnswer)> {
        let Some(how) = &self.profile.client.request else {
            let name = &self.profile.name;
            let message = format!("profile `{name}` does not say how requests are numbered; add `[client] request`");
            return Err((answer, failed(RequestFailure::NotSent, &message)));
        };
        if let Some(pointer) = how.forbids(data) {
            let message = format!("expected a request that this server passes on, found another one at `{pointer}`");
            return Err((answer, failed(RequestFailure::NotSent, &message)));
        }
        if self.requests.requests.len() >= REQUESTS_MAX {
            let message = "too many requests wait for the feed; try again later";
            return Err((answer, failed(RequestFailure::Busy, message)));
        }
        let open = self.connections.iter_mut().find(|connection| connection.is_open());
        let Some((connection, protocol)) = open.and_then(|open| Some((open.id(), open.protocol()?))) else {
            return Err((answer, failed(RequestFailure::UpstreamDown, DOWN)));
        };
        let number = protocol.number();
        if !protocol.forward(numbered(data, &how.id, number)) {
            return Err((answer, failed(RequestFailure::Busy, BUSY)));
        }
        let id = find(data, &how.id).map(str::to_string);
        let by_ns = now.mono_ns + ns(timeout.min(how.timeout));
        self.requests.requests.insert((connection, number), ForwardedRequest { answer, id, by_ns });
        Ok(())
    }
}

fn failed(failure: RequestFailure, message: &str) -> RequestAnswer {
    RequestAnswer::Failed(failure, message.to_string())
}

/// The request with our number: in quotes if the client's is, added if there is none.
fn numbered(data: &str, pointer: &Pointer, number: u64) -> String {
    match find(data, pointer) {
        Some(token) if token.starts_with('"') => with_id(data, pointer, Some(&format!("\"{number}\""))),
        Some(_) => with_id(data, pointer, Some(&number.to_string())),
        None => {
            let name = pointer.as_str().trim_start_matches('/');
            let rest = data.trim_start().trim_start_matches('{');
            let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
            format!("{{\"{name}\":{number}{comma}{rest}")
        }
    }
}

/// The text with another token at the pointer.
fn with_id(text: &str, pointer: &Pointer, id: Option<&str>) -> String {
    let Some((id, token)) = id.zip(find(text, pointer)) else { return text.to_string() };
    let at = token.as_ptr() as usize - text.as_ptr() as usize;
    format!("{}{id}{}", &text[..at], &text[at + token.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_gets_our_number_and_its_answer_the_clients() {
        let id = Pointer::parse("/id").expect("a pointer");
        assert_eq!(numbered(r#"{"method":"x","id":7}"#, &id, 12), r#"{"method":"x","id":12}"#);
        assert_eq!(numbered(r#"{"id" : "a", "p":[{"id":1}]}"#, &id, 12), r#"{"id" : "12", "p":[{"id":1}]}"#);
        assert_eq!(numbered(r#"{"method":"x"}"#, &id, 12), r#"{"id":12,"method":"x"}"#);
        assert_eq!(numbered("{ }", &id, 12), r#"{"id":12 }"#);
        assert_eq!(with_id(r#"{"id":12,"result":0.10}"#, &id, Some("7")), r#"{"id":7,"result":0.10}"#);
        assert_eq!(with_id(r#"{"id":12}"#, &id, None), r#"{"id":12}"#);
    }
}
