//! Gives snapshots to servers that join: makes one at a time, and holds it while somebody takes it.

use std::convert::Infallible;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use backbone::follower::snapshot::SnapshotPlace;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use crate::bus::clock::thread_cpu;
use crate::bus::log::snapshot::TopicChoice;
use crate::bus::reader::Reader;
use crate::bus::retained_topic::write_topics;
use crate::cluster::clients::held_feed::HeldFeed;
use crate::cluster::link::NodeLink;
use crate::cluster::nats::NatsError;
use crate::cluster::snapshots::offer::{OfferAnswer, SnapshotOffer, hash, read_piece_request, write_answer};
use crate::cluster::snapshots::{SNAPSHOT_BYTES_MAX, SnapshotBasis};

/// An older one is not offered any more, since the log may not have long what follows it.
const FRESH: Duration = Duration::from_secs(5);
/// It is dropped when nobody has taken a piece for this long.
const IDLE: Duration = Duration::from_secs(5);
/// Work for a snapshot before a rest of the same length: clients are served first.
const PART: Duration = Duration::from_millis(5);
/// Work between two readings of the clock, in units of about 200 ns.
const WORK_MAX: usize = 512;
/// Of one message, where `max_payload` of nats-server allows more.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// Asks the runner of the node for what a snapshot is to be made after; None if it cannot be made now.
pub type BasisRequest = oneshot::Sender<Option<SnapshotBasis>>;

pub struct SnapshotGiver {
    link: NodeLink,
    reader: Reader,
    held: watch::Receiver<Option<HeldFeed>>,
    runner: mpsc::Sender<BasisRequest>,
    stage: GiverStage,
    /// Of snapshots until now.
    made: u64,
}

enum GiverStage {
    Idle,
    Making(JoinHandle<Option<MadeSnapshot>>),
    Made(Box<MadeSnapshot>),
    /// There was none to be made then.
    Failed(Instant),
}

struct MadeSnapshot {
    offer: SnapshotOffer,
    bytes: Bytes,
    made_at: Instant,
    taken_at: Instant,
}

impl SnapshotGiver {
    pub fn new(
        link: NodeLink,
        reader: Reader,
        held: watch::Receiver<Option<HeldFeed>>,
        runner: mpsc::Sender<BasisRequest>,
    ) -> SnapshotGiver {
        SnapshotGiver { link, reader, held, runner, stage: GiverStage::Idle, made: 0 }
    }

    /// # Errors
    /// The client of NATS has ended.
    pub async fn run(mut self) -> Result<Infallible, NatsError> {
        let mut own = self.link.listen(&format!("snapshot.{}", self.link.node)).await?;
        let mut held = self.held.clone();
        loop {
            let role = if held.borrow_and_update().is_some() { "ingester" } else { "follower" };
            let mut any = self.link.listen_in_turn(&format!("snapshot.{role}")).await?;
            // Without a sender the node has failed, which is told by itself.
            while !held.has_changed().unwrap_or(false) {
                tokio::select! {
                    _ = held.changed() => break,
                    () = self.next(&mut own, &mut any) => {}
                }
            }
        }
    }

    async fn next(&mut self, own: &mut Subscriber, any: &mut Subscriber) {
        tokio::select! {
            made = made(&mut self.stage) => {
                self.stage = match made {
                    Ok(Some(made)) => GiverStage::Made(Box::new(made)),
                    Ok(None) if matches!(self.stage, GiverStage::Made(_)) => GiverStage::Idle,
                    Ok(None) => GiverStage::Failed(Instant::now()),
                    Err(error) => {
                        tracing::error!(%error, "a snapshot for another server could not be made");
                        GiverStage::Failed(Instant::now())
                    }
                };
            }
            Some(message) = own.next() => self.answer(message).await,
            Some(message) = any.next() => self.answer(message).await,
        }
    }

    async fn answer(&mut self, message: Message) {
        let Some(to) = message.reply else { return };
        let answer = if message.payload.is_empty() {
            write_answer(self.link.node, &self.offer().await)
        } else {
            self.piece(&message.payload)
        };
        self.link.reply(to, answer).await;
    }

    async fn offer(&mut self) -> OfferAnswer {
        match &mut self.stage {
            GiverStage::Making(_) => return OfferAnswer::Wait,
            GiverStage::Made(made) if made.made_at.elapsed() < FRESH => {
                made.taken_at = Instant::now();
                return OfferAnswer::Offered(Box::new(made.offer.clone()));
            }
            // Somebody takes it.
            GiverStage::Made(made) if made.taken_at.elapsed() < IDLE => return OfferAnswer::Wait,
            GiverStage::Failed(at) if at.elapsed() < FRESH => return OfferAnswer::Nothing,
            GiverStage::Made(_) | GiverStage::Failed(_) | GiverStage::Idle => {}
        }
        let (give, given) = oneshot::channel();
        let is_asked = self.runner.send(give).await.is_ok();
        let Some(basis) = given.await.ok().flatten().filter(|_| is_asked) else { return OfferAnswer::Nothing };
        self.made += 1;
        let (reader, number) = (self.reader.clone(), self.made);
        self.stage = GiverStage::Making(spawn_blocking(move || make(&reader, basis, number)));
        OfferAnswer::Wait
    }

    /// Nothing, if it is given no longer.
    fn piece(&mut self, request: &[u8]) -> Bytes {
        let max = self.link.payload_bytes_max().min(PIECE_BYTES_MAX);
        match (&mut self.stage, read_piece_request(request)) {
            (GiverStage::Made(made), Some((number, from)))
                if number == made.offer.number && from < made.bytes.len() =>
            {
                made.taken_at = Instant::now();
                made.bytes.slice(from..(from + max).min(made.bytes.len()))
            }
            _ => Bytes::new(),
        }
    }
}

/// What was made, or nothing any more.
async fn made(stage: &mut GiverStage) -> Result<Option<MadeSnapshot>, JoinError> {
    match stage {
        GiverStage::Idle | GiverStage::Failed(_) => std::future::pending().await,
        GiverStage::Making(making) => making.await,
        GiverStage::Made(made) => {
            sleep_until(made.taken_at + IDLE).await;
            Ok(None)
        }
    }
}

/// None if there is no such snapshot.
fn make(reader: &Reader, basis: SnapshotBasis, number: u64) -> Option<MadeSnapshot> {
    let SnapshotBasis { place, feed } = basis;
    let (mut work, mut part) = (0, thread_cpu());
    let mut rest = |done: usize| {
        work += 1 + done;
        if work >= WORK_MAX {
            work = 0;
            if thread_cpu().saturating_sub(part) >= PART {
                std::thread::sleep(PART);
                part = thread_cpu();
            }
        }
    };
    let snapshot = reader.snapshot(&TopicChoice::new(&[]), &mut rest);
    if snapshot.overrun || snapshot.offset.0 < place.offset || reader.epoch().0 != place.position.epoch {
        return None;
    }
    let place = SnapshotPlace { offset: snapshot.offset.0, ..place };
    let written = write_topics(&snapshot, SnapshotOffer::entry_place(&place), SNAPSHOT_BYTES_MAX, &mut rest);
    let bytes = match written {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::warn!(%error, "there is no snapshot for another server, which joins without one");
            return None;
        }
    };
    let offer = SnapshotOffer { number, place, feed, bytes: bytes.len(), sha256: hash(&bytes) };
    let now = Instant::now();
    Some(MadeSnapshot { offer, bytes, made_at: now, taken_at: now })
}
