//! What one client received, held against the recording message by message: nothing twice, nothing in between left out.
//!
//! After each answer to a command, and after each `skipped`, a client may get current values; from there on it must get
//! every frame that it asked for, in order. A frame that is left out without `skipped` ends the test. A paced client must
//! get the newest frame of each topic, and none before one that it has.

use std::collections::HashMap;

use serde::Deserialize;

use super::tape::Tape;

#[derive(Default)]
pub struct Ledger {
    /// Patterns in force.
    patterns: Vec<String>,
    /// Everything up to here was received, was skipped or was not asked for; none before the first answer.
    position: Option<u64>,
    /// Current values that may come next. One is left out if a newer one of its topic came in between.
    current: Vec<u64>,
    /// Frames received one by one.
    pub live: u64,
    /// Current values received.
    pub values: u64,
    /// Frames that were skipped, and how often `skipped` reported some.
    pub skipped: u64,
    pub skips: u64,
    /// Answers to `subscribe` and `unsubscribe`.
    pub answers: u64,
    pub pongs: u64,
    /// Of this connection, with its epoch, `since` is known.
    epoch: String,
    /// The next answer is that to a `since`: nothing that follows the position may be left out.
    resumes: bool,
    /// None for every frame.
    paced: Option<Paced>,
    /// In force with the next answer.
    paced_next: bool,
}

/// What is known of each topic while only the newest is due.
struct Paced {
    start: u64,
    /// Received last of each topic since the start.
    seen: HashMap<String, u64>,
}

#[derive(Deserialize)]
struct Notice {
    op: String,
    #[serde(default)]
    topics: Vec<String>,
    epoch: Option<String>,
    offset: Option<u64>,
    from: Option<u64>,
    to: Option<u64>,
}

impl Ledger {
    /// Takes the next message that the client received.
    pub fn take(&mut self, text: &str, tape: &Tape) {
        if !text.starts_with(r#"{"op":"#) {
            return self.take_frame(tape.locate(text), tape);
        }
        let notice: Notice = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        match (&*notice.op, notice.offset, notice.from.zip(notice.to)) {
            ("subscribed", Some(_), _) if self.resumes => {
                self.answers += 1;
                self.resumes = false;
            }
            ("subscribed" | "unsubscribed", Some(offset), _) => {
                self.answers += 1;
                let before = std::mem::replace(&mut self.patterns, notice.topics);
                let paced = self.paced.take();
                if paced.is_none() {
                    self.reach(offset, &before, tape);
                }
                self.position = Some(offset);
                // The newest of each topic that was not asked for before, or was not due yet.
                let is_due = |newest, topic: &str| {
                    !matches(&before, topic) || paced.as_ref().is_some_and(|paced| newest > paced.last(topic))
                };
                self.current = self.newest(offset, tape, is_due);
                self.paced = self.paced_next.then(|| Paced { start: offset, seen: HashMap::new() });
            }
            ("skipped", _, Some((from, to))) => {
                self.skips += 1;
                self.reach(from - 1, &self.patterns.clone(), tape);
                self.skipped += (from..=to).filter(|offset| self.wants(*offset, tape)).count() as u64;
                self.position = Some(to);
                self.current = self.newest(to, tape, |offset, _| offset >= from);
            }
            // Nothing is subscribed to yet.
            ("heartbeat", ..) if self.resumes => {}
            ("heartbeat", Some(offset), _) => self.reach(offset, &self.patterns.clone(), tape),
            ("pong", ..) => self.pongs += 1,
            ("welcome", ..) => self.epoch = notice.epoch.expect("an epoch"),
            ("live" | "stale", ..) => {}
            _ => panic!("expected a notice of the protocol, found {text}"),
        }
    }

    /// Whether everything up to `offset` has arrived.
    pub fn is_at(&self, offset: u64, tape: &Tape) -> bool {
        let Some(position) = self.position else { return false };
        if let Some(paced) = &self.paced {
            return self.newest(offset, tape, |newest, topic| newest > paced.last(topic)).is_empty();
        }
        self.current.is_empty() && !(position + 1..=offset).any(|offset| self.wants(offset, tape))
    }

    /// Patterns in force.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// The next answer says that the client receives each topic at a pace, or every frame again.
    pub fn expect_pace(&mut self, paced: bool) {
        self.paced_next = paced;
    }

    pub fn is_paced(&self) -> bool {
        self.paced.is_some()
    }

    /// The client left, and comes back with the cursor that this gives.
    pub fn resume(&mut self) -> String {
        assert!(self.current.is_empty(), "the cursor is not known among current values");
        self.resumes = true;
        format!("{}:{}", self.epoch, self.position())
    }

    pub fn position(&self) -> u64 {
        self.position.unwrap_or_default()
    }

    fn take_frame(&mut self, offset: u64, tape: &Tape) {
        assert!(self.wants(offset, tape), "offset {offset} was not asked for");
        if let Some(seat) = self.current.iter().position(|current| *current == offset) {
            self.current.drain(..=seat);
            self.values += 1;
            return;
        }
        self.current.clear();
        self.live += 1;
        if let Some(paced) = &mut self.paced {
            let topic = &tape.frame(offset).topic;
            let last = paced.last(topic);
            assert!(offset > last, "after offset {last} of {topic} came {offset}");
            paced.seen.insert(topic.clone(), offset);
            self.position = self.position.max(Some(offset));
            return;
        }
        self.reach(offset - 1, &self.patterns.clone(), tape);
        self.position = Some(offset);
    }

    /// Moves on to `offset`, which must not lie behind; nothing that was asked for may lie in between.
    fn reach(&mut self, offset: u64, patterns: &[String], tape: &Tape) {
        if let Some(paced) = &self.paced {
            let missed = self.newest(offset, tape, |newest, topic| newest > paced.last(topic));
            assert!(missed.is_empty(), "offsets {missed:?} are the newest of their topics, and were left out");
            self.position = self.position.max(Some(offset));
            return;
        }
        let position = self.position.unwrap_or(offset);
        assert!(offset >= position, "after offset {position} came {offset} once more");
        let missed = (position + 1..=offset).find(|offset| matches(patterns, &tape.frame(*offset).topic));
        assert_eq!(missed, None, "a frame between {position} and {offset} was left out without a word");
        self.position = Some(offset);
    }

    fn wants(&self, offset: u64, tape: &Tape) -> bool {
        matches(&self.patterns, &tape.frame(offset).topic)
    }

    /// Newest offsets of all topics asked for as of `until`, in order.
    fn newest(&self, until: u64, tape: &Tape, is_due: impl Fn(u64, &str) -> bool) -> Vec<u64> {
        let mut seen: Vec<&str> = Vec::new();
        let mut found = Vec::new();
        for offset in (1..=until).rev().take(tape.end() as usize) {
            let topic = &*tape.frame(offset).topic;
            if !seen.contains(&topic) {
                seen.push(topic);
                if self.wants(offset, tape) && is_due(offset, topic) {
                    found.push(offset);
                }
            }
        }
        found.reverse();
        found
    }
}

impl Paced {
    /// Offset up to which nothing of the topic is due.
    fn last(&self, topic: &str) -> u64 {
        self.seen.get(topic).copied().unwrap_or(self.start)
    }
}

/// Said a second time and without fanline's own matcher: a topic, or all that begin as the pattern does.
fn matches(patterns: &[String], topic: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => topic.starts_with(start),
        None => topic == pattern,
    })
}
