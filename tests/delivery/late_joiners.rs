//! A client that joins late gets the latest of each of its topics at once, and from there no frame is missing
//! or repeated.

use std::sync::Arc;

use kit::http::sum;
use kit::program::Program;
use kit::relay::Relay;
use kit::subscriber::{PATIENT, SubscriberPlan};
use kit::tape::{PROFILE, Tape};
use tokio::sync::watch;
use tokio::task::JoinSet;

const JOINERS: usize = 72;
/// 73 s of tape in 7, with the recording, or 28 s in 3: slow enough to join in the middle.
const SPEED: &str = "10";
/// On the tape.
const TOPICS: usize = 6;
/// 1.4 s at the pace of this test: how far one shard may be behind another on a machine that is short of cores. Its own
/// clients see that as a delay; a value older than this would be a wrong one.
const LAG_FRAMES_MAX: u64 = 3000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_joiner_gets_the_latest_values_and_then_every_frame_once() {
    let harness = Harness::open(SPEED).await;
    let mut joiners = JoinSet::new();
    for index in 0..JOINERS {
        let harness = harness.clone();
        joiners.spawn(async move {
            let plan = SubscriberPlan::nth(index);
            let seen = harness.seen_at_least(harness.moment(index)).await;
            let mut subscriber = plan.subscribe(&harness.server).await;
            let received = match plan.offsets(&harness.tape).last() {
                Some(last) => subscriber.read_to(*last, &harness.tape).await,
                None => Vec::new(),
            };
            subscriber.expect_silence().await;
            let cut = expect_joined(plan, &received, subscriber.live_after, &harness.tape);
            let next = plan.offsets(&harness.tape).into_iter().find(|offset| *offset > cut);
            let fresh = next.is_none_or(|next| next + LAG_FRAMES_MAX > seen);
            assert!(fresh, "joiner {index}, {plan:?}: got values as of {cut}, after others had seen {seen}");
            received.len()
        });
    }
    let received: usize = joiners.join_all().await.into_iter().sum();
    assert!(received > 10_000, "{received} frames are too few to prove anything");
    harness.expect_no_skips().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_resumes_receives_what_it_missed_and_nothing_twice() {
    let harness = Harness::open(SPEED).await;
    let mut joiners = JoinSet::new();
    for index in (0..JOINERS).filter(|index| !SubscriberPlan::nth(*index).is_raw()) {
        let harness = harness.clone();
        joiners.spawn(async move {
            let plan = SubscriberPlan::nth(index);
            let Some(last) = plan.offsets(&harness.tape).pop() else { return };
            let mut subscriber = plan.subscribe(&harness.server).await;
            let mut received = Vec::new();
            let mut newest = 0;
            while newest < last && (received.len() <= TOPICS || newest < harness.moment(index)) {
                newest = subscriber.next(&harness.tape).await;
                received.push(newest);
            }
            let (epoch, live_after) = (subscriber.epoch.take(), subscriber.live_after);
            drop(subscriber);
            harness.seen_at_least(newest + 500).await;
            let epoch = epoch.expect("a welcome names the epoch");
            let mut subscriber = plan.resume(&harness.server, &epoch, newest).await;
            if newest < last {
                received.extend(subscriber.read_to(last, &harness.tape).await);
            }
            subscriber.expect_silence().await;
            expect_joined(plan, &received, live_after, &harness.tape);
        });
    }
    joiners.join_all().await;
    harness.expect_no_skips().await;
}

/// Checks that `received` is what joining at one offset gives, and gives that offset: the one that the client received,
/// else one that fits. First come current values as of then, at most one of each topic, then every later frame. A
/// value may be left out if a newer one of its topic was there before it could be sent.
fn expect_joined(plan: SubscriberPlan, received: &[u64], told: Option<u64>, tape: &Tape) -> u64 {
    let last = tape.end();
    let splits: Vec<(usize, u64)> = match told {
        Some(cut) => vec![(received.partition_point(|offset| *offset <= cut), cut)],
        None => (0..=TOPICS).map(|split| (split, received.get(split).map_or(last, |live| live - 1))).collect(),
    };
    let fits = |(split, cut): &(usize, u64)| {
        let Some((values, live)) = received.split_at_checked(*split) else { return false };
        let expected = plan.offsets_joining_at(*cut, tape);
        let (expected_values, expected_live) = expected.split_at(expected.partition_point(|offset| offset <= cut));
        let superseded = |offset: &u64| {
            let topic = &tape.frame(*offset).topic;
            let soon = (*cut + 1..=last).take(LAG_FRAMES_MAX as usize);
            soon.into_iter().any(|later| tape.frame(later).topic == *topic)
        };
        let mut left = values.iter().peekable();
        let explained = expected_values.iter().all(|value| left.next_if_eq(&value).is_some() || superseded(value));
        explained && left.next().is_none() && live == expected_live
    };
    let fit = splits.iter().find(|split| fits(split));
    fit.unwrap_or_else(|| panic!("{plan:?}, told {told:?}: received {received:?}")).1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_joins_after_the_end_receives_only_the_latest_values() {
    let harness = Harness::open("max").await;
    harness.seen_at_least(harness.tape.end()).await;
    for index in 0..JOINERS {
        let plan = SubscriberPlan::nth(index);
        let mut subscriber = plan.subscribe(&harness.server).await;
        let expected = plan.offsets_joining_at(harness.tape.end(), &harness.tape);
        let received = match expected.last() {
            Some(last) => subscriber.read_to(*last, &harness.tape).await,
            None => Vec::new(),
        };
        assert_eq!(received, expected, "{plan:?}");
        subscriber.expect_silence().await;
    }
}

/// A tape that is being replayed, and a reference client on everything.
struct Harness {
    tape: Tape,
    server: Program,
    _venue: Program,
    /// The newest offset that the reference has received; every one before it has been received, too.
    seen: watch::Receiver<u64>,
}

impl Harness {
    async fn open(speed: &str) -> Arc<Harness> {
        let tape = Tape::open();
        let gate = Relay::shut();
        let server = Program::serve(&[&gate.ws("/stream"), "--profile", PROFILE], &PATIENT);
        let mut reference = SubscriberPlan::everything().subscribe(&server).await;
        let venue = Program::replay(tape.path(), &["--speed", speed]);
        gate.open(venue.addr());
        let (tell, seen) = watch::channel(0);
        let harness = Arc::new(Harness { tape, server, _venue: venue, seen });
        let reading = harness.clone();
        tokio::spawn(async move {
            for expected in 1..=reading.tape.end() {
                assert_eq!(reference.next(&reading.tape).await, expected, "the reference gets everything in order");
                tell.send_replace(expected);
            }
        });
        harness
    }

    /// When a joiner comes: spread over the tape, from its first frames to shortly before its end.
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
