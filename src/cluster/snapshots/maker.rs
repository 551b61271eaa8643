//! Makes snapshots for others, one at a time, and holds each while somebody takes it.

use std::time::Duration;

use backbone::follower::snapshot::SnapshotPlace;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use crate::bus::clock::thread_cpu;
use crate::bus::log::snapshot::TopicChoice;
use crate::bus::reader::Reader;
use crate::bus::retained_topic::write_topics;
use crate::bus::shown_log::ShownLog;
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

/// Asks whoever shows the log for what a snapshot is to be made after; None if it cannot be made now.
pub type BasisRequest = oneshot::Sender<Option<SnapshotBasis>>;

pub struct SnapshotMaker {
    /// Of this server.
    node: u64,
    shown: ShownLog,
    runner: mpsc::Sender<BasisRequest>,
    stage: MakerStage,
    /// Of snapshots until now.
    made: u64,
}

enum MakerStage {
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

impl SnapshotMaker {
    pub fn new(node: u64, shown: ShownLog, runner: mpsc::Sender<BasisRequest>) -> SnapshotMaker {
        SnapshotMaker { node, shown, runner, stage: MakerStage::Idle, made: 0 }
    }

    /// Waits for the next step of what is being made, or held. Nothing is lost if the wait is given up.
    pub async fn progress(&mut self) {
        let made = made(&mut self.stage).await;
        self.stage = match made {
            Ok(Some(made)) => MakerStage::Made(Box::new(made)),
            Ok(None) if matches!(self.stage, MakerStage::Made(_)) => MakerStage::Idle,
            Ok(None) => MakerStage::Failed(Instant::now()),
            Err(error) => {
                tracing::error!(%error, "a snapshot for another server could not be made");
                MakerStage::Failed(Instant::now())
            }
        };
    }

    /// To a request for an offer, which is empty, or for a piece of what was offered.
    pub async fn answer(&mut self, request: &[u8], piece_bytes_max: usize) -> Bytes {
        if request.is_empty() {
            write_answer(self.node, &self.offer().await)
        } else {
            self.piece(request, piece_bytes_max)
        }
    }

    async fn offer(&mut self) -> OfferAnswer {
        let reader = self.shown.reader();
        if matches!(&self.stage, MakerStage::Made(made) if made.offer.place.position.epoch != reader.epoch().0) {
            // It is of no use to anybody.
            self.stage = MakerStage::Idle;
        }
        match &mut self.stage {
            MakerStage::Making(_) => return OfferAnswer::Wait,
            MakerStage::Made(made) if made.made_at.elapsed() < FRESH => {
                made.taken_at = Instant::now();
                return OfferAnswer::Offered(Box::new(made.offer.clone()));
            }
            // Somebody takes it.
            MakerStage::Made(made) if made.taken_at.elapsed() < IDLE => return OfferAnswer::Wait,
            MakerStage::Failed(at) if at.elapsed() < FRESH => return OfferAnswer::Nothing,
            MakerStage::Made(_) | MakerStage::Failed(_) | MakerStage::Idle => {}
        }
        let (give, given) = oneshot::channel();
        let is_asked = self.runner.send(give).await.is_ok();
        let Some(basis) = given.await.ok().flatten().filter(|_| is_asked) else { return OfferAnswer::Nothing };
        self.made += 1;
        let number = self.made;
        self.stage = MakerStage::Making(spawn_blocking(move || make(&reader, basis, number)));
        OfferAnswer::Wait
    }

    /// Nothing, if it is given no longer.
    fn piece(&mut self, request: &[u8], max: usize) -> Bytes {
        match (&mut self.stage, read_piece_request(request)) {
            (MakerStage::Made(made), Some((number, from)))
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
async fn made(stage: &mut MakerStage) -> Result<Option<MadeSnapshot>, JoinError> {
    match stage {
        MakerStage::Idle | MakerStage::Failed(_) => std::future::pending().await,
        MakerStage::Making(making) => making.await,
        MakerStage::Made(made) => {
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
