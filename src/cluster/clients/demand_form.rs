//! Demand as it is sent from node to node.

use std::sync::Arc;

use backbone::demand::{TopicsHash, WantMessage, WantNews};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::bus::demand::interest::DemandStatus;
use crate::words::topic::check_topic;

/// Texts in one message with statuses, which takes at most six times as much.
const STATUS_BYTES_MAX: usize = 128 << 10;
/// A feed may refuse with a long text.
const MESSAGE_BYTES_MAX: usize = 1 << 10;

#[derive(Serialize, Deserialize)]
struct WantForm {
    node: u64,
    version: u64,
    news: NewsForm,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NewsForm {
    Whole { piece: u32, is_last: bool, topics: Vec<String> },
    Change { added: Vec<String>, removed: Vec<String> },
    Beat { hash: u64 },
}

#[derive(Serialize, Deserialize)]
struct TopicStatusForm {
    topic: String,
    message: String,
    /// Not refused: nothing came since then.
    silent_since_ms: Option<u64>,
}

pub(super) fn write_want(message: WantMessage) -> Bytes {
    let texts = |topics: Vec<Arc<str>>| topics.iter().map(|topic| topic.to_string()).collect();
    let news = match message.news {
        WantNews::Whole { piece, is_last, topics } => NewsForm::Whole { piece, is_last, topics: texts(topics) },
        WantNews::Change { added, removed } => NewsForm::Change { added: texts(added), removed: texts(removed) },
        WantNews::Beat { hash } => NewsForm::Beat { hash: hash.0 },
    };
    written(&WantForm { node: message.node, version: message.version, news })
}

/// None if it is not such a message, or names something that is no topic.
pub(super) fn read_want(bytes: &[u8]) -> Option<WantMessage> {
    let WantForm { node, version, news } = serde_json::from_slice(bytes).ok()?;
    let news = match news {
        NewsForm::Whole { piece, is_last, topics } => WantNews::Whole { piece, is_last, topics: checked(topics)? },
        NewsForm::Change { added, removed } => WantNews::Change { added: checked(added)?, removed: checked(removed)? },
        NewsForm::Beat { hash } => WantNews::Beat { hash: TopicsHash(hash) },
    };
    Some(WantMessage { node, version, news })
}

fn checked(topics: Vec<String>) -> Option<Vec<Arc<str>>> {
    topics.into_iter().map(|topic| check_topic(&topic).ok().map(|()| topic.into())).collect()
}

/// In as many messages as it takes.
pub(super) fn write_statuses(statuses: Vec<(Box<str>, DemandStatus)>) -> Vec<Bytes> {
    let (mut messages, mut forms, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (topic, status) in statuses {
        let (mut message, silent_since_ms) = match status {
            DemandStatus::Refused { message } => (message, None),
            DemandStatus::NothingYet { since_ms, message } => (message, Some(since_ms)),
        };
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        bytes += topic.len() + message.len();
        forms.push(TopicStatusForm { topic: topic.into(), message, silent_since_ms });
        if bytes > STATUS_BYTES_MAX {
            bytes = 0;
            messages.push(written(&std::mem::take(&mut forms)));
        }
    }
    if !forms.is_empty() {
        messages.push(written(&forms));
    }
    messages
}

pub(super) fn read_statuses(bytes: &[u8]) -> Vec<(String, DemandStatus)> {
    let forms: Vec<TopicStatusForm> = serde_json::from_slice(bytes).unwrap_or_default();
    let status = |TopicStatusForm { topic, message, silent_since_ms }: TopicStatusForm| {
        let status = match silent_since_ms {
            Some(since_ms) => DemandStatus::NothingYet { since_ms, message },
            None => DemandStatus::Refused { message },
        };
        (topic, status)
    };
    forms.into_iter().map(status).collect()
}

fn written(form: &impl Serialize) -> Bytes {
    serde_json::to_vec(form).expect("plain structs always serialise into memory").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(news: WantNews) -> WantMessage {
        WantMessage { node: u64::MAX, version: 3, news }
    }

    #[test]
    fn what_is_sent_is_read_as_it_was() {
        let topics = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<Arc<str>>>();
        for news in [
            WantNews::Whole { piece: 1, is_last: true, topics: topics(&["a.b", "\"q\\"]) },
            WantNews::Change { added: topics(&["a"]), removed: topics(&["ü"]) },
            WantNews::Beat { hash: TopicsHash(u64::MAX) },
        ] {
            let message = want(news);
            assert_eq!(read_want(&write_want(message.clone())), Some(message));
        }
        let statuses = [
            ("a", DemandStatus::Refused { message: "no".into() }),
            ("b", DemandStatus::NothingYet { since_ms: 7, message: "nothing".into() }),
        ];
        let sent = write_statuses(statuses.clone().map(|(topic, status)| (topic.into(), status)).into());
        assert_eq!(sent.len(), 1);
        assert_eq!(read_statuses(&sent[0]), statuses.map(|(topic, status)| (topic.to_owned(), status)));
    }

    #[test]
    fn statuses_are_cut_and_divided_so_that_each_message_fits() {
        let long = DemandStatus::Refused { message: "ü".repeat(10_000) };
        let sent = write_statuses((0..1_000).map(|number| (format!("t{number}").into(), long.clone())).collect());
        assert!(sent.len() > 1 && sent.iter().all(|message| message.len() < 2 * STATUS_BYTES_MAX));
        assert_eq!(sent.iter().map(|message| read_statuses(message).len()).sum::<usize>(), 1_000);
    }

    #[test]
    fn what_is_no_demand_is_not_read() {
        for text in [
            "",
            "{}",
            r#"{"node":1,"version":1,"news":{"change":{"added":["a.*"],"removed":[]}}}"#,
            r#"{"node":1,"version":1,"news":{"whole":{"piece":0,"is_last":true,"topics":["a b"]}}}"#,
        ] {
            assert_eq!(read_want(text.as_bytes()), None, "{text}");
            assert_eq!(read_statuses(text.as_bytes()), []);
        }
    }
}
