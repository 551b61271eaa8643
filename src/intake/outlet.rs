//! What leaves the intake: frames and the feed's state to the publisher, numbers to the meters, samples to the log.

use std::collections::HashSet;
use std::fmt::Display;

use metrics::{Counter, Gauge};

use crate::bus::feed::{FeedState, StaleReason};
use crate::bus::keeping::{GapReason, Keeping, Note};
use crate::bus::publisher::Publisher;
use crate::wire::encode::Payload;
use crate::words::metrics::{self as names, Meters};
use crate::words::stamp::Stamp;

use super::flow::habit::StaleAfter;
use super::flow::sequence::Remedy;
use super::flow::{Flow, Outflow, Piece};
use super::line::loss::Loss;
use super::pool::merge::{Merger, Source, Turn};
use super::profile::hidden::Hidden;
use super::profile::rule::Class;
use super::sorting::{Incoming, Sorted};

/// A class is sampled in the log at most this often.
const SAMPLE_NS: u64 = 10_000_000_000;
/// The flow looks at a tenth of the topics each time.
const FLOW_TICK_NS: u64 = 100_000_000;
/// Topics whose numbers and habits are remembered; the publisher's own limit is usually lower.
const TOPICS_MAX: usize = 1_000_000;
/// Characters of a message that the log shows.
const SAMPLE_CHARS: usize = 200;
/// Troubles that are remembered for a report.
const TROUBLES_MAX: usize = 16;

/// What the public is told: fanline's own words. What the venue or the system has said is in the log.
const REFUSED_FOR_GOOD: &str = "the feed has refused this server for good; whoever operates it has to act";
const SILENT: &str = "the feed is silent";
const WAITING: &str = "the connection to the feed stands again, but nothing has come over it yet";
const NOT_SENT: &str = "the feed does not send this topic";

/// What happened so far, for a report.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub connects: u64,
    /// Messages by `Class as usize`.
    pub messages: [u64; Class::ALL.len()],
    /// The first troubles, each once.
    pub troubles: Vec<String>,
}

impl Tally {
    pub fn trouble(&mut self, trouble: String) {
        if self.troubles.len() < TROUBLES_MAX && !self.troubles.contains(&trouble) {
            self.troubles.push(trouble);
        }
    }
}

pub(super) struct Outlet {
    flow: Flow,
    merger: Merger,
    /// Several connections carry the same.
    merging: bool,
    /// When the flow is to be called next; it wants that ten times a second.
    flow_tick_ns: u64,
    press: Press,
    meters: OutletMeters,
    all_meters: Meters,
    /// Of what the venue says this is not logged.
    hidden: Hidden,
    samples: [Sample; Class::ALL.len()],
}

/// Publishes, and knows whether what was published is current.
struct Press {
    publisher: Publisher,
    refusals: Sample,
    live: bool,
    /// Since when what was published may be outdated; none while the feed is live.
    stale_since_ms: Option<u64>,
    last_data: Gauge,
    /// What was asked for since it was last looked.
    remedies: Vec<(String, Remedy)>,
    tally: Tally,
    /// Topics that are not asked for any more; they are live again with their next frame.
    lapsed: HashSet<String>,
    /// Of connections, of topics.
    gaps: [Counter; 2],
    stale_topics: Counter,
}

struct OutletMeters {
    connects: Counter,
    messages: [Counter; Class::ALL.len()],
    bytes: Counter,
}

/// When a class was last shown in the log, and how many were not shown since.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    next_ns: u64,
    hidden: u64,
}

impl Outlet {
    pub fn new(
        publisher: Publisher,
        (stale_after, legs): (StaleAfter, usize),
        hidden: Hidden,
        meters: &Meters,
    ) -> Outlet {
        for reason in Loss::LABELS {
            meters.counter(&names::UPSTREAM_RECONNECTS, &[("reason", reason)]).absolute(0);
        }
        let press = Press {
            publisher,
            refusals: Sample::default(),
            live: false,
            stale_since_ms: None,
            remedies: Vec::new(),
            lapsed: HashSet::new(),
            gaps: ["connection", "topic"].map(|scope| meters.counter(&names::UPSTREAM_GAPS, &[("scope", scope)])),
            stale_topics: meters.counter(&names::UPSTREAM_STALE, &[]),
            last_data: meters.gauge(&names::UPSTREAM_LAST_DATA, &[]),
            tally: Tally::default(),
        };
        Outlet {
            flow: Flow::new(stale_after, TOPICS_MAX),
            flow_tick_ns: 0,
            merger: Merger::new(legs, meters),
            merging: false,
            press,
            meters: OutletMeters {
                connects: meters.counter(&names::UPSTREAM_CONNECTS, &[]),
                messages: Class::ALL
                    .map(|class| meters.counter(&names::UPSTREAM_MESSAGES, &[("class", class.label())])),
                bytes: meters.counter(&names::UPSTREAM_BYTES, &[]),
            },
            all_meters: meters.clone(),
            hidden,
            samples: Default::default(),
        }
    }

    pub fn tally(&self) -> &Tally {
        &self.press.tally
    }

    /// A connection stands; whether its data flows is to be seen.
    pub fn connected(&mut self) {
        self.meters.connects.increment(1);
        self.press.tally.connects += 1;
    }

    /// One thing of one topic, from this connection.
    pub fn piece(&mut self, source: Source, piece: &Piece<'_>) {
        let Outlet { flow, press, merger, merging, .. } = self;
        if *merging {
            merger.meet(piece.topic, || flow.newest(piece.topic));
        }
        let publish = &mut |piece: &Piece<'_>, turn| pass(flow, press, piece, turn);
        if *merging {
            merger.take(source, piece, publish);
        } else {
            publish(piece, Turn::OfLine(source.line));
        }
    }

    /// From now on several connections carry the same, or they do not any more.
    pub fn merge(&mut self, merging: bool) {
        if self.merging && !merging {
            let Outlet { flow, press, merger, .. } = self;
            merger.tick(Stamp { wall_ms: 0, mono_ns: u64::MAX }, &mut |piece, turn| pass(flow, press, piece, turn));
            merger.clear();
        }
        self.merging = merging;
    }

    pub fn merger(&mut self) -> &mut Merger {
        &mut self.merger
    }

    /// What came over one connection goes on over its successor, except in these topics.
    pub fn goes_on(&mut self, (old, new): (u32, u32), except: &[String]) {
        self.flow.goes_on((old, new), except);
    }

    /// Does what time alone brings about. Everything that came until `polled` was heard; only for what did not come until
    /// then nobody waits any longer.
    pub fn tick(&mut self, now: Stamp, polled: Stamp) {
        let Outlet { flow, press, merger, .. } = self;
        merger.tick(polled, &mut |piece, turn| pass(flow, press, piece, turn));
        if self.flow_tick_ns <= now.mono_ns {
            self.flow_tick_ns = now.mono_ns + FLOW_TICK_NS;
            flow.tick(now, press);
        }
    }

    /// While there is no connection no topic is judged by its silence.
    pub fn paused(&mut self, paused: bool) {
        self.flow.paused(paused);
    }

    pub fn deadline_ns(&self) -> Option<u64> {
        let flow_tick = self.flow.is_judging().then_some(self.flow_tick_ns);
        self.merger.deadline_ns().into_iter().chain(flow_tick).min()
    }

    /// Something is missing on a connection, in which of these topics is not known.
    pub fn gap(&mut self, topics: impl Iterator<Item = String>, missed: Option<u64>, received: Stamp) {
        self.press.gaps[0].increment(1);
        for topic in topics {
            self.press.note(&topic, Note::Gap { reason: GapReason::Sequence, missed: None }, received);
        }
        tracing::warn!(missed, "upstream: messages are missing on a connection");
    }

    /// What is to be done about gaps, since this was last asked.
    pub fn remedies(&mut self) -> Vec<(String, Remedy)> {
        std::mem::take(&mut self.press.remedies)
    }

    /// A topic is not asked for any more: what is known of it grows old.
    pub fn lapses(&mut self, topic: &str, now: Stamp) {
        let message = "nobody wanted it for a while, so the upstream is not asked for it".to_string();
        self.press.note(topic, Note::Stale { since_ms: now.wall_ms, message }, now);
        self.press.lapsed.insert(topic.to_string());
        self.flow.lapses(topic);
    }

    /// The upstream refuses a topic.
    pub fn refuses(&mut self, topic: &str, message: String, now: Stamp) {
        let message = self.hidden.mask(&message);
        tracing::warn!(topic, "upstream: refused: {message}");
        self.press.tally.trouble(format!("refused `{topic}`: {message}"));
        self.press.note(topic, Note::Refused { message: NOT_SENT.to_string() }, now);
    }

    /// A connection is lost; `plan` says what is being done about it. The feed is down if it was the last one.
    pub fn lost(&mut self, loss: &Loss, plan: impl Display, was_last: bool, now: Stamp) {
        debug_assert!(Loss::LABELS.contains(&loss.label()), "{}", loss.label());
        self.all_meters.counter(&names::UPSTREAM_RECONNECTS, &[("reason", loss.label())]).increment(1);
        let sentence = loss.to_string();
        let sentence = self.hidden.mask(&sentence);
        tracing::warn!(reason = loss.label(), "upstream: {sentence}; {plan}");
        self.press.tally.trouble(sentence.into_owned());
        if was_last {
            self.press.stale(StaleReason::UpstreamDown, now.wall_ms, loss.told());
        }
    }

    /// The upstream has said that there will be nothing more.
    pub fn refused(&mut self, sentence: &str, now: Stamp) {
        tracing::error!("upstream: {sentence}");
        self.press.tally.trouble(sentence.to_string());
        self.press.stale(StaleReason::UpstreamDown, now.wall_ms, REFUSED_FOR_GOOD.to_string());
    }

    /// A connection stands, and has brought nothing yet.
    pub fn waits(&mut self) {
        if let (false, Some(since_ms)) = (self.press.live, self.press.stale_since_ms) {
            self.press.stale(StaleReason::UpstreamSilent, since_ms, WAITING.to_string());
        }
    }

    /// The connection stands, but nothing has come since then.
    pub fn silent(&mut self, since: Stamp, message: String) {
        tracing::warn!("upstream: {message}");
        self.press.stale(StaleReason::UpstreamSilent, since.wall_ms, SILENT.to_string());
    }

    /// One message is sorted.
    pub fn note(&mut self, sorted: &Sorted, message: Incoming<'_>, received: Stamp) {
        let class = sorted.class;
        self.meters.messages[class as usize].increment(1);
        self.press.tally.messages[class as usize] += 1;
        let bytes = match message {
            Incoming::Text(text) => text.len(),
            Incoming::Binary(bytes) => bytes.len(),
        };
        self.meters.bytes.increment(bytes as u64);
        if sorted.problem.is_some() || !matches!(class, Class::Data | Class::Ignore) {
            self.show(class, sorted, message, received);
        }
    }

    fn show(&mut self, class: Class, sorted: &Sorted, message: Incoming<'_>, received: Stamp) {
        let Some(hidden) = self.samples[class as usize].take(received) else { return };
        let sample = excerpt(message);
        let sample = self.hidden.mask(&sample);
        let rule = sorted.rule.as_deref().unwrap_or("none");
        match (class, &sorted.problem) {
            (_, Some(problem)) => {
                tracing::warn!(class = class.label(), rule, hidden, "upstream: {problem}: {sample}");
                self.press.tally.trouble(format!("{}: {problem}: {sample}", class.label()));
            }
            (Class::Nack, None) => {
                tracing::warn!(rule, hidden, "upstream refused a request: {sample}");
                self.press.tally.trouble(format!("refused: {sample}"));
            }
            _ => tracing::debug!(class = class.label(), rule, hidden, "upstream: {sample}"),
        }
    }
}

impl Press {
    /// What is stale stays so since the same moment, whatever else goes wrong.
    fn stale(&mut self, reason: StaleReason, since_ms: u64, message: String) {
        self.live = false;
        let since_ms = *self.stale_since_ms.get_or_insert(since_ms);
        self.publisher.announce(FeedState::Stale { reason, since_ms, message });
    }
}

impl Outflow for Press {
    fn publish(&mut self, topic: &str, payload: Payload, keeping: Keeping, received: Stamp) {
        if !self.lapsed.is_empty() && self.lapsed.remove(topic) {
            self.note(topic, Note::Live, received);
        }
        if let Err(error) = self.publisher.publish(topic, payload, keeping, received) {
            if let Some(hidden) = self.refusals.take(received) {
                tracing::warn!(hidden, "frame not published: {error}");
            }
            self.tally.trouble(error.to_string());
            return;
        }
        self.last_data.set(received.wall_ms as f64 / 1000.0);
        if !self.live {
            self.live = true;
            self.stale_since_ms = None;
            self.publisher.announce(FeedState::Live);
        }
    }

    fn note(&mut self, topic: &str, note: Note, received: Stamp) {
        match note {
            Note::Gap { .. } => self.gaps[1].increment(1),
            Note::Stale { .. } => self.stale_topics.increment(1),
            Note::Live | Note::Refused { .. } => {}
        }
        if let Err(error) = self.publisher.note(topic, note, received) {
            self.tally.trouble(error.to_string());
        }
    }

    fn remedy(&mut self, topic: &str, remedy: Remedy) {
        self.remedies.push((topic.to_string(), remedy));
    }
}

/// Hands a piece on, when its turn has come.
fn pass(flow: &mut Flow, press: &mut Press, piece: &Piece<'_>, turn: Turn) {
    match turn {
        Turn::InOrder => {
            flow.listen_to(None);
            flow.take(piece, press);
        }
        Turn::OfLine(line) => {
            flow.listen_to(Some(line));
            flow.take(piece, press);
        }
        Turn::Late => flow.take_late(piece, press),
    }
}

impl Sample {
    /// Whether one may be shown now, and how many were hidden since the last.
    fn take(&mut self, now: Stamp) -> Option<u64> {
        if now.mono_ns < self.next_ns {
            self.hidden += 1;
            return None;
        }
        self.next_ns = now.mono_ns + SAMPLE_NS;
        Some(std::mem::take(&mut self.hidden))
    }
}

/// The beginning of a message, fit for a log line.
pub(super) fn excerpt(message: Incoming<'_>) -> String {
    match message {
        Incoming::Text(text) => shortened(text),
        Incoming::Binary(bytes) => shortened(&String::from_utf8_lossy(&bytes[..bytes.len().min(SAMPLE_CHARS)])),
    }
}

fn shortened(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().take(SAMPLE_CHARS).map(clean).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_sampled_and_the_rest_counted() {
        let mut sample = Sample::default();
        let at = |mono_ns| Stamp { wall_ms: 0, mono_ns };
        assert_eq!(sample.take(at(0)), Some(0));
        assert_eq!(sample.take(at(1)), None);
        assert_eq!(sample.take(at(SAMPLE_NS - 1)), None);
        assert_eq!(sample.take(at(SAMPLE_NS)), Some(2));
    }

    #[test]
    fn an_excerpt_is_short_and_on_one_line() {
        assert_eq!(excerpt(Incoming::Text("a\nb")), "a b");
        let long = "é".repeat(SAMPLE_CHARS + 1);
        assert_eq!(excerpt(Incoming::Text(&long)).chars().count(), SAMPLE_CHARS + 1);
        assert_eq!(excerpt(Incoming::Binary(&[0xFF])), "\u{FFFD}");
    }
}
