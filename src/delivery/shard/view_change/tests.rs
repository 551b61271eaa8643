use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::access::gatekeeper::{AuthRefusal, AuthReply, AuthRequest, Gatekeeper, TicketReply};
use crate::access::grant::Grant;
use crate::access::rights::{GrantedPattern, GrantedTopics, Rights, ViewDelay, ViewId};
use crate::access::selector::{ReachedSessions, SessionOrder, SessionSelector};
use crate::bus::delay::line::{DelayLine, LineParts, OpenLine};
use crate::bus::feed_state::FeedState;
use crate::bus::history::History;
use crate::bus::publisher::Publisher;
use crate::bus::retention::Retention;
use crate::bus::{self, Limits};
use crate::delivery::bus_handles::BusHandles;
use crate::delivery::handoff::SessionOptions;
use crate::delivery::meters::ShardMeters;
use crate::delivery::session_id::SessionId;
use crate::delivery::settings::Settings;
use crate::delivery::shard::Shard;
use crate::delivery::shard::audit_events::tests::TestLog;
use crate::delivery::shard::orders::NumberedOrder;
use crate::delivery::simulation::client::{FakeSocket, Pipe, split_frame};
use crate::protocol::encoding::{Payload, PayloadKind};
use crate::words::goodbye::Goodbye;
use crate::words::ids::Epoch;
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;
use crate::words::topic::Pattern;

const DELAY: Duration = Duration::from_secs(10);
const TOPICS: [&str; 4] = ["a.x", "a.y", "b.x", "b.y"];

/// The live log and a view of it, each with a shard, and one client.
struct Scene {
    publisher: Publisher,
    lines: Vec<DelayLine>,
    shards: Vec<Shard<FakeSocket>>,
    grants: Vec<Grant>,
    pipe: Rc<RefCell<Pipe>>,
    /// Where the client's session is.
    place: (usize, SessionId),
    now: Stamp,
    /// Topic and time of receipt of each live offset.
    published: Vec<(&'static str, u64)>,
}

fn grant(view: u8, granted: &[(&str, Duration)]) -> Grant {
    let granted = granted.iter().map(|(pattern, delay)| {
        let pattern = Pattern::parse(pattern).expect(pattern);
        GrantedPattern { pattern, delay: *delay }
    });
    let topics = GrantedTopics::Matching(granted.collect());
    let rights = Rights { view: ViewId(view), topics, ..Rights::unlimited() };
    Grant { identity: None, rights: Arc::new(rights) }
}

impl Scene {
    /// View 1 has one delay, view 2 has `a.*` live and the rest later.
    fn open(ring_frames_max: usize) -> Scene {
        let limits = Limits { ring_frames_max, ring_bytes_max: 1 << 20, topics_max: 100 };
        let (mut publisher, live) = bus::open(Epoch(1), limits, &Meters::unread());
        publisher.announce(FeedState::Live);
        let now = Stamp { wall_ms: 1, mono_ns: 1 };
        let unlimited = Grant { identity: None, rights: Arc::new(Rights::unlimited()) };
        let mixed = [("a.*", Duration::ZERO), (">", DELAY)];
        let grants = vec![unlimited, grant(1, &[(">", DELAY)]), grant(2, &mixed)];
        let (mut lines, mut readers) = (Vec::new(), vec![live.clone()]);
        for (view, grant) in (1..).zip(&grants[1..]) {
            let (delay, live) = (ViewDelay::of(&grant.rights.topics), live.clone());
            let (epoch, history, bytes_max) = (Epoch(2), History::default(), 1 << 30);
            let parts = LineParts { view, delay, live, epoch, limits, history, bytes_max, spool: None };
            let OpenLine { line, reader, .. } = DelayLine::open(parts, &Meters::unread(), now);
            lines.push(line);
            readers.push(reader);
        }
        let mut shards: Vec<Shard<FakeSocket>> = Vec::new();
        for (view, reader) in (0..).zip(readers) {
            let bus = BusHandles { view: ViewId(view), ..BusHandles::reading(reader) };
            let meters = ShardMeters::new(&Meters::unread(), usize::from(view));
            shards.push(Shard::new(Settings::lenient(), bus, Arc::new(|_| {}), Arc::default(), meters));
        }
        let pipe = Rc::new(RefCell::new(Pipe { room: 1 << 30, ..Pipe::default() }));
        let patterns = vec![Pattern::parse(">").expect("a pattern")];
        let options = SessionOptions { patterns, ..SessionOptions::default() };
        let id = shards[0].adopt(FakeSocket(pipe.clone()), b"", options, now);
        Scene { publisher, lines, shards, grants, pipe, place: (0, id), now, published: vec![("", 0)] }
    }

    fn publish(&mut self, topic: &'static str) {
        let payload = Payload { bytes: self.published.len().to_string().into(), kind: PayloadKind::Json };
        self.publisher.publish(topic, payload, Retention::NEWEST, self.now).expect("a good topic");
        self.published.push((topic, self.now.mono_ns));
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ns += ms * 1_000_000;
        self.now.wall_ms += ms;
    }

    fn settle(&mut self) {
        for line in &mut self.lines {
            while line.turn(self.now) == Some(Duration::ZERO) {}
        }
        for shard in &mut self.shards {
            shard.follow(self.now);
            shard.run_queue(self.now);
            while shard.has_work() {
                shard.round(self.now);
                shard.run_queue(self.now);
            }
        }
    }

    /// The client is given what it may see in this view.
    fn move_to(&mut self, view: usize) {
        let (from, id) = self.place;
        let (grant, mut out) = (self.grants[view].clone(), Vec::new());
        assert_eq!(self.shards[from].change_grant(id, grant, self.now, &mut out), from == view);
        for transfer in self.shards[from].take_transfers() {
            let to = usize::from(transfer.view().0);
            self.shards[to].follow(self.now);
            self.place = (to, self.shards[to].take_over(transfer, self.now));
        }
        assert_eq!(self.place.0, view);
    }

    fn received(&self) -> Vec<Value> {
        let bytes = std::mem::take(&mut self.pipe.borrow_mut().to_client);
        let (mut messages, mut rest) = (Vec::new(), bytes.as_slice());
        while let Some((first, payload, tail)) = split_frame(rest) {
            rest = tail;
            assert_eq!(first, 0x81);
            messages.push(serde_json::from_slice(payload).expect("JSON"));
        }
        assert!(rest.is_empty(), "whole messages");
        messages
    }

    /// How late the client may at least be sent this topic.
    fn delay_of(&self, topic: &str) -> u64 {
        let delay = self.grants[self.place.0].rights.topics.delay_of(topic).expect("all topics are allowed");
        delay.as_nanos() as u64
    }
}

fn of_op<'m>(messages: &'m [Value], op: &str) -> Vec<&'m Value> {
    messages.iter().filter(|message| message["op"] == op).collect()
}

fn offsets(messages: &[Value]) -> Vec<u64> {
    let frames = messages.iter().filter(|message| message.get("op").is_none());
    frames.map(|frame| frame["offset"].as_u64().expect("an offset")).collect()
}

#[test]
fn a_session_that_is_granted_less_starts_anew_in_its_view_and_continues_where_it_was_when_it_is_granted_more() {
    let mut scene = Scene::open(1 << 10);
    for second in 0..15 {
        scene.publish(TOPICS[second % 2]);
        scene.settle();
        scene.pass(1000);
    }
    scene.settle();
    assert_eq!(offsets(&scene.received()), (1..=15).collect::<Vec<u64>>());

    scene.move_to(1);
    scene.settle();
    let messages = scene.received();
    let view = &messages[0];
    assert_eq!((&view["op"], &view["delay_ms"], &view["offset"]), (&json!("view"), &json!(10_000), &json!(6)));
    assert_eq!(view["epoch"], "0000000000000001");
    let subscribed = of_op(&messages, "subscribed")[0];
    assert_eq!((&subscribed["topics"], &subscribed["delay_ms"]), (&json!([">"]), &json!(10_000)));
    assert_eq!(of_op(&messages, "skipped")[0]["reason"], "delayed");
    assert_eq!(offsets(&messages), [5, 6], "the values of the view");
    assert_eq!(of_op(&messages, "live").len(), 1, "the state of the view");

    scene.pass(1000);
    scene.publish("b.x");
    scene.settle();
    assert_eq!(offsets(&scene.received()), [7]);
    scene.move_to(0);
    scene.settle();
    let messages = scene.received();
    assert!(messages[0]["op"] == "view" && messages[0].get("delay_ms").is_none(), "{}", messages[0]);
    assert_eq!(offsets(&messages), (8..=16).collect::<Vec<u64>>(), "every frame since");
    assert!(of_op(&messages, "skipped").is_empty());
}

#[test]
fn a_session_that_moves_is_recorded_with_the_delays_of_each_view_and_closes_once() {
    let log = TestLog::open("views");
    let mut scene = Scene::open(1 << 10);
    scene.settle();
    scene.shards.iter_mut().for_each(|shard| shard.audit = log.log.clone());
    let (view, id) = scene.place;
    scene.shards[view].sessions[id].is_recorded = true;
    for view in [1, 2, 0] {
        scene.move_to(view);
        scene.settle();
    }
    scene.pipe.borrow_mut().broken = true;
    let (view, id) = scene.place;
    scene.shards[view].ready(id, true, scene.now);
    let lines = log.close();
    let lines: Vec<_> = lines.iter().map(|line| (line["event"].as_str(), line["delay_ms"].as_u64())).collect();
    let subscribed = |delay_ms| (Some("subscribe"), Some(delay_ms));
    let closed = (Some("session_close"), None);
    assert_eq!(lines, [subscribed(10_000), subscribed(0), subscribed(10_000), subscribed(0), closed]);
}

#[test]
fn a_view_with_offsets_of_its_own_begins_another_epoch() {
    let mut scene = Scene::open(1 << 10);
    scene.publish("a.x");
    scene.publish("b.x");
    scene.settle();
    scene.received();
    scene.move_to(2);
    scene.settle();
    let messages = scene.received();
    assert_eq!(messages[0]["delay_ms"], json!({"a.*": 0, ">": 10_000}));
    assert_eq!(messages[0]["epoch"], "0000000000000002");
    assert_eq!(of_op(&messages, "skipped")[0]["reason"], "epoch");
    assert_eq!(offsets(&messages), [1], "`b.x` is to come");
}

#[test]
fn a_session_that_moves_while_its_socket_takes_nothing_keeps_what_it_was_to_be_sent() {
    let mut scene = Scene::open(1 << 10);
    scene.pass(20_000);
    scene.settle();
    scene.received();
    scene.pipe.borrow_mut().room = 7;
    scene.publish("a.x");
    scene.settle();
    scene.move_to(1);
    scene.settle();
    scene.pipe.borrow_mut().room = 1 << 30;
    let (view, id) = scene.place;
    scene.shards[view].ready(id, false, scene.now);
    scene.settle();
    let messages = scene.received();
    assert_eq!((offsets(&messages), &messages[1]["op"]), (vec![1], &json!("view")), "{messages:?}");
    assert!(scene.shards[0].is_empty());
}

#[test]
fn nothing_is_sent_before_its_time_nor_lost_in_silence_however_sessions_move() {
    let (mut moves, mut skips) = (0, 0);
    for seed in 0..150 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut scene = Scene::open(64);
        // By topic: the newest live offset that the client has been sent in this view.
        let mut has: BTreeMap<String, usize> = BTreeMap::new();
        let mut may_skip = true;
        for _ in 0..150 {
            for _ in 0..rng.random_range(0..4) {
                let topic = TOPICS[rng.random_range(0..TOPICS.len())];
                scene.publish(topic);
            }
            scene.pass(rng.random_range(0..800));
            if rng.random_bool(0.1) {
                // Less than it takes at once.
                scene.pipe.borrow_mut().room = rng.random_range(0..200);
            } else {
                scene.pipe.borrow_mut().room = 1 << 30;
                let (view, id) = scene.place;
                scene.shards[view].ready(id, false, scene.now);
            }
            if scene.pipe.borrow().room == 1 << 30 {
                scene.settle();
                for message in scene.received() {
                    match message["op"].as_str() {
                        Some("view") => may_skip = false,
                        Some("skipped") => {
                            may_skip = true;
                            has.clear();
                            skips += 1;
                        }
                        Some(_) => {}
                        None => {
                            let original = message["data"].as_u64().expect("the live offset") as usize;
                            let (topic, received) = scene.published[original];
                            assert_eq!(message["topic"], topic);
                            let age = scene.now.mono_ns - received;
                            assert!(age >= scene.delay_of(topic), "seed {seed}: {message} after {age} ns");
                            let before = has.insert(topic.into(), original);
                            let missed = (before.unwrap_or(original) + 1..original)
                                .filter(|offset| scene.published[*offset].0 == topic)
                                .count();
                            assert!(missed == 0 || may_skip, "seed {seed}: {missed} before {message}");
                            assert!(before.is_none_or(|before| before < original), "seed {seed}: again {message}");
                        }
                    }
                }
                may_skip = false;
                if rng.random_bool(0.1) {
                    let view = rng.random_range(0..scene.shards.len());
                    moves += usize::from(view != scene.place.0);
                    scene.move_to(view);
                    scene.settle();
                }
            }
        }
    }
    assert!(moves > 500 && skips > 100, "{moves} moves, {skips} skips");
}

/// Has withdrawn all rights.
struct Closed;

impl Gatekeeper for Closed {
    fn anonymous(&self) -> Option<Grant> {
        None
    }

    fn authenticate(&self, _request: AuthRequest, reply: AuthReply) {
        reply(Err(AuthRefusal { goodbye: Goodbye::Forbidden, reason: "revoked" }));
    }

    fn issue_ticket(&self, _: Box<str>, _: Option<IpAddr>, _: Option<Box<str>>, reply: TicketReply) {
        reply(Err(AuthRefusal { goodbye: Goodbye::Forbidden, reason: "revoked" }));
    }

    fn reassess(&self, _grant: &Grant) -> Result<Grant, AuthRefusal> {
        Err(AuthRefusal { goodbye: Goodbye::Forbidden, reason: "revoked" })
    }
}

#[test]
fn a_session_whose_rights_are_withdrawn_on_its_way_sees_nothing_of_the_other_view() {
    let mut scene = Scene::open(1000);
    scene.publish("a.x");
    scene.settle();
    assert!(!scene.received().is_empty());
    let ((from, id), grant) = (scene.place, scene.grants[1].clone());
    assert!(!scene.shards[from].change_grant(id, grant, scene.now, &mut Vec::new()));
    scene.shards[1].gatekeeper = Arc::new(Closed);
    for transfer in scene.shards[from].take_transfers() {
        scene.shards[1].take_over(transfer, scene.now);
    }
    scene.pass(20_000);
    scene.settle();
    assert_eq!(scene.received(), Vec::<Value>::new());
    assert!(scene.shards[1].is_empty());
}

/// An order for all sessions that reaches these shards.
fn kick(scene: &mut Scene, number: u64, shards: &[usize]) {
    for shard in shards {
        let order = SessionOrder::End { goodbye: Goodbye::Kicked, spread: Duration::from_secs(5) };
        let order = NumberedOrder { number, selector: SessionSelector::All, order };
        scene.shards[*shard].order(order, Box::new(|| 1), std::sync::mpsc::channel().0, scene.now);
    }
}

/// Whether the client has been told to go, and to wait before it comes back.
fn is_kicked(scene: &Scene) -> bool {
    let bytes = scene.pipe.borrow();
    let text = String::from_utf8_lossy(&bytes.to_client);
    text.contains(r#""code":"kicked""#) && text.contains("reconnect_ms")
}

#[test]
fn an_order_reaches_a_session_that_is_on_its_way_to_another_view() {
    for (name, before, meanwhile, afterwards, expected) in [
        ("both have looked before it arrives", &[][..], &[0, 1][..], &[][..], true),
        ("the one that it left looks too late", &[], &[1], &[0], true),
        ("the one that it goes to looks later", &[], &[0], &[1], true),
        ("the order waits where it arrives", &[0], &[], &[1], true),
        ("both have had it and have not begun", &[0, 1], &[], &[], true),
        ("there is no order", &[], &[], &[], false),
    ] {
        let mut scene = Scene::open(1000);
        scene.settle();
        kick(&mut scene, 7, before);
        // The order is in the mailbox, and the shard has not begun with it.
        let ((from, id), grant) = (scene.place, scene.grants[1].clone());
        assert!(!scene.shards[from].change_grant(id, grant, scene.now, &mut Vec::new()), "{name}");
        let transfers = scene.shards[from].take_transfers();
        kick(&mut scene, 7, meanwhile);
        scene.settle();
        for transfer in transfers {
            scene.shards[1].take_over(transfer, scene.now);
        }
        kick(&mut scene, 7, afterwards);
        scene.settle();
        assert_eq!(is_kicked(&scene), expected, "{name}");
    }
}

#[test]
fn an_order_that_has_looked_at_a_session_does_not_follow_it_to_another_view() {
    let mut scene = Scene::open(1000);
    scene.grants[1].rights = Arc::new(Rights { tier: "free".into(), ..Rights::clone(&scene.grants[1].rights) });
    scene.settle();
    let order = SessionOrder::End { goodbye: Goodbye::Kicked, spread: Duration::ZERO };
    let order = NumberedOrder { number: 1, selector: SessionSelector::Tier("free".into()), order };
    for shard in 0..2 {
        scene.shards[shard].order(order.clone(), Box::new(|| 1), std::sync::mpsc::channel().0, scene.now);
    }
    scene.settle();
    scene.move_to(1);
    scene.settle();
    assert!(!is_kicked(&scene), "it had another tier when all of that tier were sent away");
}

#[test]
fn an_order_tells_how_many_sessions_it_has_reached() {
    let mut scene = Scene::open(1000);
    scene.settle();
    let (reached, sessions) = ReachedSessions::parts();
    for shard in &mut scene.shards {
        let order = SessionOrder::End { goodbye: Goodbye::Kicked, spread: Duration::ZERO };
        let order = NumberedOrder { number: 1, selector: SessionSelector::All, order };
        shard.order(order, Box::new(|| 1), reached.clone(), scene.now);
    }
    drop(reached);
    scene.settle();
    assert_eq!(sessions.wait(Duration::from_secs(10)), 1);
}
