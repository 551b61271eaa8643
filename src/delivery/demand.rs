//! Demand of a shard's clients, where the feed is subscribed to by demand; and the status of topics without a message,
//! sent to the clients that named them and to no others.

use std::net::IpAddr;
use std::sync::Arc;

use crate::bus::demand::interest::{AddressShare, Claim, DemandStatus, Interest, TooManyTopics};
use crate::bus::reader::Reader;
use crate::protocol::command::CommandRefusal;
use crate::protocol::encoding::Encoding;
use crate::protocol::server_message::ServerMessage;
use crate::words::stamp::Stamp;
use crate::words::topic::Pattern;

/// A shard's view of the demand.
pub struct TopicDemand {
    /// None without `upstream.demand`.
    interest: Option<Arc<Interest>>,
    /// Version of the statuses that all sessions in step have received.
    version: u64,
}

impl TopicDemand {
    pub fn new(interest: Option<Arc<Interest>>) -> TopicDemand {
        TopicDemand { interest, version: 0 }
    }

    /// The feed is asked for the topic if a client wants it.
    pub fn asks_for(&self, topic: &Pattern) -> bool {
        self.interest.as_ref().is_some_and(|interest| interest.allows(topic.as_str()))
    }

    /// Claims for these topics, which nobody on this shard has named before; none where the feed is not asked.
    pub fn claim(&self, topics: &[Arc<str>]) -> Result<Vec<Option<Claim>>, CommandRefusal> {
        let Some(interest) = &self.interest else { return Ok(topics.iter().map(|_| None).collect()) };
        interest.claim(topics).map_err(|TooManyTopics { max }| {
            let message = format!(
                "expected at most {max} topics that all clients name (limits.topics_max), \
                 found more; subscribe to fewer, or try again later"
            );
            CommandRefusal::new("too_many_topics", message)
        })
    }

    /// The count of topics that one address may want; none where they are not counted.
    pub fn share(&self, address: Option<IpAddr>) -> Option<AddressShare> {
        self.interest.as_ref()?.share(address?)
    }

    /// Counts the topics of a session that the feed is to be asked for, for itself and for its address. Gives how many it
    /// had.
    pub fn count(&self, count: usize, share: Option<&mut AddressShare>) -> Result<usize, CommandRefusal> {
        let Some(interest) = &self.interest else { return Ok(0) };
        let max = interest.bounds().per_session_max;
        if count > max {
            let message = format!(
                "expected at most {max} topics that one client names (limits.wanted_per_session_max), \
                 found {count}; subscribe to fewer"
            );
            return Err(CommandRefusal::new("too_many_topics", message));
        }
        let Some(share) = share else { return Ok(0) };
        let before = share.count();
        share.set(count).map(|()| before).map_err(|TooManyTopics { max }| {
            let message = format!(
                "expected at most {max} topics that all clients of one address name \
                 (limits.wanted_per_address_max), found more; subscribe to fewer"
            );
            CommandRefusal::new("too_many_topics", message)
        })
    }

    /// The exact topics among these that have no message yet and that the feed may be asked for; none without
    /// `upstream.demand`. Appends the status of those without a message, as far as it was reported to others.
    pub fn pending(
        &self,
        wanted: Vec<Pattern>,
        reader: &Reader,
        (encoding, now): (Encoding, Stamp),
        statuses: &mut Vec<u8>,
    ) -> Option<Vec<Pattern>> {
        let interest = self.interest.as_ref()?;
        let mut pending = wanted;
        pending.retain(|topic| topic.is_exact() && !reader.knows(topic.as_str()));
        pending.sort_unstable();
        pending.dedup();
        self.put_statuses(pending.iter().map(Pattern::as_str), reader, (encoding, now), statuses);
        pending.retain(|topic| interest.allows(topic.as_str()));
        Some(pending)
    }

    /// Statuses that are new since the last call.
    pub fn take_news(&mut self) -> Vec<(Box<str>, DemandStatus)> {
        let Some(interest) = self.interest.as_ref().filter(|interest| interest.status_version() != self.version) else {
            return Vec::new();
        };
        let (version, news) = interest.statuses_after(self.version);
        self.version = version;
        news
    }

    /// Appends the status of each of these topics, as far as this shard has reported it to others.
    pub fn put_statuses<'t>(
        &self,
        topics: impl Iterator<Item = &'t str>,
        reader: &Reader,
        (encoding, now): (Encoding, Stamp),
        out: &mut Vec<u8>,
    ) {
        let Some(interest) = &self.interest else { return };
        for (topic, status) in interest.statuses_of(topics, self.version) {
            match status {
                Some(status) => put_status(topic, &status, (encoding, now), out),
                None if interest.allows(topic) || reader.knows(topic) => {}
                None => {
                    let message = "this server does not subscribe to it (upstream.demand_topics)";
                    let status = DemandStatus::Refused { message: message.to_string() };
                    put_status(topic, &status, (encoding, now), out);
                }
            }
        }
    }

    #[cfg(test)]
    pub fn stop_asking(&mut self) {
        self.interest = None;
    }
}

/// The session keeps what it had, because its command is refused.
pub fn restore_count(share: Option<&mut AddressShare>, before: usize) {
    if let Some(share) = share.filter(|share| before <= share.count()) {
        share.set(before).expect("fewer are never too many");
    }
}

/// Appends the status of one topic.
pub fn put_status(topic: &str, status: &DemandStatus, (encoding, now): (Encoding, Stamp), out: &mut Vec<u8>) {
    let ts = now.wall_ms;
    match status {
        DemandStatus::Refused { message } => {
            ServerMessage::Refused { topic, message, offset: None, ts }.put(encoding, out)
        }
        DemandStatus::NothingYet { since_ms, message } => {
            let (topics, since_ms) = ([topic], *since_ms);
            ServerMessage::Stale { topics, reason: "nothing_yet", message, since_ms, offset: None, ts }
                .put(encoding, out);
        }
    }
}
