//! Nodes, a board and a feed on a network that loses, delays and repeats, with takeovers, driven by one seed.
//!
//! I7: a request reaches the feed at most once, and is answered exactly once. And once all is calm, the board has what
//! the nodes want, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::demand::requests::{OpenRequests, RequestNumber, TakenRequests};
use crate::demand::want_board::{FORGOTTEN_AFTER, NODES_PER_TOPIC, WantBoard, WantChange};
use crate::demand::want_list::WantList;
use crate::demand::{WantMessage, WantNews};

const SEEDS: u64 = 300;
const STEP: Duration = Duration::from_millis(10);
const ANSWER: Duration = Duration::from_secs(10);

enum DemandMail {
    Want(WantMessage),
    Whole { node: usize },
    Ask { term: u64, request: RequestNumber },
    Answer { node: usize, request: RequestNumber },
}

struct Nodes {
    rng: StdRng,
    now: Duration,
    lists: Vec<WantList>,
    open: Vec<OpenRequests>,
    board: WantBoard,
    /// What the feed is asked for, by the changes that the board gave.
    asked_feed: BTreeSet<Arc<str>>,
    term: u64,
    taken: TakenRequests,
    /// When mail arrives; several at a time keep their order.
    mail: BTreeMap<(Duration, u64), DemandMail>,
    sent: u64,
    is_calm: bool,
    reached_feed: BTreeMap<RequestNumber, u32>,
    answers: BTreeMap<RequestNumber, u32>,
}

impl Nodes {
    fn new(seed: u64) -> Nodes {
        let start = Duration::ZERO;
        Nodes {
            rng: StdRng::seed_from_u64(seed),
            now: start,
            lists: (1..=3).map(|node| WantList::new(node, start)).collect(),
            open: (1..=3).map(OpenRequests::new).collect(),
            board: WantBoard::new(1000),
            asked_feed: BTreeSet::new(),
            term: 1,
            taken: TakenRequests::new(1),
            mail: BTreeMap::new(),
            sent: 0,
            is_calm: false,
            reached_feed: BTreeMap::new(),
            answers: BTreeMap::new(),
        }
    }

    fn send(&mut self, mail: impl Fn() -> DemandMail) {
        let copies = if self.is_calm { 1 } else { [0, 1, 1, 1, 1, 1, 2][self.rng.random_range(0..7)] };
        for _ in 0..copies {
            let delay_ms = if self.rng.random_bool(0.1) { self.rng.random_range(1..3000) } else { 1 };
            self.sent += 1;
            self.mail.insert((self.now + Duration::from_millis(delay_ms), self.sent), mail());
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        let node = self.rng.random_range(0..3);
        if !self.is_calm {
            match self.rng.random_range(0..100) {
                0..5 => self.change(node),
                5..10 => self.ask(node),
                10 if self.rng.random_bool(0.1) => self.take_over(),
                11 if self.rng.random_bool(0.1) => self.restart(node),
                _ => {}
            }
        }
        while let Some(entry) = self.mail.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let mail = entry.remove();
            self.arrive(mail);
        }
        for node in 0..3 {
            if let Some(beat) = self.lists[node].tick(self.now) {
                self.send(|| DemandMail::Want(beat.clone()));
            }
            for request in self.open[node].tick(self.now) {
                *self.answers.entry(request).or_default() += 1;
            }
        }
        let changes = self.board.tick(self.now);
        self.follow(changes);
    }

    fn change(&mut self, node: usize) {
        let topic: Arc<str> = format!("t{}", self.rng.random_range(0..20)).into();
        let messages =
            if self.rng.random() { self.lists[node].change([topic], []) } else { self.lists[node].change([], [topic]) };
        messages.into_iter().for_each(|message| self.send(|| DemandMail::Want(message.clone())));
    }

    fn ask(&mut self, node: usize) {
        let term = self.term;
        let request = self.open[node].ask(Some(term), self.now, ANSWER).expect("few are open");
        self.answers.insert(request, 0);
        self.send(|| DemandMail::Ask { term, request });
    }

    fn take_over(&mut self) {
        self.term += 1;
        (self.board, self.taken) = (WantBoard::new(1000), TakenRequests::new(self.term));
        self.asked_feed.clear();
        for node in 0..3 {
            self.send(|| DemandMail::Whole { node });
            for request in self.open[node].term_begins(self.term) {
                *self.answers.entry(request).or_default() += 1;
            }
        }
    }

    fn restart(&mut self, node: usize) {
        let life = self.rng.random_range(1000..1_000_000);
        self.lists[node] = WantList::new(life, self.now);
        self.change(node);
    }

    fn arrive(&mut self, mail: DemandMail) {
        match mail {
            DemandMail::Want(message) => {
                let changes = self.board.hear(message, self.now);
                self.follow(changes);
            }
            DemandMail::Whole { node } => {
                let messages = self.lists[node].whole();
                messages.into_iter().for_each(|message| self.send(|| DemandMail::Want(message.clone())));
            }
            DemandMail::Ask { term, request } => {
                if self.taken.take(term, request) {
                    *self.reached_feed.entry(request).or_default() += 1;
                    let node = request.node as usize - 1;
                    self.send(|| DemandMail::Answer { node, request });
                }
            }
            DemandMail::Answer { node, request } => {
                if self.open[node].answered(request) {
                    *self.answers.entry(request).or_default() += 1;
                }
            }
        }
    }

    fn follow(&mut self, changes: Vec<WantChange>) {
        for change in changes {
            match change {
                WantChange::Wanted(topic) => assert!(self.asked_feed.insert(topic)),
                WantChange::Unwanted(topic) => assert!(self.asked_feed.remove(&topic)),
                WantChange::LeftOut(topic) => panic!("there is room for {topic}"),
                WantChange::Ask { node } => {
                    if let Some(node) = self.lists.iter().position(|list| list.node() == node) {
                        self.send(|| DemandMail::Whole { node });
                    }
                }
            }
        }
    }
}

#[test]
fn each_request_reaches_the_feed_at_most_once_and_the_feed_is_asked_for_what_is_wanted() {
    let (mut answered, mut unanswered, mut terms) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut nodes = Nodes::new(seed);
        while nodes.now < Duration::from_secs(30) {
            nodes.step();
        }
        nodes.is_calm = true;
        // What was sent before has arrived, and nodes that are gone are forgotten.
        let calm = nodes.now + FORGOTTEN_AFTER + Duration::from_secs(10);
        while nodes.now < calm {
            nodes.step();
        }
        let wanted: BTreeSet<Arc<str>> = nodes.lists.iter().flat_map(WantList::topics).cloned().collect();
        assert_eq!(nodes.asked_feed, wanted, "seed {seed}");
        assert_eq!(nodes.board.wanted().cloned().collect::<BTreeSet<_>>(), wanted, "seed {seed}");
        assert!(nodes.reached_feed.values().all(|times| *times == 1), "seed {seed}: I7");
        assert!(nodes.answers.values().all(|times| *times == 1), "seed {seed}: I7: {:?}", nodes.answers);
        answered += nodes.reached_feed.len();
        unanswered += nodes.answers.len() - nodes.reached_feed.len();
        terms += nodes.term;
    }
    assert!(answered > 1000 && unanswered > 100 && terms > SEEDS, "{answered}, {unanswered}, {terms}");
}

#[test]
fn a_list_that_is_too_long_for_a_message_is_told_in_pieces() {
    let mut list = WantList::new(7, Duration::ZERO);
    let topics: Vec<Arc<str>> = (0..40_000).map(|number| format!("ticker.{number:010}").into()).collect();
    let pieces = list.change(topics.iter().cloned(), []);
    assert!(pieces.len() > 1);
    let mut board = WantBoard::new(100_000);
    let changes: Vec<WantChange> = pieces.into_iter().flat_map(|piece| board.hear(piece, Duration::ZERO)).collect();
    assert_eq!(changes.len(), topics.len());
    let beat = list.tick(Duration::from_secs(9)).expect("it is due");
    assert_eq!(board.hear(beat, Duration::from_secs(9)), []);
}

#[test]
fn nodes_that_want_more_than_they_may_take_no_more_memory() {
    let topics = |names: std::ops::Range<u32>| names.map(|number| Arc::from(format!("t{number}")));
    let mut board = WantBoard::new(10);
    let mut left_out = 0;
    for node in 1..=2 * NODES_PER_TOPIC as u64 {
        let mut list = WantList::new(node, Duration::ZERO);
        let changes = list.change(topics(0..100), []).into_iter().flat_map(|it| board.hear(it, Duration::ZERO));
        left_out += changes.filter(|change| matches!(change, WantChange::LeftOut(_))).count();
    }
    let wants = 10 * NODES_PER_TOPIC;
    assert_eq!((board.wanted().count(), board.wants()), (10, wants));
    assert_eq!(left_out, 200 * NODES_PER_TOPIC - wants);
    let changes = board.tick(FORGOTTEN_AFTER * 2);
    assert_eq!((changes.len(), board.wanted().count(), board.wants()), (10, 0, 0));
}

#[test]
fn a_list_in_more_pieces_than_it_may_have_is_cut() {
    let mut board = WantBoard::new(10);
    for piece in 0..100 {
        let topics = (0..10).map(|number| Arc::from(format!("t{piece}.{number}"))).collect();
        let news = WantNews::Whole { piece, is_last: piece == 99, topics };
        board.hear(WantMessage { node: 7, version: 1, news }, Duration::ZERO);
    }
    assert_eq!(board.wanted().map(|topic| topic.starts_with("t0.")).collect::<Vec<_>>(), [true; 10]);
}
