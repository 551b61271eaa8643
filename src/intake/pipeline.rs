//! What leaves the intake: frames and the feed's state to the publisher, numbers to the meters, samples to the log.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;

use crate::bus::demand::interest::Interest;
use crate::bus::feed_state::{FeedState, StaleReason};
use crate::bus::publisher::Publisher;
use crate::bus::topic_status::{GapReason, TopicStatus};
use crate::words::metrics as names;
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;

use crate::intake::arbitrate::arbiter::{Arbiter, Release, UpdateSource};
use crate::intake::assemble::cadence::StaleAfter;
use crate::intake::assemble::sequence::GapRemedy;
use crate::intake::assemble::{Assembler, Update, UpdateSink};
use crate::intake::classify::{Classified, Incoming};
use crate::intake::connection::loss::Loss;
use crate::intake::sample::{Sample, excerpt};
use crate::intake::update_sink::{ItemRefusal, PublisherSink};
use crate::profile::hidden::Hidden;
use crate::profile::rule::MessageClass;

/// The flow looks at a tenth of the topics each time.
const FLOW_TICK_NS: u64 = 100_000_000;
/// Topics whose numbers and habits are remembered; the publisher's own limit is usually lower.
const TOPICS_MAX: usize = 1_000_000;
/// Troubles that are remembered for a report.
const TROUBLES_MAX: usize = 16;

/// What the public is told: fanline's own words. What the venue or the system has said is in the log.
const REFUSED_FOR_GOOD: &str = "the feed has refused this server for good; whoever operates it has to act";
const SILENT: &str = "the feed is silent";
/// What clients are told when the upstream says it of itself.
const OUTDATED: &str = "the feed says that its values may be outdated, because its own source is down or silent";
const TOPIC_OUTDATED: &str = "the feed says that this topic has been silent for longer than is usual for it";

/// What happened so far, for a report.
#[derive(Clone, Debug, Default)]
pub(super) struct ProbeCounts {
    pub connects: u64,
    /// Messages by `MessageClass as usize`.
    pub messages: [u64; MessageClass::ALL.len()],
    /// The first troubles, each once.
    pub troubles: Vec<String>,
}

impl ProbeCounts {
    pub fn trouble(&mut self, trouble: String) {
        if self.troubles.len() < TROUBLES_MAX && !self.troubles.contains(&trouble) {
            self.troubles.push(trouble);
        }
    }
}

pub(super) struct Pipeline {
    flow: Assembler,
    merger: Arbiter,
    /// Several connections carry the same.
    merging: bool,
    /// A topic of which nothing has come for so long is forgotten; none: never.
    expire_after: Option<Duration>,
    /// When the flow is to be called next; it wants that ten times a second.
    flow_tick_ns: u64,
    press: PublisherSink,
    meters: PipelineMeters,
    all_meters: Meters,
    /// Of what the venue says this is not logged.
    hidden: Hidden,
    samples: [Sample; MessageClass::ALL.len()],
}

/// What holds for as long as the process runs.
pub(super) struct PipelineSettings {
    pub stale_after: StaleAfter,
    /// A topic of which nothing has come for so long is forgotten; none: never.
    pub expire_after: Option<Duration>,
    pub legs: usize,
    /// Of what the venue says this is not logged.
    pub hidden: Hidden,
}

struct PipelineMeters {
    connects: Counter,
    messages: [Counter; MessageClass::ALL.len()],
    bytes: Counter,
}

impl Pipeline {
    pub fn new(
        (publisher, interest): (Publisher, Option<Arc<Interest>>),
        settings: PipelineSettings,
        meters: &Meters,
    ) -> Pipeline {
        for reason in Loss::LABELS {
            meters.counter(&names::UPSTREAM_RECONNECTS, &[("reason", reason)]).absolute(0);
        }
        let PipelineSettings { stale_after, expire_after, legs, hidden } = settings;
        Pipeline {
            flow: Assembler::new(stale_after, TOPICS_MAX),
            expire_after,
            flow_tick_ns: 0,
            merger: Arbiter::new(legs, meters),
            merging: false,
            press: PublisherSink::new(publisher, interest, meters),
            meters: PipelineMeters {
                connects: meters.counter(&names::UPSTREAM_CONNECTS, &[]),
                messages: MessageClass::ALL
                    .map(|class| meters.counter(&names::UPSTREAM_MESSAGES, &[("class", class.label())])),
                bytes: meters.counter(&names::UPSTREAM_BYTES, &[]),
            },
            all_meters: meters.clone(),
            hidden,
            samples: Default::default(),
        }
    }

    pub fn tally(&self) -> &ProbeCounts {
        &self.press.tally
    }

    /// A connection stands; whether its data flows is to be seen.
    pub fn connected(&mut self) {
        self.meters.connects.increment(1);
        self.press.tally.connects += 1;
    }

    /// One thing of one topic, from this connection.
    pub fn piece(&mut self, source: UpdateSource, piece: &Update<'_>) {
        let Pipeline { flow, press, merger, merging, .. } = self;
        if *merging {
            merger.meet((piece.topic, piece.received), || flow.newest(piece.topic));
        }
        let publish = &mut |piece: &Update<'_>, turn| pass(flow, press, piece, turn);
        if *merging {
            merger.take(source, piece, publish);
        } else {
            publish(piece, Release::OfLine(source.line));
        }
    }

    /// From now on several connections carry the same, or they do not any more.
    pub fn merge(&mut self, merging: bool) {
        if self.merging && !merging {
            let Pipeline { flow, press, merger, .. } = self;
            merger.tick(Stamp { wall_ms: 0, mono_ns: u64::MAX }, &mut |piece, turn| pass(flow, press, piece, turn));
            merger.clear();
        }
        self.merging = merging;
    }

    pub fn merger(&mut self) -> &mut Arbiter {
        &mut self.merger
    }

    /// What came over one connection goes on over its successor, except in these topics.
    pub fn goes_on(&mut self, (old, new): (u32, u32), except: &[String]) {
        self.flow.goes_on((old, new), except);
    }

    /// Does what time alone brings about. Everything that came until `polled` was heard; only for what did not come until
    /// then nobody waits any longer.
    pub fn tick(&mut self, now: Stamp, polled: Stamp) {
        let Pipeline { flow, press, merger, .. } = self;
        merger.tick(polled, &mut |piece, turn| pass(flow, press, piece, turn));
        if self.flow_tick_ns <= now.mono_ns {
            self.flow_tick_ns = now.mono_ns + FLOW_TICK_NS;
            flow.tick(now, press);
            self.expire(now);
        }
        self.press.tell_log(now);
    }

    /// Forgets topics that have been silent for long.
    fn expire(&mut self, now: Stamp) {
        let Some(silent) = self.expire_after else { return };
        for topic in self.press.publisher.expire(silent, now) {
            tracing::debug!(topic = &*topic.name, "forgotten: nothing has come for {silent:?} (topics.expire_after)");
            self.flow.forget(&topic.name);
            self.merger.forget_topic(&topic.name);
            self.press.expired(&topic.name);
        }
    }

    /// While there is no connection no topic is judged by its silence.
    pub fn paused(&mut self, paused: bool) {
        self.flow.paused(paused);
    }

    pub fn deadline_ns(&self) -> Option<u64> {
        let ticks = self.flow.is_judging() || self.expire_after.is_some();
        let flow_tick = ticks.then_some(self.flow_tick_ns);
        [self.merger.deadline_ns(), flow_tick, self.press.deadline_ns()].into_iter().flatten().min()
    }

    /// Something is missing on a connection, in which of these topics is not known.
    pub fn gap(&mut self, topics: impl Iterator<Item = String>, missed: Option<u64>, received: Stamp) {
        self.press.meters.gaps[0].increment(1);
        for topic in topics {
            self.press.note(&topic, TopicStatus::Gap { reason: GapReason::Sequence, missed: None }, received);
        }
        tracing::warn!(missed, "upstream: messages are missing on a connection");
    }

    /// What is to be done about gaps, since this was last asked.
    pub fn remedies(&mut self) -> Vec<(String, GapRemedy)> {
        std::mem::take(&mut self.press.remedies)
    }

    /// A topic is not asked for any more: what is known of it grows old.
    pub fn lapses(&mut self, topic: &str, now: Stamp) {
        self.press.lapses(topic, now);
        self.flow.lapses(topic);
    }

    /// The upstream refuses an item, or has not answered for it. What the operator has asked for is pinned.
    pub fn refuses(&mut self, item: (&str, bool), why: ItemRefusal, now: Stamp) {
        let why = match why {
            ItemRefusal::Upstream(text) => ItemRefusal::Upstream(self.hidden.mask(&text).into_owned()),
            own @ ItemRefusal::Own(_) => own,
        };
        self.press.refuses(item, why, now);
    }

    /// Nothing has come of an item that was asked for then.
    pub fn is_silent(&mut self, topic: &str, asked: Stamp, now: Stamp) {
        self.press.is_silent(topic, asked, now);
    }

    /// Whether that was told of the item, and nothing has come since.
    pub fn was_silent(&self, topic: &str) -> bool {
        self.press.was_silent(topic)
    }

    /// A name is neither asked for nor wanted any more.
    pub fn forget(&mut self, topic: &str) {
        self.press.forget(topic);
    }

    /// Someone wants a topic that is asked for already: what was said of it is said again.
    pub fn is_wanted_again(&self, topic: &str) {
        self.press.say_again(topic);
    }

    /// Nothing is asked for, so that nothing will come; or something is again.
    pub fn idle(&mut self, idle: Option<FeedState>) {
        self.press.idle(idle);
    }

    /// Whether the newest data are current.
    pub fn is_live(&self) -> bool {
        self.press.live
    }

    /// Remembers for a report what went wrong.
    pub fn trouble(&mut self, trouble: String) {
        self.press.tally.trouble(trouble);
    }

    /// Topics that are known.
    pub fn topics(&self) -> usize {
        self.press.publisher.topics()
    }

    pub fn knows(&self, topic: &str) -> bool {
        self.press.publisher.knows(topic)
    }

    /// Whether something was published on the topic at this time or later, on the monotonic clock.
    pub fn came_since(&self, topic: &str, since_ns: u64) -> bool {
        self.press.publisher.came_since(topic, since_ns)
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
        self.press.waits();
    }

    /// The connection stands, but nothing has come since then.
    pub fn silent(&mut self, since: Stamp, message: String) {
        tracing::warn!("upstream: {message}");
        self.press.stale(StaleReason::UpstreamSilent, since.wall_ms, SILENT.to_string());
    }

    /// Since when the upstream says that its values are outdated; none: it does not say so any more. `is_told`: because it
    /// says that they are current.
    pub fn outdated(&mut self, since_ms: Option<u64>, is_told: bool) {
        let was_outdated = std::mem::replace(&mut self.press.outdated, since_ms.is_some());
        match since_ms {
            Some(since_ms) if !was_outdated => {
                tracing::warn!("upstream: {OUTDATED}");
                self.press.stale(StaleReason::UpstreamDown, since_ms, OUTDATED.to_string());
            }
            None if was_outdated && is_told => self.press.current(),
            _ => {}
        }
    }

    /// The upstream says that one topic may be outdated.
    pub fn topic_outdated(&mut self, topic: &str, since_ms: u64, received: Stamp) {
        self.press.note(topic, TopicStatus::Stale { since_ms, message: TOPIC_OUTDATED.to_string() }, received);
    }

    pub fn topic_current(&mut self, topic: &str, received: Stamp) {
        self.press.note(topic, TopicStatus::Live, received);
    }

    /// The upstream says that messages of one topic are missing here.
    pub fn topic_gap(&mut self, topic: &str, missed: Option<u64>, received: Stamp) {
        self.press.note(topic, TopicStatus::Gap { reason: GapReason::Sequence, missed }, received);
    }

    /// From now on silences of topics are judged by this.
    pub fn judge_topics(&mut self, stale_after: StaleAfter) {
        self.flow.judge_by(stale_after);
    }

    /// One message is sorted.
    pub fn note(&mut self, sorted: &Classified, message: Incoming<'_>, received: Stamp) {
        let class = sorted.class;
        self.meters.messages[class as usize].increment(1);
        self.press.tally.messages[class as usize] += 1;
        let bytes = match message {
            Incoming::Text(text) => text.len(),
            Incoming::Binary(bytes) => bytes.len(),
        };
        self.meters.bytes.increment(bytes as u64);
        if sorted.problem.is_some() || !matches!(class, MessageClass::Data | MessageClass::Ignore) {
            self.show(class, sorted, message, received);
        }
    }

    fn show(&mut self, class: MessageClass, sorted: &Classified, message: Incoming<'_>, received: Stamp) {
        let Some(hidden) = self.samples[class as usize].take(received) else { return };
        let sample = excerpt(message);
        let sample = self.hidden.mask(&sample);
        let rule = sorted.rule.as_deref().unwrap_or("none");
        match (class, &sorted.problem) {
            (_, Some(problem)) => {
                tracing::warn!(class = class.label(), rule, hidden, "upstream: {problem}: {sample}");
                self.press.tally.trouble(format!("{}: {problem}: {sample}", class.label()));
            }
            (MessageClass::Nack, None) => {
                tracing::warn!(rule, hidden, "upstream refused a request: {sample}");
                self.press.tally.trouble(format!("refused: {sample}"));
            }
            _ => tracing::debug!(class = class.label(), rule, hidden, "upstream: {sample}"),
        }
    }
}

/// Hands a piece on, when its turn has come.
fn pass(flow: &mut Assembler, press: &mut PublisherSink, piece: &Update<'_>, turn: Release) {
    match turn {
        Release::InOrder => {
            flow.listen_to(None);
            flow.take(piece, press);
        }
        Release::Anew => {
            flow.listen_to(None);
            flow.take_anew(piece, press);
        }
        Release::OfLine(line) => {
            flow.listen_to(Some(line));
            flow.take(piece, press);
        }
        Release::Late => flow.take_late(piece, press),
    }
}
