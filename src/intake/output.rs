//! The last step of the intake: updates and the state of their topics to the publisher.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge};

use crate::bus::demand::interest::Interest;
use crate::bus::feed_state::FeedState;
use crate::bus::publisher::{Expiry, PublishError, Publisher};
use crate::bus::retention::Retention;
use crate::bus::topic_status::{GapReason, TopicStatus};
use crate::profile::hidden::Hidden;
use crate::profile::rule::MessageClass;
use crate::profile::rules::numbers::GapRemedy;
use crate::protocol::encoding::Payload;
use crate::words::metrics as names;
use crate::words::metrics::Meters;
use crate::words::rate_limited_log::RateLimitedLog;
use crate::words::stamp::Stamp;

use crate::intake::connection::loss::Loss;
use crate::intake::feed_health::FeedHealth;
use crate::intake::item_status::ItemStatus;
use crate::intake::oddity_log::OddityLog;
use crate::intake::probe_counts::ProbeCounts;
use crate::intake::update::{ConnectionId, Oddity, UpdateSink};

/// With this many more lapsed topics than known ones, the lapsed are searched for topics that are no longer known.
const LAPSED_MORE: usize = 1024;
/// Message to clients, in fanline's own words.
const NOT_SENT: &str = "the feed does not send this topic";
const NOT_ANSWERED: &str = "the feed has not answered the subscription to this topic";
/// Message to clients when the feed reports it itself.
const TOPIC_OUTDATED: &str = "the feed reports that this topic has been silent for unusually long";

pub(super) struct Output {
    publisher: Publisher,
    pub(super) health: FeedHealth,
    pub(super) items: ItemStatus,
    pub(super) counts: ProbeCounts,
    oddities: OddityLog,
    refusals: RateLimitedLog,
    /// Remedies that the assembler has requested since they were last taken.
    remedies: Vec<(String, GapRemedy)>,
    /// Topics that are no longer subscribed; they are live again with their next update. No more than topics known.
    lapsed: HashSet<String>,
    /// Topics admitted at the last look.
    admitted: u64,
    /// Texts that are masked in the log.
    hidden: Hidden,
    meters: OutputMeters,
}

struct OutputMeters {
    connects: Counter,
    reconnects: [Counter; Loss::LABELS.len()],
    last_data: Gauge,
    connection_gaps: Counter,
    topic_gaps: Counter,
    stale_topics: Counter,
}

/// Why an item brings no data.
pub(super) enum ItemRefusal {
    /// In the feed's words, for the log only.
    Upstream(String),
    /// In fanline's own words, for clients too.
    Own(String),
    /// The feed has said nothing, and sent nothing.
    Unanswered,
}

impl Output {
    pub(super) fn new(
        publisher: Publisher,
        interest: Option<Arc<Interest>>,
        hidden: Hidden,
        meters: &Meters,
    ) -> Output {
        let gaps = |scope: &str| meters.counter(&names::UPSTREAM_GAPS, &[("scope", scope)]);
        let reconnects = Loss::LABELS.map(|reason| {
            let counter = meters.counter(&names::UPSTREAM_RECONNECTS, &[("reason", reason)]);
            counter.absolute(0);
            counter
        });
        Output {
            admitted: publisher.admitted(),
            publisher,
            health: FeedHealth::default(),
            items: ItemStatus::new(interest, meters),
            counts: ProbeCounts::default(),
            oddities: OddityLog::new(meters),
            refusals: RateLimitedLog::default(),
            remedies: Vec::new(),
            lapsed: HashSet::new(),
            hidden,
            meters: OutputMeters {
                connects: meters.counter(&names::UPSTREAM_CONNECTS, &[]),
                reconnects,
                last_data: meters.gauge(&names::UPSTREAM_LAST_DATA, &[]),
                connection_gaps: gaps("connection"),
                topic_gaps: gaps("topic"),
                stale_topics: meters.counter(&names::UPSTREAM_STALE, &[]),
            },
        }
    }

    pub(super) fn into_publisher(self) -> Publisher {
        self.publisher
    }

    pub(super) fn announce(&mut self, state: Option<FeedState>) {
        state.into_iter().for_each(|state| self.publisher.announce(state));
    }

    pub(super) fn hidden(&self) -> &Hidden {
        &self.hidden
    }

    pub(super) fn count_connect(&mut self) {
        self.meters.connects.increment(1);
        self.counts.connects += 1;
    }

    pub(super) fn count_loss(&self, loss: &Loss) {
        self.count_reconnect(loss.label());
    }

    /// Counts an attempt to reconnect, by one of the labels of losses.
    pub(super) fn count_reconnect(&self, reason: &str) {
        let index = Loss::LABELS.iter().position(|label| *label == reason);
        index.iter().for_each(|index| self.meters.reconnects[*index].increment(1));
    }

    /// Takes the remedies for gaps since the last call.
    pub(super) fn remedies(&mut self) -> Vec<(String, GapRemedy)> {
        std::mem::take(&mut self.remedies)
    }

    /// Topics that are known.
    pub(super) fn topics(&self) -> usize {
        self.publisher.topics()
    }

    pub(super) fn knows(&self, topic: &str) -> bool {
        self.publisher.knows(topic)
    }

    /// Whether something was published on the topic at this time or later, on the monotonic clock.
    pub(super) fn came_since(&self, topic: &str, since_ns: u64) -> bool {
        self.publisher.came_since(topic, since_ns)
    }

    /// Forgets topics without an update for this long, or ends their values before; returns the names of all of them.
    pub(super) fn expire(&mut self, silent: Duration, now: Stamp) -> Vec<Box<str>> {
        let Expiry { ended, forgotten } = self.publisher.expire(silent, now);
        for topic in &forgotten {
            tracing::debug!(topic = &*topic.name, "forgotten: no message for {silent:?} (topics.expire_after)");
            self.lapsed.remove(&*topic.name);
        }
        ended.iter().chain(&forgotten).map(|topic| topic.name.clone()).collect()
    }

    /// A topic is no longer subscribed. No client waits for one without any update.
    pub(super) fn lapse(&mut self, topic: &str, now: Stamp) {
        self.items.forget(topic);
        if !self.publisher.knows(topic) {
            return;
        }
        let message = "no client has wanted it for a while, so it is not subscribed".to_string();
        self.status(topic, TopicStatus::Stale { since_ms: now.wall_ms, message }, now);
        if self.lapsed.len() >= self.publisher.topics() + LAPSED_MORE {
            let Output { lapsed, publisher, .. } = self;
            lapsed.retain(|topic| publisher.knows(topic));
        }
        self.lapsed.insert(topic.to_string());
    }

    /// The feed refuses an item, or has not answered. For a topic that is known, or that the operator subscribes to
    /// (`is_pinned`), this is a status in the stream. Any other name came from a client, and only the clients that wait
    /// for it are notified.
    pub(super) fn refuse(&mut self, (topic, is_pinned): (&str, bool), why: ItemRefusal, now: Stamp) {
        let (logged, message) = match why {
            ItemRefusal::Upstream(text) => (Some(self.hidden.mask(&text).into_owned()), NOT_SENT.to_string()),
            ItemRefusal::Own(message) => (Some(message.clone()), message),
            ItemRefusal::Unanswered => (None, NOT_ANSWERED.to_string()),
        };
        match logged {
            Some(why) => {
                self.counts.trouble(format!("refused `{topic}`: {why}"));
                self.oddities.add_refused(topic, &why, now);
            }
            None => {
                self.counts.trouble(format!("not answered: `{topic}`"));
                self.oddities.add_unanswered(topic, now);
            }
        }
        if is_pinned || self.publisher.knows(topic) {
            self.status(topic, TopicStatus::Refused { message }, now);
        } else {
            self.items.set_refused(topic, message);
        }
    }

    /// An answer of the feed grants nothing that was requested.
    pub(super) fn unclaimed(&mut self, answer: &str, now: Stamp) {
        let answer = self.hidden.mask(answer).into_owned();
        self.counts.trouble(format!("an answer names no item that was requested: {answer}"));
        self.oddities.add_unclaimed(&answer, now);
    }

    /// Messages are missing on a connection, in unknown ones of these topics.
    pub(super) fn connection_gap(
        &mut self,
        topics: impl Iterator<Item = String>,
        (connection, missed): (ConnectionId, Option<u64>),
        received: Stamp,
    ) {
        self.meters.connection_gaps.increment(1);
        topics.for_each(|topic| self.topic_gap(&topic, None, received));
        tracing::warn!(connection = connection.0, missed, "upstream: messages are missing on a connection");
    }

    /// Messages of one topic are missing here.
    pub(super) fn topic_gap(&mut self, topic: &str, missed: Option<u64>, received: Stamp) {
        self.status(topic, TopicStatus::Gap { reason: GapReason::Sequence, missed }, received);
    }

    /// The feed's own report about one topic, in a message of this class.
    pub(super) fn upstream_status(&mut self, class: MessageClass, topic: &str, number: Option<u64>, received: Stamp) {
        match class {
            MessageClass::Stale => {
                let (since_ms, message) = (number.unwrap_or(received.wall_ms), TOPIC_OUTDATED.to_string());
                self.status(topic, TopicStatus::Stale { since_ms, message }, received);
            }
            MessageClass::Live => self.status(topic, TopicStatus::Live, received),
            MessageClass::Gap => self.topic_gap(topic, number, received),
            _ => {}
        }
    }

    pub(super) fn write_log(&mut self, now: Stamp) {
        self.oddities.write(now);
    }

    pub(super) fn deadline_ns(&self) -> Option<u64> {
        self.oddities.deadline_ns()
    }
}

impl UpdateSink for Output {
    fn publish(&mut self, topic: &str, payload: Payload, retention: Retention, received: Stamp) {
        if !self.lapsed.is_empty() && self.lapsed.remove(topic) {
            self.status(topic, TopicStatus::Live, received);
        }
        if let Err(error) = self.publisher.publish(topic, payload, retention, received) {
            if let Some(hidden) = self.refusals.take(received) {
                tracing::warn!(hidden, "frame not published: {error}");
            }
            if let PublishError::TooManyTopics { max, .. } = error {
                self.items.set_without_room(topic, max);
            }
            self.counts.trouble(error.to_string());
            return;
        }
        self.meters.last_data.set(received.wall_ms as f64 / 1000.0);
        // A report about a topic without any update holds no longer.
        if self.admitted != self.publisher.admitted() {
            self.admitted = self.publisher.admitted();
            if self.items.arrived(topic) {
                self.status(topic, TopicStatus::Live, received);
            }
        }
        let state = self.health.updated();
        self.announce(state);
    }

    fn status(&mut self, topic: &str, status: TopicStatus, received: Stamp) {
        match status {
            TopicStatus::Gap { .. } => self.meters.topic_gaps.increment(1),
            TopicStatus::Stale { .. } => self.meters.stale_topics.increment(1),
            TopicStatus::Live | TopicStatus::Refused { .. } => {}
        }
        if let Err(error) = self.publisher.publish_status(topic, status, received) {
            self.counts.trouble(error.to_string());
        }
    }

    fn remedy(&mut self, topic: &str, remedy: GapRemedy) {
        self.remedies.push((topic.to_string(), remedy));
    }

    fn oddity(&mut self, topic: &str, oddity: Oddity, received: Stamp) {
        self.oddities.add(topic, oddity, received, &mut self.counts);
    }
}
