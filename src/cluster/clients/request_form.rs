//! Client requests and their answers as they are sent from node to node: a line of JSON, and then what the client or the
//! feed has said, byte for byte.

use std::time::Duration;

use backbone::demand::requests::RequestNumber;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::bus::demand::requests::{RequestAnswer, RequestFailure, RequestKind};
use crate::words::topic::check_topic;

/// More than a client may ask for.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
struct RequestHead {
    node: u64,
    number: u64,
    kind: KindForm,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindForm {
    Send { topic: String },
    Request { timeout_ms: u64 },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AnswerHead {
    Sent,
    Response,
    Failed { code: String, message: String },
}

pub(super) fn write_request(number: RequestNumber, kind: &RequestKind) -> Bytes {
    let RequestNumber { node, number } = number;
    let (kind, data) = match kind {
        RequestKind::Send { topic, data } => (KindForm::Send { topic: topic.as_ref().into() }, data),
        RequestKind::Request { data, timeout } => {
            let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            (KindForm::Request { timeout_ms }, data)
        }
    };
    with_body(&RequestHead { node, number, kind }, data.as_bytes())
}

/// None if no client can have said it.
pub(super) fn read_request(bytes: &Bytes) -> Option<(RequestNumber, RequestKind)> {
    let (RequestHead { node, number, kind }, body) = read_head(bytes)?;
    let data: Box<str> = std::str::from_utf8(&body).ok()?.into();
    serde_json::from_str::<&serde_json::value::RawValue>(&data).ok()?;
    let kind = match kind {
        KindForm::Send { topic } => {
            check_topic(&topic).ok()?;
            RequestKind::Send { topic: topic.into(), data }
        }
        KindForm::Request { timeout_ms } if data.starts_with('{') => {
            RequestKind::Request { data, timeout: Duration::from_millis(timeout_ms).min(TIMEOUT_MAX) }
        }
        KindForm::Request { .. } => return None,
    };
    Some((RequestNumber { node, number }, kind))
}

pub(super) fn write_answer(answer: &RequestAnswer) -> Bytes {
    match answer {
        RequestAnswer::Sent => with_body(&AnswerHead::Sent, b""),
        RequestAnswer::Response(body) => with_body(&AnswerHead::Response, body),
        RequestAnswer::Failed(failure, message) => {
            let head = AnswerHead::Failed { code: failure.label().to_owned(), message: message.clone() };
            with_body(&head, b"")
        }
    }
}

pub(super) fn read_answer(bytes: &Bytes) -> Option<RequestAnswer> {
    let (head, body) = read_head(bytes)?;
    Some(match head {
        AnswerHead::Sent => RequestAnswer::Sent,
        AnswerHead::Response => RequestAnswer::Response(body),
        AnswerHead::Failed { code, message } => {
            let failure = RequestFailure::ALL.into_iter().find(|failure| failure.label() == code)?;
            RequestAnswer::Failed(failure, message)
        }
    })
}

fn with_body(head: &impl Serialize, body: &[u8]) -> Bytes {
    let mut bytes = serde_json::to_vec(head).expect("plain structs always serialise into memory");
    bytes.push(b'\n');
    bytes.extend_from_slice(body);
    bytes.into()
}

fn read_head<T: for<'de> Deserialize<'de>>(bytes: &Bytes) -> Option<(T, Bytes)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let head = serde_json::from_slice(&bytes[..end]).ok()?;
    Some((head, bytes.slice(end + 1..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_read_as_it_was() {
        let number = RequestNumber { node: u64::MAX, number: 7 };
        for kind in [
            RequestKind::Send { topic: "chat.\"x".into(), data: "\"a\\nb\"".into() },
            RequestKind::Request { data: "{\"a\":\n1}".into(), timeout: Duration::from_millis(1500) },
        ] {
            assert_eq!(read_request(&write_request(number, &kind)), Some((number, kind)));
        }
        let failures = RequestFailure::ALL.map(|failure| RequestAnswer::Failed(failure, "why\n".into()));
        for answer in
            [RequestAnswer::Sent, RequestAnswer::Response(Bytes::from_static(b"\xff\n{}"))].iter().chain(&failures)
        {
            assert_eq!(read_answer(&write_answer(answer)).as_ref(), Some(answer));
        }
    }

    #[test]
    fn what_no_client_can_have_said_is_not_read() {
        let head = |kind: &str| format!(r#"{{"node":1,"number":1,"kind":{kind}}}"#);
        for (head, body) in [
            (head(r#"{"send":{"topic":"a.*"}}"#), "1"),
            (head(r#"{"send":{"topic":"a"}}"#), "not JSON"),
            (head(r#"{"request":{"timeout_ms":1}}"#), "[1]"),
            (head(r#"{"request":{"timeout_ms":1}}"#), ""),
            ("{}".to_owned(), "{}"),
        ] {
            assert_eq!(read_request(&format!("{head}\n{body}").into()), None, "{head} {body}");
        }
        assert_eq!(read_request(&Bytes::from_static(b"{}")), None, "no line");
        assert_eq!(read_answer(&Bytes::new()), None);
        let long = format!("{}\n{{}}", head(&format!(r#"{{"request":{{"timeout_ms":{}}}}}"#, u64::MAX)));
        let Some((_, RequestKind::Request { timeout, .. })) = read_request(&long.into()) else { panic!("a request") };
        assert_eq!(timeout, TIMEOUT_MAX);
    }
}
