//! Takes a snapshot from another server, piece by piece.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use crate::bus::retained_topic::read_topics;
use crate::cluster::link::{LinkReply, NodeLink};
use crate::cluster::snapshots::offer::{OfferAnswer, SnapshotOffer, read_answer, write_piece_request};
use crate::cluster::snapshots::{PeerSnapshot, SNAPSHOT_BYTES_MAX};

/// For one answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// For all of it. A node that joins does not wait longer in any case.
const TAKE_MAX: Duration = Duration::from_secs(25);
/// For one server to have one ready; then another one is asked.
const READY_MAX: Duration = Duration::from_secs(8);
/// Before a server is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// Servers that are asked, one after the other, where one cannot be understood or is lost.
const TRIES: usize = 3;

/// A server that is asked for its offer, by nothing, or for a piece of it. None if it is gone.
pub trait SnapshotSource: Sync {
    fn ask(&self, request: Bytes) -> impl Future<Output = Option<Bytes>> + Send;
}

/// A server of the cluster.
struct ClusterSource<'l> {
    link: &'l NodeLink,
    subject: String,
}

impl SnapshotSource for ClusterSource<'_> {
    async fn ask(&self, request: Bytes) -> Option<Bytes> {
        match self.link.ask(&self.subject, request, ANSWER_MAX).await {
            LinkReply::Answered(answer) => Some(answer),
            LinkReply::NoResponders | LinkReply::Lost => None,
        }
    }
}

/// None if no server has one that can be read; one of the epoch `besides` does not count.
pub async fn take(link: NodeLink, besides: Option<u64>) -> Option<PeerSnapshot> {
    match timeout(TAKE_MAX, try_some(&link, besides)).await {
        Ok(found) => found,
        Err(_) => {
            tracing::warn!("no snapshot of another server came within {TAKE_MAX:?}; this one goes by the log alone");
            None
        }
    }
}

async fn try_some(link: &NodeLink, besides: Option<u64>) -> Option<PeerSnapshot> {
    for _ in 0..TRIES {
        let mut is_there = false;
        for role in ["snapshot.follower", "snapshot.ingester"] {
            match link.ask(role, Bytes::new(), ANSWER_MAX).await {
                LinkReply::NoResponders => {}
                LinkReply::Lost => is_there = true,
                LinkReply::Answered(answer) => {
                    is_there = true;
                    match take_from_node(link, &answer, besides).await {
                        Ok(snapshot) => return Some(snapshot),
                        Err(problem) => tracing::warn!(problem, "another server's snapshot is of no use"),
                    }
                }
            }
        }
        if !is_there {
            return None;
        }
        sleep(ASK_AGAIN).await;
    }
    None
}

async fn take_from_node(link: &NodeLink, answer: &[u8], besides: Option<u64>) -> Result<PeerSnapshot, String> {
    let (node, _) = read_answer(answer).ok_or_else(unreadable)?;
    take_from(&ClusterSource { link, subject: format!("snapshot.{node}") }, answer, besides).await
}

fn unreadable() -> String {
    "its offer cannot be read".to_owned()
}

/// From the server that has answered so when it was asked for its offer, unless it is of the epoch `besides`. The error is a
/// sentence.
pub async fn take_from(
    source: &impl SnapshotSource,
    answer: &[u8],
    besides: Option<u64>,
) -> Result<PeerSnapshot, String> {
    let (_, mut answer) = read_answer(answer).ok_or_else(unreadable)?;
    let asked_at = Instant::now();
    let offer = loop {
        match answer {
            OfferAnswer::Offered(offer) => break *offer,
            OfferAnswer::Nothing => return Err("it has none at the moment".to_owned()),
            OfferAnswer::Wait if asked_at.elapsed() > READY_MAX => return Err("it is not ready in time".to_owned()),
            OfferAnswer::Wait => sleep(ASK_AGAIN).await,
        }
        let next = source.ask(Bytes::new()).await.ok_or_else(gone)?;
        answer = read_answer(&next).ok_or_else(unreadable)?.1;
    };
    if besides == Some(offer.place.position.epoch) {
        return Err("it is of an epoch that is over".to_owned());
    }
    if offer.bytes > SNAPSHOT_BYTES_MAX {
        return Err(format!("expected at most {SNAPSHOT_BYTES_MAX} bytes, found {}", offer.bytes));
    }
    let bytes = take_pieces(source, &offer).await?;
    read(offer, bytes).await
}

fn gone() -> String {
    "the server is gone".to_owned()
}

async fn take_pieces(source: &impl SnapshotSource, offer: &SnapshotOffer) -> Result<Bytes, String> {
    // Memory is taken as it comes, not as it is announced.
    let mut bytes = BytesMut::new();
    while bytes.len() < offer.bytes {
        let piece = source.ask(write_piece_request(offer.number, bytes.len())).await.ok_or_else(gone)?;
        if piece.is_empty() {
            return Err("it is given no longer".to_owned());
        }
        if bytes.len() + piece.len() > offer.bytes {
            return Err("it is longer than was said".to_owned());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

async fn read(offer: SnapshotOffer, bytes: Bytes) -> Result<PeerSnapshot, String> {
    let read = spawn_blocking(move || {
        if !offer.fits(&bytes) {
            return Err("its hash is another one than was said".to_owned());
        }
        let topics = read_topics(bytes, SnapshotOffer::entry_place(&offer.place), SNAPSHOT_BYTES_MAX);
        let topics = topics.map_err(|error| error.to_string())?;
        Ok(PeerSnapshot { place: offer.place, feed: offer.feed, topics })
    });
    read.await.unwrap_or_else(|error| Err(error.to_string()))
}
