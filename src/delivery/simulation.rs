//! A shard driven by one seed, without sockets, clock or threads: clients join, change their subscriptions, stall, take
//! a few bytes, vanish and resume, while frames of all kinds and topic statuses are published and the ring overruns.
//! What each client made of what it received is then compared with what was published.

mod cases;
pub mod client;
mod model;
mod rights;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use self::client::{FakeSocket, Pipe, SimulatedClient, StreamText, matches, receiver};
use self::model::{Model, ModelKind, changed};
use self::rights::Identities;
use crate::bus::history::History;
use crate::bus::publisher::{Expiry, Publisher};
use crate::bus::retention::Retention;
use crate::bus::topic_status::{GapReason, TopicStatus, TopicStatusKind};
use crate::bus::{self, Limits};
use crate::delivery::budget::Budget;
use crate::delivery::bus_handles::BusHandles;
use crate::delivery::catch_up::scan::Scanner;
use crate::delivery::handoff::{SessionOptions, StreamKind, StreamOptions};
use crate::delivery::lanes::lane_key::LaneKey;
use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::meters::ShardMeters;
use crate::delivery::session_id::SessionId;
use crate::delivery::settings::Settings;
use crate::delivery::shard::Shard;
use crate::protocol::command::Policy;
use crate::protocol::encoding::{Format, Payload, PayloadKind};
use crate::settings::table::{CompressionSettings, HeartbeatSettings, ServerLimits, Slow};
use crate::words::ids::{Cursor, Epoch, Offset};
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;
use crate::words::topic::Pattern;
use shared_deflate::negotiate::Agreement;

/// What is published of a topic: values, the last three values, snapshots and deltas, transient frames, or anything.
#[derive(Clone, Copy)]
enum Publishing {
    Values,
    Three,
    Deltas,
    Transients,
    Mixed,
}

const TOPICS: [(&str, Publishing); 10] = [
    ("a.x", Publishing::Values),
    ("a.y", Publishing::Deltas),
    ("b.x", Publishing::Deltas),
    ("b.y.z", Publishing::Values),
    ("c", Publishing::Values),
    ("d.q", Publishing::Three),
    ("d.r", Publishing::Deltas),
    ("m.x", Publishing::Transients),
    ("m.y", Publishing::Mixed),
    ("n", Publishing::Mixed),
];
const RING_FRAMES: usize = 32;
/// A topic without a message for this time is forgotten.
const SILENT: Duration = Duration::from_millis(400);
const PATTERNS: [&str; 10] = ["a.x", "a.*", "*.x", "b.>", ">", "c", "d.*", "e.*", "m.*", "n"];
/// What clients with a list of their own choose from.
const LISTED: [&str; 8] = ["a.x", "a.y", "c", "d.q", "d.r", "m.y", "n", "e.none"];

struct Simulation {
    rng: StdRng,
    now: Stamp,
    publisher: Publisher,
    shard: Shard<FakeSocket>,
    clients: Vec<SimulatedClient>,
    /// Topics that are silent for a while, by their places in `TOPICS`.
    quiet: u32,
    model: Model,
    epoch: Epoch,
    /// Commands after which a session was on the same lane, with other patterns.
    changed_in_place: u64,
    /// None without identities.
    identities: Option<Identities>,
}

fn stream((kind, gzip): (StreamKind, bool)) -> StreamOptions {
    StreamOptions { kind, gzip, head: Bytes::from_static(client::HEAD) }
}

impl Simulation {
    fn new(seed: u64, history: History) -> Simulation {
        Simulation::metered(seed, history, &Meters::unread())
    }

    fn metered(seed: u64, history: History, meters: &Meters) -> Simulation {
        let limits = Limits { ring_frames_max: RING_FRAMES, ring_bytes_max: 1 << 20, topics_max: 100 };
        let (epoch, mut rng) = (Epoch(seed), StdRng::seed_from_u64(seed));
        let (publisher, reader) = bus::open_with_history(epoch, limits, history, &Meters::unread());
        let lenient = Settings::lenient();
        let settings = Settings {
            limits: ServerLimits {
                patterns_max: 20,
                wildcards_max: 20,
                lanes_max: 100,
                message_bytes_max: 1024,
                messages_per_second_max: 1000,
                ..lenient.limits
            },
            heartbeat: HeartbeatSettings { interval: Duration::from_secs(5) },
            slow: Slow { replay_max: Duration::from_millis(500), unsent_bytes_max: 0, ..lenient.slow },
            compression: CompressionSettings { level: 1, windows_max: 3, window_members_min: 2, ..lenient.compression },
            ..lenient
        };
        let meters = ShardMeters::new(meters, 0);
        let mut shard = Shard::new(settings, BusHandles::reading(reader), Arc::new(|_| {}), Arc::default(), meters);
        // So few that most lanes are matched in several turns.
        shard.budgets.matches = Budget::new(5);
        // Some simulations scan by looking at each topic, some by the list, and all in several turns.
        shard.scanner = Scanner::with_topics_max(rng.random_range(0..8));
        shard.budgets.catch_up = Budget::new(rng.random_range(1..800));
        let now = Stamp { wall_ms: 1, mono_ns: 1 };
        Simulation {
            rng,
            now,
            publisher,
            shard,
            clients: Vec::new(),
            quiet: 0,
            model: Model::default(),
            epoch,
            changed_in_place: 0,
            identities: None,
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.random_range(0..from.len())]
    }

    fn publish(&mut self) {
        for _ in 0..self.rng.random_range(1..20) {
            let at = self.rng.random_range(0..TOPICS.len());
            if self.quiet >> at & 1 == 1 {
                continue;
            }
            let (topic, publishing) = TOPICS[at];
            let delta = if self.rng.random_bool(0.1) { ModelKind::Snapshot } else { ModelKind::Delta };
            let anything = self.pick(&[ModelKind::Value, ModelKind::Transient, ModelKind::Snapshot, delta, delta]);
            let what = match publishing {
                _ if self.rng.random_bool(0.1) => ModelKind::Status(self.pick(&TopicStatusKind::ALL)),
                Publishing::Values | Publishing::Three => ModelKind::Value,
                Publishing::Deltas => delta,
                Publishing::Transients => ModelKind::Transient,
                Publishing::Mixed => anything,
            };
            self.publish_on(topic, what, if matches!(publishing, Publishing::Three) { 3 } else { 1 });
        }
    }

    fn publish_on(&mut self, topic: &'static str, what: ModelKind, keep: usize) {
        let n = self.model.next_offset();
        let value = self.rng.random_range(0..1_000_000);
        let has_whole = what == ModelKind::Delta && self.rng.random_bool(0.1);
        let before = self.model.topic(topic);
        let retention = match what {
            ModelKind::Value => Retention::Value { keep },
            ModelKind::Snapshot => Retention::Snapshot,
            ModelKind::Delta => {
                let state = before.state.map_or(value, |state| changed(state, value));
                let whole = has_whole.then(|| self.payload(json!({"t": topic, "n": n, "state": state})));
                Retention::Delta { whole }
            }
            ModelKind::Transient => Retention::Transient,
            ModelKind::Status(kind) => return self.status_on(topic, kind),
            ModelKind::Expired => unreachable!("the publisher alone forgets"),
        };
        let payload = self.payload(match what {
            ModelKind::Snapshot => json!({"t": topic, "n": n, "state": value}),
            ModelKind::Delta => json!({"t": topic, "n": n, "add": value, "prev": before.last}),
            _ => json!({"t": topic, "n": n}),
        });
        self.publisher.publish(topic, payload, retention, self.now).expect("a good topic");
        match before.state {
            None if has_whole => self.model.add(topic, ModelKind::Snapshot, value, false),
            Some(state) if has_whole && before.overflowed() => {
                self.model.add(topic, ModelKind::Snapshot, changed(state, value), false);
            }
            _ => self.model.add(topic, what, value, has_whole),
        }
    }

    fn status_on(&mut self, topic: &'static str, kind: TopicStatusKind) {
        let message = "so it is".to_string();
        let status = match kind {
            TopicStatusKind::Gap => {
                TopicStatus::Gap { reason: GapReason::Sequence, missed: Some(self.model.next_offset()) }
            }
            TopicStatusKind::Stale => TopicStatus::Stale { since_ms: 1, message },
            TopicStatusKind::Live => TopicStatus::Live,
            TopicStatusKind::Refused => TopicStatus::Refused { message },
        };
        self.publisher.publish_status(topic, status, self.now).expect("a good topic");
        self.model.add(topic, ModelKind::Status(kind), 0, false);
    }

    /// Forgets topics that were silent, and lets others be silent.
    fn expire(&mut self) {
        let Expiry { ended, forgotten } = self.publisher.expire(SILENT, self.now);
        for (topic, _) in ended.iter().flat_map(|topic| TOPICS.iter().find(|(name, _)| **name == *topic.name)) {
            self.model.add(topic, ModelKind::Status(TopicStatusKind::Gap), 0, false);
        }
        if !forgotten.is_empty() {
            self.model.expire(forgotten.iter().map(|topic| &*topic.name));
        }
        if self.rng.random_bool(0.1) {
            self.quiet = self.rng.random();
        }
    }

    fn payload(&mut self, mut data: serde_json::Value) -> Payload {
        data["f"] = "x".repeat(self.rng.random_range(0..60)).into();
        Payload { bytes: Bytes::from(data.to_string()), kind: PayloadKind::Json }
    }

    fn join(&mut self) {
        let every = self.rng.random_bool(0.2).then_some(Duration::from_millis(50));
        let patterns = match self.rng.random_bool(0.5) {
            true => {
                let from = if self.rng.random_bool(0.5) { &PATTERNS[..] } else { &LISTED };
                vec![Pattern::parse(self.pick(from)).expect("a pattern")]
            }
            false => Vec::new(),
        };
        let policy = self.pick(&[Policy::Conflate, Policy::Lossless]);
        let kinds = [None, None, None, Some(9), Some(10), Some(12)].map(|bits| (false, bits));
        let kinds = [&kinds[..], &[(true, None)]].concat();
        let (server_no_context_takeover, server_max_window_bits) = self.pick(&kinds);
        let agreement = Agreement { server_no_context_takeover, server_max_window_bits };
        let deflate = self.rng.random_bool(0.8).then_some(agreement);
        let raw = !patterns.is_empty() && self.rng.random_bool(0.2);
        let format = if raw { Format::Raw } else { Format::Envelope };
        if !raw && !patterns.is_empty() && self.rng.random_bool(0.3) {
            let kinds = [(StreamKind::Events, false), (StreamKind::Events, true), (StreamKind::Lines, false)];
            let stream = Some(stream(self.pick(&kinds)));
            return self.adopt(SessionOptions { every, patterns, policy, stream, ..SessionOptions::default() });
        }
        self.adopt(SessionOptions { format, deflate, every, patterns, policy, ..SessionOptions::default() });
    }

    fn adopt(&mut self, options: SessionOptions) {
        let pipe = Pipe::new(self.rng.random_range(0..5000));
        let mut client = SimulatedClient::new(self.shard.vacant(), pipe.clone(), &options);
        client.id = self.shard.adopt(FakeSocket(pipe), b"", options, self.now);
        client.number = self.shard.sessions[client.id].number;
        self.clients.push(client);
    }

    fn subscribe(&mut self) {
        let Some(at) = self.any_client() else { return };
        let client = &self.clients[at];
        if client.asked || client.format == Format::Raw || client.stream.is_some() {
            return;
        }
        let op = self.pick(&["subscribe", "subscribe", "unsubscribe"]);
        let listed: Vec<&str> = self.clients[at].patterns.keys().filter_map(|text| listed(text)).collect();
        let topics = match listed.len() {
            length if length < self.clients[at].patterns.len() => vec![self.pick(&PATTERNS)],
            0 if self.rng.random_bool(0.3) => vec![self.pick(&PATTERNS)],
            1.. if op == "unsubscribe" => vec![self.pick(&listed)],
            _ => (0..self.rng.random_range(1..4)).map(|_| self.pick(&LISTED)).collect(),
        };
        let every = if self.clients[at].paced { ",\"every_ms\":50" } else { "" };
        let every = if op == "subscribe" { every } else { "" };
        let text = format!("{{\"op\":\"{op}\",\"topics\":{}{every}}}", json!(topics));
        let client = &mut self.clients[at];
        client.asked = true;
        let mut pipe = client.pipe.borrow_mut();
        pipe.to_server.extend([0x81, 0x80 | text.len() as u8, 0, 0, 0, 0]);
        pipe.to_server.extend(text.bytes());
        drop(pipe);
        let id = self.clients[at].id;
        let before = self.lane_of(id);
        self.shard.ready(id, true, self.now);
        let after = self.lane_of(id);
        self.changed_in_place += u64::from(before.0 == after.0 && before.1 != after.1);
    }

    fn lane_of(&self, id: SessionId) -> (LaneId, LaneKey) {
        let lane = self.shard.sessions[id].lane();
        (lane, self.shard.lanes[lane].key().clone())
    }

    fn any_client(&mut self) -> Option<usize> {
        (!self.clients.is_empty()).then(|| self.rng.random_range(0..self.clients.len()))
    }

    fn give_room(&mut self) {
        if let Some(at) = self.any_client() {
            self.clients[at].pipe.borrow_mut().room += self.rng.random_range(0..3000);
            self.shard.ready(self.clients[at].id, false, self.now);
        }
    }

    fn vanish(&mut self) {
        if let Some(at) = self.any_client().filter(|_| self.clients.len() > 3) {
            let client = self.clients.swap_remove(at);
            client.pipe.borrow_mut().broken = true;
            self.shard.ready(client.id, true, self.now);
        }
    }

    /// A client loses its connection and resumes on a new one.
    fn resume(&mut self) {
        let Some(at) = self.any_client() else { return };
        let client = &mut self.clients[at];
        // What it may have then, and could not before, has no place behind a cursor.
        let may = self.identities.is_none()
            && !client.asked
            && !client.patterns.is_empty()
            && client.format == Format::Envelope;
        let Some(cursor) = client.cursor.filter(|_| may) else { return };
        client.pipe.borrow_mut().broken = true;
        self.shard.ready(client.id, true, self.now);
        client.pipe = Pipe::new(2000);
        client.receiver = receiver(client.deflate);
        client.text = StreamText::default();
        client.asked = true;
        let options = SessionOptions {
            stream: client.stream.map(stream),
            patterns: client.patterns.keys().map(|text| Pattern::parse(text).expect("a pattern")).collect(),
            deflate: client.deflate,
            every: client.paced.then_some(Duration::from_millis(50)),
            since: Some(Cursor { epoch: self.epoch, offset: Offset(cursor) }),
            ..SessionOptions::default()
        };
        client.id = self.shard.adopt(FakeSocket(client.pipe.clone()), b"", options, self.now);
    }

    fn step(&mut self) {
        let passed_ms = self.rng.random_range(0..40);
        self.now.mono_ns += passed_ms * 1_000_000;
        self.now.wall_ms += passed_ms;
        match self.rng.random_range(0..100) {
            0..=24 => self.publish(),
            25..=29 => self.join(),
            30..=39 => self.subscribe(),
            40..=59 => self.give_room(),
            60 => self.vanish(),
            61..=62 => self.expire(),
            63..=65 => self.resume(),
            66..=84 => self.shard.round(self.now),
            85..=94 => self.shard.run_queue(self.now),
            _ => self.shard.tick(self.now),
        }
        self.receive();
    }

    /// Every client reads what has arrived. Those whose session has ended are gone.
    fn receive(&mut self) {
        self.model.now_ms = self.now.wall_ms;
        self.clients.iter_mut().for_each(|client| client.receive(&self.model));
        let sessions = &self.shard.sessions;
        let is_there = |client: &SimulatedClient| {
            sessions.get(client.id).is_some_and(|session| session.number == client.number && !session.is_leaving())
        };
        if self.identities.is_some() {
            self.clients.retain(is_there);
        }
    }

    /// Lets everything be delivered: nothing is published, every client reads.
    fn settle(&mut self) {
        let mut turns = 0;
        while turns < 400 || self.shard.has_work() {
            turns += 1;
            assert!(turns < 20_000, "a shard comes to rest");
            self.now.mono_ns += 20_000_000;
            if self.identities.is_some() {
                self.decide_all();
            }
            for client in &self.clients {
                client.pipe.borrow_mut().room = 1 << 20;
                self.shard.ready(client.id, true, self.now);
            }
            self.shard.round(self.now);
            self.shard.run_queue(self.now);
            self.receive();
        }
    }

    fn check(&self) {
        for client in &self.clients {
            if self.shard.sessions[client.id].access.grant().is_none() {
                // Where a token is required, what its query asks for waits for one.
                continue;
            }
            assert!(!client.asked, "every command is answered");
            if self.identities.is_some() && client.format == Format::Raw {
                // It is not told what it may have.
                continue;
            }
            for (topic, _) in TOPICS {
                self.check_topic(client, topic);
            }
        }
    }

    fn check_topic(&self, client: &SimulatedClient, topic: &str) {
        if !client.wants(topic) {
            return;
        }
        let matching = client.patterns.iter().filter(|(pattern, _)| matches(pattern, topic));
        let Some(since) = matching.map(|(_, since)| *since).min() else { return };
        let since = client.topic_since.get(topic).map_or(since, |allowed| since.max(*allowed));
        let Some(known) = client.known.get(topic) else {
            return assert!(self.is_silent_about(topic, client.format), "nothing of {topic} has arrived");
        };
        let published = self.model.topic(topic);
        if let Some(value) = published.value {
            assert!(known.seen.contains(&value), "the newest value of {topic} has arrived");
        }
        if client.format == Format::Raw {
            return;
        }
        if !known.lost_snapshot && (published.began == 0 || known.data > published.began) {
            assert_eq!(known.state, published.state, "{topic} is what was published");
        }
        assert!(
            !known.lost_snapshot || published.overflowed() || published.state.is_none(),
            "{topic} has a snapshot again"
        );
        match published.mark {
            // That a topic is not well is not taken back when it is forgotten.
            None => assert!(known.mark.is_none_or(|mark| mark <= published.began), "{topic} is well"),
            Some(mark) => assert!(known.mark == Some(mark) || known.data > mark, "{topic} is not well since {mark}"),
        }
        if published.state.is_some() && !published.overflowed() {
            let missing = published.gaps.iter().find(|gap| !known.seen.contains(gap));
            assert_eq!(missing, None, "a gap in {topic} was not reported");
        }
        if client.paced {
            return;
        }
        for (offset, what) in self.model.offsets(topic).filter(|(offset, _)| *offset > since) {
            let skipped = client.skipped.iter().any(|(from, to)| (*from..=*to).contains(&offset));
            let part = match what {
                ModelKind::Snapshot | ModelKind::Delta => true,
                ModelKind::Status(TopicStatusKind::Gap) => published.value.is_none(),
                _ => false,
            };
            let superseded = part && offset < known.base;
            let arrived = known.seen.contains(&offset);
            assert!(skipped || superseded || arrived, "{topic} {offset} was neither sent nor reported as skipped");
        }
    }

    /// A client that joins receives nothing of the topic.
    fn is_silent_about(&self, topic: &str, format: Format) -> bool {
        let published = self.model.topic(topic);
        let has_snapshot = published.state.is_some() && !published.overflowed();
        let has_status = (published.mark.is_some() || published.overflowed()) && format == Format::Envelope;
        published.value.is_none() && !has_snapshot && !has_status
    }
}

#[test]
fn every_client_gets_its_topics_in_order_without_silent_gap_or_repeat() {
    let seeds = std::env::var("FANLINE_SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let (mut expired, mut changed_in_place) = (0, 0);
    for seed in 0..seeds {
        let run = || {
            let mut simulation = Simulation::new(seed, History::default());
            for _ in 0..1500 {
                simulation.step();
            }
            simulation.settle();
            simulation.check();
            (simulation.model.expired, simulation.changed_in_place)
        };
        match std::panic::catch_unwind(run) {
            Ok((times, changes)) => {
                expired += times;
                changed_in_place += changes;
            }
            Err(panic) => {
                eprintln!("the simulation failed with seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(expired as u64 > seeds, "topics were forgotten {expired} times in {seeds} simulations");
    assert!(changed_in_place > seeds / 4, "lanes were changed {changed_in_place} times in {seeds} simulations");
}

/// The text, if it is a topic that lists are made of.
fn listed(text: &str) -> Option<&'static str> {
    LISTED.into_iter().find(|topic| *topic == text)
}

/// What a new client with these patterns has received of a topic when all is at rest.
fn seen_by_new_client(simulation: &mut Simulation, patterns: &[&str], topic: &str) -> Vec<u64> {
    let patterns = patterns.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect();
    simulation.adopt(SessionOptions { patterns, ..SessionOptions::default() });
    simulation.settle();
    let client = simulation.clients.last().expect("it has just joined");
    client.known.get(topic).map(|known| known.seen.clone()).unwrap_or_default()
}

#[test]
fn a_client_that_joins_gets_the_last_messages_of_a_topic_that_keeps_them() {
    let history = History::parse(&["c=3".to_string()]).expect("a good entry");
    let mut simulation = Simulation::new(1, history);
    for topic in ["c", "a.x", "c", "c", "a.x", "c", "d.q"] {
        simulation.publish_on(topic, ModelKind::Value, 1);
    }
    simulation.settle();
    assert_eq!(seen_by_new_client(&mut simulation, &["c", "a.*"], "c"), [3, 4, 6]);
    let known = &simulation.clients[0].known;
    assert_eq!(known["a.x"].seen, [5]);
    assert_eq!(known.len(), 2);
}

#[test]
fn a_client_that_joins_gets_the_snapshot_the_deltas_and_what_is_wrong_but_nothing_transient() {
    let mut simulation = Simulation::new(1, History::default());
    let [gap, stale] = [TopicStatusKind::Gap, TopicStatusKind::Stale].map(ModelKind::Status);
    for what in [
        ModelKind::Delta,
        ModelKind::Snapshot,
        ModelKind::Transient,
        ModelKind::Snapshot,
        ModelKind::Transient,
        gap,
        ModelKind::Delta,
        ModelKind::Transient,
        stale,
    ] {
        simulation.publish_on("n", what, 1);
    }
    simulation.settle();
    assert_eq!(seen_by_new_client(&mut simulation, &["n"], "n"), [4, 6, 7, 9]);
}

#[test]
fn a_paced_client_gets_the_newest_transient_frame_and_what_it_would_not_hear_of_else() {
    let mut simulation = Simulation::new(1, History::default());
    simulation.shard.budgets.matches = Budget::new(1000);
    let every = Some(Duration::from_millis(50));
    let patterns = vec![Pattern::parse(">").expect("a pattern")];
    simulation.adopt(SessionOptions { patterns, every, ..SessionOptions::default() });
    simulation.settle();
    let [stale, live] = [TopicStatusKind::Stale, TopicStatusKind::Live].map(ModelKind::Status);
    for what in [ModelKind::Transient, ModelKind::Transient, stale] {
        simulation.publish_on("m.x", what, 1);
    }
    simulation.publish_on("a.x", ModelKind::Value, 1);
    simulation.publish_on("a.x", ModelKind::Value, 1);
    simulation.settle();
    simulation.publish_on("m.x", live, 1);
    simulation.settle();
    let known = &simulation.clients[0].known;
    assert_eq!(known["m.x"].seen, [2, 3, 6]);
    assert_eq!(known["a.x"].seen, [5]);
}

#[test]
fn a_client_that_skips_receives_the_reason() {
    for (reads, reason) in [(true, "overrun"), (false, "slow")] {
        let mut simulation = Simulation::new(1, History::default());
        let patterns = vec![Pattern::parse(">").expect("a pattern")];
        simulation.adopt(SessionOptions { patterns, ..SessionOptions::default() });
        simulation.settle();
        for _ in 0..2 * RING_FRAMES {
            simulation.clients[0].pipe.borrow_mut().room = if reads { 1 << 20 } else { 0 };
            simulation.publish_on("a.x", ModelKind::Value, 1);
            if !reads {
                simulation.shard.round(simulation.now);
            }
        }
        simulation.settle();
        assert_eq!(simulation.clients[0].skip_reason, reason);
        simulation.check();
    }
}

#[test]
fn a_client_that_reads_again_after_a_long_stall_has_time_to_answer_a_ping() {
    let mut simulation = Simulation::new(1, History::default());
    simulation.shard.settings.ping.interval = Duration::from_secs(1);
    simulation.shard.settings.ping.timeout = Duration::from_secs(5);
    simulation
        .adopt(SessionOptions { patterns: vec![Pattern::parse(">").expect("a pattern")], ..SessionOptions::default() });
    simulation.settle();
    let id = simulation.clients[0].id;
    let wait = |simulation: &mut Simulation, seconds: u64| {
        for _ in 0..10 * seconds {
            simulation.now.mono_ns += 100_000_000;
            simulation.shard.tick(simulation.now);
            simulation.shard.run_queue(simulation.now);
        }
    };
    wait(&mut simulation, 3);
    assert!(simulation.clients[0].pipe.borrow().to_client.ends_with(&[0x89, 0]), "it was pinged");
    simulation.clients[0].pipe.borrow_mut().room = 0;
    simulation.publish();
    simulation.shard.round(simulation.now);
    wait(&mut simulation, 60);
    simulation.clients[0].pipe.borrow_mut().room = 1 << 20;
    simulation.shard.ready(id, false, simulation.now);
    wait(&mut simulation, 4);
    let closed = |simulation: &Simulation| {
        simulation.clients[0].pipe.borrow().to_client.windows(2).any(|two| two == 4408u16.to_be_bytes())
    };
    assert!(!closed(&simulation), "its pong may be on its way");
    wait(&mut simulation, 4);
    assert!(closed(&simulation), "it was silent for all of `ping.timeout`");
}
