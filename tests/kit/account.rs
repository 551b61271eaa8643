//! The books of one client that comes and goes: what it was promised, what it got, what was reported as missing.
//!
//! Written from docs/PROTOCOL.md alone. A *run* is a stretch of the stream that one cursor leads through, over any
//! number of connections; it ends when the cursor is lost, and is audited then. What is due is known from the tape.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::tape::Tape;

/// A pattern, and which topics it matches.
type Matching = (&'static str, fn(&str) -> bool);

/// Patterns, and what they match, said a second time and without fanline's own matcher.
pub const PATTERNS: [Matching; 6] = [
    (">", |_| true),
    ("*@trade", |topic| topic.ends_with("@trade")),
    ("btcusdt@*", |topic| topic.starts_with("btcusdt@")),
    ("ethusdt@bookTicker", |topic| topic == "ethusdt@bookTicker"),
    ("*@depth@*", |topic| topic.contains("@depth@")),
    ("nothing.like.this", |_| false),
];

/// Indices into `PATTERNS`.
pub type Interest = BTreeSet<usize>;

fn wants(interest: &Interest, topic: &str) -> bool {
    interest.iter().any(|index| PATTERNS[*index].1(topic))
}

/// What a client asked for and has no answer to.
#[derive(Clone, Copy, Debug)]
pub enum Request {
    /// The first subscription of a connection: everything in force, with the cursor if it is known.
    Opening,
    Subscribe(usize),
    Unsubscribe(usize),
}

/// Totals over all runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub runs: u64,
    /// Offsets that were due, and what became of them.
    pub due: u64,
    pub received: u64,
    pub missed: u64,
    /// Current values that answered a subscription.
    pub values: u64,
    /// Ranges reported as skipped, by reason.
    pub skipped_slow: u64,
    pub skipped_expired: u64,
}

pub struct Account<'t> {
    tape: &'t Tape,
    interest: Interest,
    epoch: Option<String>,
    cursor: Option<u64>,
    /// Set by the answer to a further `subscribe`: from then on the cursor is unknown until the stream is beyond.
    limbo: Option<u64>,
    request: Option<Request>,
    /// Frames up to here are current values, not the stream; only on this connection.
    values_until: u64,
    /// The newest current value since the last answer.
    value_last: u64,
    run: Option<Run>,
    totals: Totals,
}

struct Run {
    /// Everything after is due, as far as it was subscribed to.
    start: u64,
    /// Offset after which an interest holds; the first one holds from the start.
    changes: Vec<(u64, Interest)>,
    /// Offsets of the stream, in the order received.
    stream: Vec<u64>,
    /// The newest offset of the stream that was received or told by a heartbeat.
    reached: u64,
    /// Topic and offset of current values, by the offset of the answer before them.
    values: Vec<(u64, HashMap<String, u64>)>,
    skipped: Vec<(u64, u64)>,
}

impl<'t> Account<'t> {
    pub fn new(tape: &'t Tape, interest: Interest) -> Account<'t> {
        Account {
            tape,
            interest,
            epoch: None,
            cursor: None,
            limbo: None,
            request: None,
            values_until: 0,
            value_last: 0,
            run: None,
            totals: Totals::default(),
        }
    }

    pub fn interest(&self) -> &Interest {
        &self.interest
    }

    /// `EPOCH:OFFSET` to resume from, if it is known.
    pub fn since(&self) -> Option<String> {
        Some(format!("{}:{}", self.epoch.as_ref()?, self.cursor?))
    }

    /// Whether a command may be sent whose answer can be distinguished from others.
    pub fn is_idle(&self) -> bool {
        self.request.is_none() && self.limbo.is_none()
    }

    /// A command was sent, or a connection opened.
    pub fn ask(&mut self, request: Request) {
        assert!(self.request.replace(request).is_none(), "one request at a time");
    }

    /// The connection is lost.
    pub fn lose(&mut self) {
        (self.request, self.values_until, self.value_last) = (None, 0, 0);
        if let Some(answer) = self.limbo.take() {
            // All that was due before the answer had been sent before it.
            self.close_run(answer, true);
        }
    }

    /// Reads one message. True if it is a pong.
    pub fn read(&mut self, text: &str) -> bool {
        if !text.starts_with(r#"{"op":"#) {
            self.frame(self.tape.locate(text));
            return false;
        }
        let notice: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("expected JSON: {text}"));
        let number = |name: &str| notice[name].as_u64().unwrap_or_else(|| panic!("expected `{name}`: {text}"));
        match notice["op"].as_str() {
            Some("welcome") => {
                let epoch = notice["epoch"].as_str().map(String::from);
                assert!(self.epoch.is_none() || self.epoch == epoch, "one epoch: {text}");
                self.epoch = epoch;
            }
            Some("subscribed" | "unsubscribed") => self.answer(number("offset")),
            Some("heartbeat") => self.heartbeat(number("offset")),
            Some("skipped") => self.skipped(number("from"), number("to"), notice["reason"].as_str()),
            Some("pong") => return true,
            Some("stale" | "live") => {}
            _ => panic!("expected no such message: {text}"),
        }
        false
    }

    fn answer(&mut self, offset: u64) {
        let request = self.request.take().expect("an answer follows a request");
        match request {
            Request::Opening if self.cursor.is_none() => {
                if let Some(run) = &self.run {
                    assert!(run.stream.is_empty(), "a cursor is lost by a further subscription only");
                }
                self.run = Some(Run::open(offset, &self.interest));
                self.values_until = offset;
            }
            Request::Opening => {
                let since = self.cursor.expect("checked above");
                let run = self.run();
                if run.stream.is_empty() {
                    // Lost among the first values: what was not among them is replayed, and due.
                    run.start = run.start.min(since);
                }
            }
            Request::Subscribe(index) => {
                self.interest.insert(index);
                self.run().change(offset, true);
                (self.values_until, self.value_last) = (offset, 0);
                (self.limbo, self.cursor) = (Some(offset), None);
            }
            Request::Unsubscribe(index) => {
                self.interest.remove(&index);
                self.run().change(offset, false);
            }
        }
        let interest = self.interest.clone();
        if let Some((_, last)) = self.run().changes.last_mut() {
            *last = interest;
        }
    }

    fn frame(&mut self, offset: u64) {
        let topic = &self.tape.frame(offset).topic;
        let (values_until, value_last) = (self.values_until, self.value_last);
        let is_first = self.run().changes.len() == 1;
        if offset <= values_until {
            self.totals.values += 1;
            assert!(offset > value_last, "values come oldest first: {offset} after {value_last}");
            assert_eq!(
                newest(self.tape, topic, values_until),
                Some(offset),
                "the value of {topic} as of {values_until}"
            );
            let run = self.run();
            assert!(run.reached <= values_until, "value {offset} came after the stream had reached {}", run.reached);
            let before = run.changes.len().checked_sub(2).map(|index| &run.changes[index].1);
            let is_new = wants(&run.changes[run.changes.len() - 1].1, topic)
                && before.is_none_or(|before| !wants(before, topic));
            assert!(is_new, "value {offset} of {topic}, which the subscription did not newly match");
            run.values.last_mut().expect("an answer came before").1.insert(topic.clone(), offset);
            self.value_last = offset;
            if is_first && self.limbo.is_none() {
                self.cursor = Some(offset);
            }
            return;
        }
        let run = self.run();
        assert!(offset > run.reached.max(run.start), "{offset} after {}, from {}", run.reached, run.start);
        assert!(wants(run.interest_at(offset), topic), "frame {offset} of {topic}, which was not subscribed to");
        run.stream.push(offset);
        run.reached = offset;
        (self.cursor, self.limbo) = (Some(offset), None);
    }

    fn heartbeat(&mut self, offset: u64) {
        if matches!(self.request, Some(Request::Opening)) {
            // Nothing is subscribed to on this connection, so it tells nothing of what was.
            return;
        }
        let run = self.run();
        run.reached = run.reached.max(offset);
        if self.limbo.is_none_or(|answer| offset >= answer) {
            self.cursor = self.cursor.max(Some(offset));
            self.limbo = None;
        }
    }

    fn skipped(&mut self, from: u64, to: u64, reason: Option<&str>) {
        match reason {
            Some("slow" | "overrun") => self.totals.skipped_slow += 1,
            Some("expired") => self.totals.skipped_expired += 1,
            other => panic!("expected no skip because of {other:?}"),
        }
        let run = self.run();
        assert!(from <= to, "from {from} to {to}");
        assert!(from > run.reached, "from {from} is reported as skipped after {} was reached", run.reached);
        run.skipped.push((from, to));
    }

    /// Everything up to `head` has been sent: audits the last run, and that each topic's newest value is there.
    pub fn settle(mut self, head: u64) -> Totals {
        let run = self.run();
        let stream: BTreeSet<u64> = run.stream.iter().copied().collect();
        let values: BTreeSet<u64> = run.values.iter().flat_map(|(_, values)| values.values().copied()).collect();
        for topic in self.tape.topics().iter().filter(|topic| wants(&self.interest, topic)) {
            let Some(newest) = newest(self.tape, topic, head) else { continue };
            assert!(stream.contains(&newest) || values.contains(&newest), "the latest of {topic} is {newest}");
        }
        self.close_run(head, false);
        self.totals
    }

    fn run(&mut self) -> &mut Run {
        self.run.as_mut().expect("a subscription was answered")
    }

    /// With `cut_short` the values of the last subscription may not have come.
    fn close_run(&mut self, end: u64, cut_short: bool) {
        let Some(mut run) = self.run.take() else { return };
        self.cursor = None;
        if cut_short {
            run.values.pop();
        }
        run.audit(end, self.tape, &mut self.totals);
    }
}

impl Run {
    fn open(offset: u64, interest: &Interest) -> Run {
        Run {
            start: offset,
            changes: vec![(offset, interest.clone())],
            stream: Vec::new(),
            reached: 0,
            values: vec![(offset, HashMap::new())],
            skipped: Vec::new(),
        }
    }

    /// From `offset` on another interest holds, which the caller fills in.
    fn change(&mut self, offset: u64, brings_values: bool) {
        assert!(offset >= self.reached, "an answer of {offset} after {} was reached", self.reached);
        self.changes.push((offset, Interest::new()));
        if brings_values {
            self.values.push((offset, HashMap::new()));
        }
    }

    fn interest_at(&self, offset: u64) -> &Interest {
        let later = self.changes.partition_point(|(from, _)| *from < offset);
        &self.changes[later.saturating_sub(1)].1
    }

    /// Everything that was due up to `end` was received once or reported as missing; nothing was reported without a
    /// cause.
    fn audit(self, end: u64, tape: &Tape, totals: &mut Totals) {
        let due: Vec<u64> = (self.start + 1..=end)
            .filter(|offset| wants(self.interest_at(*offset), &tape.frame(*offset).topic))
            .collect();
        assert!(self.stream.is_sorted_by(|one, next| one < next), "the stream is in order and without repeats");
        let received: BTreeSet<u64> = self.stream.iter().copied().collect();
        let is_reported = |offset: u64| self.skipped.iter().any(|(from, to)| (*from..=*to).contains(&offset));
        let missed: Vec<u64> = due.iter().copied().filter(|offset| !received.contains(offset)).collect();
        let unreported: Vec<u64> = missed.iter().copied().filter(|offset| !is_reported(*offset)).collect();
        assert!(
            unreported.is_empty(),
            "{} of {} missed without a word, first {:?}; from {} to {end}, changes {:?}, told {:?}",
            unreported.len(),
            missed.len(),
            &unreported[..unreported.len().min(5)],
            self.start,
            self.changes,
            self.skips_around(unreported[0])
        );
        for (from, to) in self.skipped.iter().filter(|(from, _)| *from <= end) {
            let first = due.partition_point(|offset| offset < from);
            let has_cause = due.get(first).is_some_and(|offset| offset <= to);
            assert!(has_cause, "{from} to {to} was reported as skipped, and holds nothing of the client's topics");
        }
        self.audit_values(end, tape);
        totals.runs += 1;
        totals.due += due.len() as u64;
        totals.received += self.stream.len() as u64;
        totals.missed += missed.len() as u64;
    }

    /// Each newly matched topic's current value came, unless a newer frame of the topic was there before it was sent.
    fn audit_values(&self, end: u64, tape: &Tape) {
        for (answer, values) in &self.values {
            let change = self.changes.iter().position(|(from, _)| from == answer).expect("values follow an answer");
            let before = change.checked_sub(1).map(|index| &self.changes[index].1);
            let is_new = |topic: &&String| {
                wants(&self.changes[change].1, topic) && before.is_none_or(|before| !wants(before, topic))
            };
            for topic in tape.topics().iter().filter(is_new) {
                let Some(value) = newest(tape, topic, *answer) else { continue };
                // Replayed after a loss among the first values, and audited there.
                let is_due = value > self.start && wants(self.interest_at(value), topic);
                let superseded = newest(tape, topic, end).is_some_and(|newest| newest > *answer);
                let came = is_due || superseded || values.contains_key(topic);
                assert!(came, "the value of {topic}, {value}, did not follow the answer of {answer}");
            }
        }
    }

    fn skips_around(&self, offset: u64) -> &[(u64, u64)] {
        let at = self.skipped.partition_point(|(_, to)| *to < offset);
        &self.skipped[at.saturating_sub(2)..(at + 2).min(self.skipped.len())]
    }
}

/// Offset of the newest frame of a topic up to `offset`.
fn newest(tape: &Tape, topic: &str, offset: u64) -> Option<u64> {
    (1..=offset).rev().take(tape.end() as usize).find(|offset| tape.frame(*offset).topic == topic)
}
