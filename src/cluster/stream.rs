//! Requests to a stream of NATS JetStream.

use std::time::Duration;

use async_nats::header::HeaderMap;
use async_nats::{Client, Request, RequestErrorKind};
use backbone::log::{LogBounds, LogRange, LogReply, LogSequence, StoredBytes};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};

/// Entries that are read at once, each with a request of its own: the leader of the stream answers them, so that they are
/// not older than what it has acknowledged.
const READ_MAX: u64 = 64;

/// `err_code` of JetStream's answers.
const STREAM_NOT_FOUND: u64 = 10_059;
const WRONG_LAST_SEQUENCE: u64 = 10_071;
const WRONG_LAST_SEQUENCE_CONSTANT: u64 = 10_164;
const NO_MESSAGE_FOUND: u64 = 10_037;
const STREAM_NAME_EXISTS: u64 = 10_058;

/// The stream as it is made where there is none.
#[derive(Clone, Debug)]
pub struct StreamTerms {
    /// Of the feed; letters, digits, `-` and `_`.
    pub name: String,
    pub replicas: usize,
    pub age_max: Duration,
    pub bytes_max: usize,
}

/// Requests to one stream.
pub(super) struct StreamApi {
    pub client: Client,
    pub stream: StreamTerms,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct ApiReply<T> {
    error: Option<ApiError>,
    #[serde(flatten)]
    value: Option<T>,
}

#[derive(Deserialize)]
struct Appended {
    seq: u64,
}

#[derive(Deserialize)]
struct StreamInfo {
    state: StreamState,
}

#[derive(Deserialize)]
struct StreamState {
    first_seq: u64,
    last_seq: u64,
}

#[derive(Deserialize)]
struct StoredReply {
    message: StoredMessage,
}

#[derive(Deserialize)]
struct StoredMessage {
    seq: u64,
    #[serde(default)]
    data: String,
}

impl StreamApi {
    fn stream_name(&self) -> String {
        format!("FANLINE_{}", self.stream.name)
    }

    fn log_subject(&self) -> String {
        format!("fanline.{}.log", self.stream.name)
    }

    /// None if nobody has answered, or nothing that can be understood: the outcome is unknown.
    pub async fn append(&self, expected: LogSequence, entry: Bytes) -> Option<LogReply> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Stream", self.stream_name());
        headers.insert("Nats-Expected-Last-Sequence", expected.0.to_string());
        let request = Request::new().headers(headers).payload(entry);
        let message = match self.client.send_request(self.log_subject(), request).await {
            Ok(message) => message,
            Err(error) if error.kind() == RequestErrorKind::NoResponders => return Some(LogReply::Unavailable),
            Err(_) => return None,
        };
        let reply: ApiReply<Appended> = serde_json::from_slice(&message.payload).ok()?;
        match reply {
            ApiReply { error: Some(error), .. } => {
                if !matches!(error.err_code, WRONG_LAST_SEQUENCE | WRONG_LAST_SEQUENCE_CONSTANT) {
                    tracing::warn!(
                        code = error.err_code,
                        error = error.description,
                        "the cluster's log refuses an entry"
                    );
                }
                Some(LogReply::Refused)
            }
            ApiReply { value: Some(Appended { seq }), .. } => Some(LogReply::Appended(LogSequence(seq))),
            ApiReply { .. } => None,
        }
    }

    pub async fn bounds(&self) -> Option<LogReply> {
        let info = self.ask::<StreamInfo>("STREAM.INFO", Value::Null).await?;
        Some(match info {
            Ok(StreamInfo { state }) => {
                let last = LogSequence(state.last_seq);
                // An empty stream has no first.
                let first = if state.first_seq == 0 { last.next() } else { LogSequence(state.first_seq) };
                LogReply::Bounds(LogBounds { first, last })
            }
            Err(error) if error.err_code == STREAM_NOT_FOUND => LogReply::Missing,
            Err(_) => LogReply::Unavailable,
        })
    }

    pub async fn read(&self, LogRange { from, to }: LogRange) -> Option<LogReply> {
        let to = to.0.min(from.0.saturating_add(READ_MAX - 1));
        let reads = (from.0..=to).map(|sequence| self.ask::<StoredReply>("STREAM.MSG.GET", json!({"seq": sequence})));
        let mut entries = Vec::new();
        for read in join_all(reads).await {
            match read? {
                Ok(StoredReply { message: StoredMessage { seq, data } }) => {
                    let bytes = STANDARD.decode(data).ok()?.into();
                    entries.push(StoredBytes { sequence: LogSequence(seq), bytes });
                }
                Err(error) if error.err_code == NO_MESSAGE_FOUND => {}
                Err(error) if error.err_code == STREAM_NOT_FOUND => return Some(LogReply::Missing),
                Err(_) => return Some(LogReply::Unavailable),
            }
        }
        Some(LogReply::Entries { entries, read_to: LogSequence(to) })
    }

    pub async fn create(&self) -> Option<LogReply> {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let config = json!({
            "name": self.stream_name(),
            "subjects": [self.log_subject()],
            "retention": "limits",
            "discard": "old",
            "storage": "file",
            "num_replicas": self.stream.replicas,
            "max_age": nanos(self.stream.age_max),
            "max_bytes": self.stream.bytes_max,
            "max_msg_size": MESSAGE_BYTES_MAX,
            "duplicate_window": nanos(DUPLICATE_WINDOW),
            "deny_delete": true,
            "deny_purge": true,
            "republish": {"src": self.log_subject(), "dest": format!("fanline.{}.out", self.stream.name)},
        });
        Some(match self.ask::<Value>("STREAM.CREATE", config).await? {
            Ok(_) => LogReply::Created,
            // It has other settings, which are the operator's affair.
            Err(error) if error.err_code == STREAM_NAME_EXISTS => LogReply::Created,
            Err(error) => {
                tracing::warn!(
                    code = error.err_code,
                    error = error.description,
                    "the cluster's log cannot be made, and is tried again; check cluster.replicas and cluster.bytes_max \
                     against what the servers of NATS have"
                );
                LogReply::Unavailable
            }
        })
    }

    /// None if nobody has answered.
    async fn ask<T: for<'de> Deserialize<'de>>(&self, call: &str, body: Value) -> Option<Result<T, ApiError>> {
        let subject = format!("$JS.API.{call}.{}", self.stream_name());
        let payload: Bytes = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let message = match self.client.send_request(subject, Request::new().payload(payload)).await {
            Ok(message) => message,
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                return Some(Err(ApiError { err_code: 0, description: "nobody answers".to_owned() }));
            }
            Err(_) => return None,
        };
        let reply: ApiReply<T> = serde_json::from_slice(&message.payload).ok()?;
        match reply {
            ApiReply { error: Some(error), .. } => Some(Err(error)),
            ApiReply { value, .. } => value.map(Ok),
        }
    }
}

/// Of one entry, its headers included.
const MESSAGE_BYTES_MAX: usize = 768 << 10;
/// Nothing is sent with an id, so the shortest that there is.
const DUPLICATE_WINDOW: Duration = Duration::from_millis(100);
