//! The log goes on in another epoch, and each session with it, where it is: it starts anew, and is told so as one that
//! comes to another view.
//!
//! All do so in one turn, since none can have anything more of the log before. Their requests stay open, and their topics
//! wanted.

use crate::access::shown_delay::shown_delay;
use crate::bus::reader::Reader;
use crate::delivery::lanes::Lanes;
use crate::delivery::lanes::lane_key::LaneKey;
use crate::delivery::lanes::lane_patterns::LanePatterns;
use crate::delivery::session_id::SessionId;
use crate::delivery::shard::Shard;
use crate::delivery::shard::subscriptions::SubscribeTerms;
use crate::delivery::transport::socket::Socket;
use crate::protocol::server_message::ServerMessage;
use crate::words::goodbye::Goodbye;
use crate::words::ids::{Cursor, Offset};
use crate::words::stamp::Stamp;
use crate::words::topic::Pattern;

impl<S: Socket> Shard<S> {
    /// From now on the shard reads this log.
    pub fn begin_epoch(&mut self, reader: Reader, now: Stamp) {
        self.expire(now);
        let since = Cursor { epoch: self.log.reader().epoch(), offset: self.log.offset() };
        // What clients want stays claimed until they want it again.
        let before = std::mem::take(&mut self.lanes);
        self.scanner.begin_anew();
        self.log.begin(reader, &mut self.lanes);
        for id in self.sessions.staying() {
            self.start_anew(id, &before, since, now);
        }
    }

    fn start_anew(&mut self, id: SessionId, before: &Lanes, since: Cursor, now: Stamp) {
        let (epoch, cursor) = (self.log.reader().epoch(), self.log.offset());
        let lane = self.sessions[id].lane();
        // Patterns in force were parsed once.
        let patterns: Vec<Pattern> = before.texts(lane).filter_map(|text| Pattern::parse(text).ok()).collect();
        let compression = before[lane].key().compression;
        self.sessions.start_anew(id, cursor);
        let session = &mut self.sessions[id];
        // Whatever state of the feed it knows is that of the log before.
        session.feed_version = self.log.feed_version().wrapping_sub(1);
        session.enter(epoch);
        if let Some(spoken) = &mut session.dialect {
            spoken.since = cursor;
        }
        let grant = session.access.grant().cloned();
        if let Some(grant) = &grant {
            session.access.set_grant(grant.clone(), self.lanes.filter_of(&grant.rights));
        }
        let (encoding, every) = (session.encoding(), session.access.asked_every());
        let (format, framing) = (encoding.format, encoding.framing);
        let key =
            LaneKey { patterns: LanePatterns::default(), format, framing, compression, every: None, filter: None };
        let lane = self.lanes.lane_to_join(key, (cursor, now));
        self.sessions.join_lane(id, lane, &mut self.lanes);
        if self.sessions[id].is_told_nothing() && !patterns.is_empty() {
            // Nothing would say that its messages are of another epoch.
            return self.withdraw(id, Goodbye::FeedLost, now);
        }
        let delay = grant.as_ref().and_then(|grant| shown_delay(&grant.rights));
        // As in `welcome`.
        let offset = if grant.is_some() { cursor } else { Offset::START };
        let mut out = Vec::new();
        ServerMessage::View { epoch, offset, delay_ms: delay.as_ref(), ts: now.wall_ms }.put(encoding, &mut out);
        let mut is_refused = false;
        if !patterns.is_empty() {
            self.sessions[id].has_subscribed = false;
            self.sessions[id].skips += 1;
            let terms = SubscribeTerms { every, since: Some(since), brief: false };
            match self.subscribe(id, patterns, terms, now) {
                Ok(effect) => effect.put(None, self.lanes.texts(self.sessions[id].lane()), (encoding, now), &mut out),
                Err(refusal) => {
                    self.refuse(None, &refusal, encoding, &mut out);
                    is_refused = true;
                }
            }
        }
        self.sessions.append(id, &out);
        if is_refused {
            // It would wait for ever for what it has subscribed to.
            self.dismiss(id, Goodbye::Kicked, Goodbye::Kicked.sentence(), now);
        }
        self.sessions.enqueue(id);
    }
}

#[cfg(test)]
mod tests;
