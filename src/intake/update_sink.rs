//! The last step of the intake: frames and notes to the publisher, what is odd to the log and the meters.
//!
//! It knows whether what was published is current, and of which topics that were asked for nothing has come.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use metrics::{Counter, Gauge};

use crate::bus::demand::interest::{DemandStatus, Interest};
use crate::bus::feed_state::{FeedState, StaleReason};
use crate::bus::publisher::Publisher;
use crate::bus::retention::Retention;
use crate::bus::topic_status::TopicStatus;
use crate::protocol::encoding::Payload;
use crate::words::metrics as names;
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;

use crate::intake::assemble::sequence::GapRemedy;
use crate::intake::assemble::{Oddity, UpdateSink};
use crate::intake::digest::Digest;
use crate::intake::pipeline::ProbeCounts;
use crate::intake::sample::Sample;

/// Beyond so many more topics than are known, those that lapsed are looked through for ones that are not known any more.
const LAPSED_MORE: usize = 1024;
/// What clients are sent, in words of our own.
const WAITING: &str = "the connection to the feed stands again, but nothing has come over it yet";
const NOT_SENT: &str = "the feed does not send this topic";

pub(super) struct PublisherSink {
    pub publisher: Publisher,
    /// Where clients wait for topics of which nothing has come.
    interest: Option<Arc<Interest>>,
    refusals: Sample,
    pub live: bool,
    /// The upstream itself says that its values are outdated: what comes now does not make them current.
    pub outdated: bool,
    /// Since when what was published may be outdated; none while the feed is live.
    stale_since_ms: Option<u64>,
    last_data: Gauge,
    /// What was asked for since it was last looked.
    pub remedies: Vec<(String, GapRemedy)>,
    pub tally: ProbeCounts,
    /// Topics that are not asked for any more; they are live again with their next frame. No more than topics known.
    lapsed: HashSet<String>,
    /// Items of which nothing has ever come, and what clients are told about that. No more than items asked for.
    wanting: HashMap<String, DemandStatus>,
    /// Those among them that were neither refused nor sent.
    silent: usize,
    /// Topics admitted when that was last looked at.
    admitted: u64,
    oddities: Oddities,
    refused: Digest,
    /// Why the newest of them was.
    refused_why: String,
    pub meters: SinkMeters,
}

/// Why an item will not come.
pub(super) enum ItemRefusal {
    /// In the upstream's words, which are for the log alone.
    Upstream(String),
    /// In words of our own, which clients are sent too.
    Own(String),
}

pub(super) struct SinkMeters {
    /// Of connections, of topics.
    pub gaps: [Counter; 2],
    stale_topics: Counter,
    dropped_old: Counter,
    no_snapshot: Counter,
    malformed: Counter,
    too_large: Counter,
    silent: Gauge,
}

/// Topics whose messages are odd, for the log.
#[derive(Default)]
struct Oddities {
    old: Digest,
    anew: Digest,
    no_snapshot: Digest,
    /// Changes of the newest of these.
    changes: u64,
    malformed: Digest,
    too_large: Digest,
}

impl PublisherSink {
    pub fn new(publisher: Publisher, interest: Option<Arc<Interest>>, meters: &Meters) -> PublisherSink {
        let unfolded = |reason: &str| meters.counter(&names::UPSTREAM_UNFOLDED, &[("reason", reason)]);
        PublisherSink {
            admitted: publisher.admitted(),
            publisher,
            interest,
            refusals: Sample::default(),
            live: false,
            outdated: false,
            stale_since_ms: None,
            last_data: meters.gauge(&names::UPSTREAM_LAST_DATA, &[]),
            remedies: Vec::new(),
            tally: ProbeCounts::default(),
            lapsed: HashSet::new(),
            wanting: HashMap::new(),
            silent: 0,
            oddities: Oddities::default(),
            refused: Digest::default(),
            refused_why: String::new(),
            meters: SinkMeters {
                gaps: ["connection", "topic"].map(|scope| meters.counter(&names::UPSTREAM_GAPS, &[("scope", scope)])),
                stale_topics: meters.counter(&names::UPSTREAM_STALE, &[]),
                dropped_old: meters.counter(&names::FRAMES_REFUSED, &[("reason", "old")]),
                no_snapshot: unfolded("no_snapshot"),
                malformed: unfolded("malformed"),
                too_large: unfolded("too_large"),
                silent: meters.gauge(&names::UPSTREAM_ITEMS_SILENT, &[]),
            },
        }
    }

    pub fn current(&mut self) {
        self.live = true;
        self.stale_since_ms = None;
        self.publisher.announce(FeedState::Live);
    }

    /// What is stale stays so since the same moment, whatever else goes wrong.
    pub fn stale(&mut self, reason: StaleReason, since_ms: u64, message: String) {
        self.live = false;
        let since_ms = *self.stale_since_ms.get_or_insert(since_ms);
        self.publisher.announce(FeedState::Stale { reason, since_ms, message });
    }

    /// A connection stands again, and has brought nothing yet.
    pub fn waits(&mut self) {
        if let (false, Some(since_ms)) = (self.live, self.stale_since_ms) {
            self.stale(StaleReason::UpstreamSilent, since_ms, WAITING.to_string());
        }
    }

    /// Nothing is asked for, so that nothing will come; or something is, since it was last announced.
    pub fn idle(&mut self, idle: Option<FeedState>) {
        if idle.is_some() {
            self.stale_since_ms = None;
        }
        self.publisher.announce(idle.unwrap_or(FeedState::Connecting));
    }

    /// A topic is not asked for any more. Nobody waits for one of which nothing has come.
    pub fn lapses(&mut self, topic: &str, now: Stamp) {
        self.forget(topic);
        if !self.publisher.knows(topic) {
            return;
        }
        let message = "nobody wanted it for a while, so the upstream is not asked for it".to_string();
        self.note(topic, TopicStatus::Stale { since_ms: now.wall_ms, message }, now);
        if self.lapsed.len() >= self.publisher.topics() + LAPSED_MORE {
            let PublisherSink { lapsed, publisher, .. } = self;
            lapsed.retain(|topic| publisher.knows(topic));
        }
        self.lapsed.insert(topic.to_string());
    }

    /// The topic is forgotten.
    pub fn expired(&mut self, topic: &str) {
        self.lapsed.remove(topic);
    }

    /// The upstream refuses an item. A topic that is known, or that the operator has asked for, is told of in the stream;
    /// any other, whose name a client has given, only to those who wait for it.
    pub fn refuses(&mut self, (topic, is_pinned): (&str, bool), why: ItemRefusal, now: Stamp) {
        let (ItemRefusal::Upstream(logged) | ItemRefusal::Own(logged)) = &why;
        self.refused.add(topic);
        self.refused_why.clone_from(logged);
        self.tally.trouble(format!("refused `{topic}`: {logged}"));
        let message = match why {
            ItemRefusal::Upstream(_) => NOT_SENT.to_string(),
            ItemRefusal::Own(message) => message,
        };
        self.tell_log(now);
        if is_pinned || self.publisher.knows(topic) {
            self.note(topic, TopicStatus::Refused { message }, now);
        } else {
            self.say(topic, DemandStatus::Refused { message });
        }
    }

    /// Nothing has come of an item that was asked for then.
    pub fn is_silent(&mut self, topic: &str, asked: Stamp, now: Stamp) {
        let seconds = now.ms_since(asked) / 1000;
        let message = format!(
            "nothing has come yet: the upstream was asked for it {seconds} s ago and has not refused it; \
             it may be quiet by nature, or have another name"
        );
        self.say(topic, DemandStatus::NothingYet { since_ms: asked.wall_ms, message });
    }

    pub fn was_silent(&self, topic: &str) -> bool {
        self.wanting.get(topic).is_some_and(is_silence)
    }

    fn say(&mut self, topic: &str, saying: DemandStatus) {
        self.interest.iter().for_each(|interest| interest.set_status(topic, saying.clone()));
        self.forget(topic);
        self.silent += usize::from(is_silence(&saying));
        self.wanting.insert(topic.to_string(), saying);
        self.meters.silent.set(self.silent as f64);
    }

    /// Someone wants the topic again: what was said of it still holds.
    pub fn say_again(&self, topic: &str) {
        if let Some((interest, saying)) = self.interest.as_ref().zip(self.wanting.get(topic)) {
            interest.set_status(topic, saying.clone());
        }
    }

    /// The item is not asked for any more, or something has come. Gives what was said of it.
    pub fn forget(&mut self, topic: &str) -> Option<DemandStatus> {
        let said = self.wanting.remove(topic)?;
        self.silent -= usize::from(is_silence(&said));
        self.meters.silent.set(self.silent as f64);
        Some(said)
    }

    /// The first frame of a topic was published: what was said of it while it was awaited does not hold any more.
    fn came(&mut self, topic: &str, received: Stamp) {
        if let Some(interest) = &self.interest {
            interest.clear_status(topic);
        }
        if self.forget(topic).is_some_and(|said| is_silence(&said)) {
            self.note(topic, TopicStatus::Live, received);
        }
    }

    /// Tells the log what is due.
    pub fn tell_log(&mut self, now: Stamp) {
        let Oddities { old, anew, no_snapshot, changes, malformed, too_large } = &mut self.oddities;
        if let Some((topics, count)) = self.refused.line(now) {
            tracing::warn!(count, "upstream: refused: {topics}: {}", self.refused_why);
        }
        if let Some((topics, count)) = old.line(now) {
            tracing::warn!(count, "upstream: dropped, because their numbers are older than the newest: {topics}");
        }
        if let Some((topics, count)) = anew.line(now) {
            tracing::warn!(count, "upstream: nothing but old numbers came, so they are counted anew: {topics}");
        }
        if let Some((topics, count)) = no_snapshot.line(now) {
            tracing::warn!(
                count,
                "upstream: 0 snapshots, {changes} changes: {topics}: newcomers get no value; \
                 look at `snapshot_when` of the profile, and whether the upstream sends snapshots"
            );
        }
        if let Some((topics, count)) = malformed.line(now) {
            tracing::warn!(
                count,
                "upstream: not folded, because it is not written as `book` or `merge` of the profile says: {topics}"
            );
        }
        if let Some((topics, count)) = too_large.line(now) {
            tracing::warn!(count, "upstream: not folded, because it has become too large: {topics}");
        }
    }

    /// When the log is to be told something.
    pub fn deadline_ns(&self) -> Option<u64> {
        let Oddities { old, anew, no_snapshot, malformed, too_large, .. } = &self.oddities;
        let digests = [&self.refused, old, anew, no_snapshot, malformed, too_large];
        digests.into_iter().filter_map(Digest::deadline_ns).min()
    }
}

impl UpdateSink for PublisherSink {
    fn publish(&mut self, topic: &str, payload: Payload, keeping: Retention, received: Stamp) {
        if !self.lapsed.is_empty() && self.lapsed.remove(topic) {
            self.note(topic, TopicStatus::Live, received);
        }
        if let Err(error) = self.publisher.publish(topic, payload, keeping, received) {
            if let Some(hidden) = self.refusals.take(received) {
                tracing::warn!(hidden, "frame not published: {error}");
            }
            self.tally.trouble(error.to_string());
            return;
        }
        self.last_data.set(received.wall_ms as f64 / 1000.0);
        if self.admitted != self.publisher.admitted() {
            self.admitted = self.publisher.admitted();
            self.came(topic, received);
        }
        if !self.live && !self.outdated {
            self.current();
        }
    }

    fn note(&mut self, topic: &str, note: TopicStatus, received: Stamp) {
        match note {
            TopicStatus::Gap { .. } => self.meters.gaps[1].increment(1),
            TopicStatus::Stale { .. } => self.meters.stale_topics.increment(1),
            TopicStatus::Live | TopicStatus::Refused { .. } => {}
        }
        if let Err(error) = self.publisher.publish_status(topic, note, received) {
            self.tally.trouble(error.to_string());
        }
    }

    fn remedy(&mut self, topic: &str, remedy: GapRemedy) {
        self.remedies.push((topic.to_string(), remedy));
    }

    fn oddity(&mut self, topic: &str, oddity: Oddity, received: Stamp) {
        let Oddities { old, anew, no_snapshot, changes, malformed, too_large } = &mut self.oddities;
        let (digest, counter) = match oddity {
            Oddity::Old => (old, Some(&self.meters.dropped_old)),
            Oddity::Anew => (anew, None),
            Oddity::NoSnapshot { changes: so_many } => {
                *changes = so_many;
                self.tally.trouble(format!("`{topic}`: 0 snapshots, {so_many} changes"));
                (no_snapshot, Some(&self.meters.no_snapshot))
            }
            Oddity::Malformed => {
                self.tally.trouble(format!("`{topic}`: not folded: it is not written as the profile says"));
                (malformed, Some(&self.meters.malformed))
            }
            Oddity::TooLarge => (too_large, Some(&self.meters.too_large)),
        };
        digest.add(topic);
        counter.iter().for_each(|counter| counter.increment(1));
        self.tell_log(received);
    }
}

fn is_silence(saying: &DemandStatus) -> bool {
    matches!(saying, DemandStatus::NothingYet { .. })
}
