//! The log of a relay's parents, as its node reads it.

use std::time::Duration;

use backbone::hello::NodeHello;
use backbone::log::{CallId, LogRequest};
use backbone::parents::ParentChoice;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use url::Url;

use crate::bus::clock::Clock;
use crate::cluster::backbone_io::{Backbone, BackboneEvents};
use crate::cluster::relay::OFFSET_MAX;
use crate::cluster::relay::greeting::ParentGreeting;
use crate::cluster::relay::meters::ParentMeters;
use crate::cluster::relay::parent_connection::ParentAddress;
use crate::cluster::relay::parent_driver::{ParentDriver, ParentOrder};
use crate::cluster::snapshots::PeerSnapshot;
use crate::cluster::snapshots::taker::{SnapshotSource, take_from};
use crate::words::rate_limited_log::RateLimitedLog;

/// Where a server gives its log to relays.
const PATH: &str = "/v1/log";
/// Events that wait for the node; the parent waits, too, and leaves a relay that is too slow.
const EVENTS_MAX: usize = 4_096;
/// For one answer of a parent that makes a snapshot, or gives a piece of it.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// Before a snapshot is asked for again; it grows with the attempts.
const ASK_AGAIN: Duration = Duration::from_millis(100);
const ATTEMPTS_SLOWER: u32 = 10;

/// The parents of a relay, and how they are followed.
#[derive(Clone, Debug)]
pub struct ParentTerms {
    /// At least one.
    pub urls: Vec<String>,
    pub key: Option<String>,
    /// Of the one to begin with.
    pub first: usize,
    pub silence_max: Duration,
}

pub struct ParentLink {
    orders: mpsc::UnboundedSender<ParentOrder>,
    found: mpsc::Sender<Option<PeerSnapshot>>,
    taking: Option<JoinHandle<()>>,
}

impl ParentLink {
    /// Follows one of the parents from now on, on this runtime; what relays of this server are told, once there is one.
    pub fn open(
        terms: ParentTerms,
        node: u64,
        (clock, meters): (Clock, ParentMeters),
    ) -> (ParentLink, BackboneEvents, watch::Receiver<Option<ParentGreeting>>) {
        let ParentTerms { urls, key, first, silence_max } = terms;
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let (found, snapshots) = mpsc::channel(1);
        let (orders, ordered) = mpsc::unbounded_channel();
        let (greeting, greetings) = watch::channel(None);
        let driver = ParentDriver {
            choice: ParentChoice::new(urls.len(), first),
            log: vec![RateLimitedLog::default(); urls.len()],
            addresses: urls.into_iter().map(|url| ParentAddress { url, key: key.clone(), node }).collect(),
            silence_max,
            orders: ordered,
            events,
            greeting,
            followed: None,
            epoch: None,
            clock,
            meters,
        };
        tokio::spawn(driver.run());
        let link = ParentLink { orders, found, taking: None };
        (link, BackboneEvents { node: receiver, snapshots }, greetings)
    }
}

/// A reader says nothing, and asks for nothing but the log and a snapshot.
impl Backbone for ParentLink {
    fn request(&mut self, call: CallId, request: LogRequest) {
        // Without a driver the server is ending.
        let _ = self.orders.send(ParentOrder::Log { call, request });
    }

    fn ping(&mut self, _term: u64) {}

    fn answer_for(&mut self, _term: Option<u64>) {}

    fn tell(&mut self, _hello: NodeHello) {}

    fn ask_hellos(&mut self) {}

    fn report_fork(&mut self, epoch: u64) {
        tracing::debug!(epoch, "the parent's log goes on with another history");
    }

    fn ask_snapshot(&mut self, besides: Option<u64>) {
        if let Some(taking) = self.taking.take() {
            taking.abort();
        }
        let (source, found) = (ParentSource { orders: self.orders.clone() }, self.found.clone());
        self.taking = Some(tokio::spawn(async move {
            let snapshot = take(&source, besides).await;
            let _ = found.send(Some(snapshot)).await;
        }));
    }
}

struct ParentSource {
    orders: mpsc::UnboundedSender<ParentOrder>,
}

impl SnapshotSource for ParentSource {
    async fn ask(&self, request: Bytes) -> Option<Bytes> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(ParentOrder::Snapshot { request, answer }).ok()?;
        timeout(ANSWER_MAX, answered).await.ok()?.ok()
    }
}

/// Asks whichever parent there is, until one has given a snapshot.
async fn take(source: &ParentSource, besides: Option<u64>) -> PeerSnapshot {
    for attempt in 1_u32.. {
        if let Some(answer) = source.ask(Bytes::new()).await {
            match take_from(source, &answer, besides).await {
                Ok(snapshot) if snapshot.place.position.next_offset < OFFSET_MAX => return snapshot,
                Ok(_) => tracing::warn!("the parent's snapshot stands at an impossible offset; it is asked for again"),
                Err(problem) => tracing::warn!(problem, "the parent's snapshot is of no use; it is asked for again"),
            }
        }
        sleep(ASK_AGAIN * attempt.min(ATTEMPTS_SLOWER)).await;
    }
    unreachable!("it asks for ever")
}

/// The address of a parent's log: without a path, the usual one.
///
/// # Errors
/// It is no such URL; a sentence says what is expected.
pub fn read_url(text: &str) -> Result<Url, String> {
    let shown: String = text.chars().take(200).flat_map(char::escape_debug).collect();
    let refuse = |found: String| {
        Err(format!(
            "expected a URL such as `wss://parent.example.com` or `ws://10.0.0.5:8080`, found `{shown}`: {found}"
        ))
    };
    let mut url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => return refuse(error.to_string()),
    };
    if !["ws", "wss"].contains(&url.scheme()) {
        return refuse(format!("the scheme `{}`; write `ws://` or `wss://`", url.scheme()));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return refuse("no host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return refuse("a user or a fragment; the key of the parent belongs into relay.parent_key_file".to_owned());
    }
    if url.path() == "/" {
        url.set_path(PATH);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_named_by_its_host_or_by_the_place_of_its_log() {
        for (text, url) in [
            ("ws://10.0.0.5:8080", "ws://10.0.0.5:8080/v1/log"),
            ("wss://parent.example.com/", "wss://parent.example.com/v1/log"),
            ("wss://parent.example.com/prices/v1/log?a=b", "wss://parent.example.com/prices/v1/log?a=b"),
        ] {
            assert_eq!(read_url(text).map(String::from), Ok(url.to_owned()));
        }
        for text in ["", "parent", "http://parent", "ws://", "ws://user:secret@parent", "ws://parent/#a"] {
            let error = read_url(text).expect_err(text);
            assert!(error.starts_with("expected a URL such as"), "{error}");
        }
    }
}
