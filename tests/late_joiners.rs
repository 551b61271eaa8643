//! Who comes late gets the latest of each of its topics at once, and from there neither misses nor repeats a frame.

mod support;

use std::sync::Arc;

use support::gate::Gate;
use support::http::sum;
use support::program::Program;
use support::recorded::{Tape, capture};
use support::skip_loudly;
use support::wish::{PATIENT, Wish};
use tokio::sync::watch;
use tokio::task::JoinSet;

const JOINERS: usize = 72;
/// In the recording.
const TOPICS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_joiner_gets_the_latest_values_and_then_every_frame_once() {
    let Some(stage) = Stage::open().await else { return };
    let mut joiners = JoinSet::new();
    for index in 0..JOINERS {
        let stage = stage.clone();
        joiners.spawn(async move {
            let wish = Wish::nth(index);
            let seen = stage.seen_at_least(stage.moment(index)).await;
            let mut subscriber = wish.subscribe(&stage.server).await;
            let received = match wish.offsets(&stage.tape).last() {
                Some(last) => subscriber.read_to(*last, &stage.tape).await,
                None => Vec::new(),
            };
            subscriber.expect_silence().await;
            assert!(subscriber.live_after.is_none_or(|cut| cut >= seen), "joiner {index}: values older than {seen}");
            expect_joined(wish, &received, subscriber.live_after, seen, &stage.tape);
            received.len()
        });
    }
    let received: usize = joiners.join_all().await.into_iter().sum();
    assert!(received > 10_000, "{received} frames are too few to prove anything");
    stage.expect_no_skips().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_with_a_cursor_gets_what_it_missed_and_nothing_twice() {
    let Some(stage) = Stage::open().await else { return };
    let mut joiners = JoinSet::new();
    for index in (0..JOINERS).filter(|index| !Wish::nth(*index).is_raw()) {
        let stage = stage.clone();
        joiners.spawn(async move {
            let wish = Wish::nth(index);
            let Some(last) = wish.offsets(&stage.tape).pop() else { return };
            let mut subscriber = wish.subscribe(&stage.server).await;
            let mut received = Vec::new();
            let mut newest = 0;
            while newest < last && (received.len() <= TOPICS || newest < stage.moment(index)) {
                newest = subscriber.next(&stage.tape).await;
                received.push(newest);
            }
            let (epoch, live_after) = (subscriber.epoch.take(), subscriber.live_after);
            drop(subscriber);
            stage.seen_at_least(newest + 500).await;
            let epoch = epoch.expect("a welcome names the epoch");
            let mut subscriber = wish.resume(&stage.server, &epoch, newest).await;
            if newest < last {
                received.extend(subscriber.read_to(last, &stage.tape).await);
            }
            subscriber.expect_silence().await;
            expect_joined(wish, &received, live_after, 0, &stage.tape);
        });
    }
    joiners.join_all().await;
    stage.expect_no_skips().await;
}

/// Checks that `received` is what joining at one offset gives: at `told` if the client was told, else at some offset from
/// `seen` on. Its values then end with one of its first frames, or all its frames are live.
fn expect_joined(wish: Wish, received: &[u64], told: Option<u64>, seen: u64, tape: &Tape) {
    let cuts: Vec<u64> = match told {
        Some(cut) => vec![cut],
        None => std::iter::once(&0).chain(received).take(1 + TOPICS).map(|cut| seen.max(*cut)).collect(),
    };
    let fits = cuts.iter().any(|cut| received == wish.offsets_joining_at(*cut, tape));
    assert!(fits, "{wish:?}, told {told:?}, after {seen}: received {received:?}");
}

/// A recording that is being replayed, slowly enough to join in the middle, and a reference client on everything.
struct Stage {
    tape: Tape,
    server: Program,
    _venue: Program,
    /// The newest offset that the reference has received; every one before it has been received, too.
    seen: watch::Receiver<u64>,
}

impl Stage {
    async fn open() -> Option<Arc<Stage>> {
        let Some(capture) = capture("binance-spot") else {
            skip_loudly("late_joiners", "../shared/feeds/binance-spot/capture.jsonl is missing");
            return None;
        };
        let gate = Gate::shut();
        let server = Program::serve(&[&gate.ws("/stream"), "--profile", "binance"], &PATIENT);
        let mut reference = Wish::everything().subscribe(&server).await;
        // 45 s of recording in 7.
        let venue = Program::replay(&capture, &["--speed", "6.5"]);
        gate.open(venue.addr());
        let (tell, seen) = watch::channel(0);
        let stage = Arc::new(Stage { tape: Tape::load(&capture), server, _venue: venue, seen });
        let reading = stage.clone();
        tokio::spawn(async move {
            for expected in 1..=reading.tape.end() {
                assert_eq!(reference.next(&reading.tape).await, expected, "the reference gets everything in order");
                tell.send_replace(expected);
            }
        });
        Some(stage)
    }

    /// When a joiner comes: spread over the recording, from its first frames to shortly before its end.
    fn moment(&self, index: usize) -> u64 {
        1 + self.tape.end() * 95 / 100 * index as u64 / JOINERS as u64
    }

    /// Waits until the reference has received `offset`, and gives the newest that it has. Panics if it has failed.
    async fn seen_at_least(&self, offset: u64) -> u64 {
        let offset = offset.min(self.tape.end());
        *self.seen.clone().wait_for(|seen| *seen >= offset).await.expect("the reference reads on")
    }

    async fn expect_no_skips(&self) {
        self.seen_at_least(self.tape.end()).await;
        let metrics = self.server.get("/metrics").body;
        assert_eq!(sum(&metrics, "fanline_frames_total", ""), self.tape.end() as f64);
        assert_eq!(sum(&metrics, "fanline_skips_total", ""), 0.0);
    }
}
