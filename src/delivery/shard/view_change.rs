//! A session whose grant names another view of the feed moves to a shard of that view, with its socket.
//!
//! From a delayed view to the live log it continues behind its cursor, as after a reconnect with `since`. The other way
//! its cursor is ahead of the view, and to a view with offsets of its own it means nothing: the session starts anew
//! there, and is told that it skips.

use crate::access::grant::Grant;
use crate::access::rights::ViewId;
use crate::access::shown_delay::shown_delay;
use crate::delivery::lanes::lane_key::{CompressionMode, LaneKey};
use crate::delivery::lanes::lane_patterns::LanePatterns;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::session::Session;
use crate::delivery::sessions::sync_state::SyncState;
use crate::delivery::shard::Shard;
use crate::delivery::shard::subscriptions::SubscribeTerms;
use crate::delivery::transport::socket::Socket;
use crate::protocol::server_message::ServerMessage;
use crate::words::goodbye::Goodbye;
use crate::words::ids::{Cursor, Offset};
use crate::words::stamp::Stamp;
use crate::words::topic::Pattern;

/// A session on its way to a shard of another view. It has no lane, and no open request.
pub struct Transfer<S> {
    session: Session<S>,
    grant: Grant,
    patterns: Vec<Pattern>,
    compression: CompressionMode,
    /// The recent orders that have looked at it.
    orders_past: Vec<u64>,
    /// Up to where it was sent everything; none if that was nowhere yet.
    sent: Option<Cursor>,
    /// Messages that it is to be sent first.
    out: Vec<u8>,
}

impl<S> Transfer<S> {
    /// The view that it goes to.
    pub fn view(&self) -> ViewId {
        self.grant.rights.view
    }
}

impl<S: Socket> Transfer<S> {
    pub fn socket_mut(&mut self) -> &mut S {
        self.session.socket_mut()
    }
}

impl<S: Socket> Shard<S> {
    /// The session leaves this shard for the view that its new grant names; `out` is what it is to be sent first.
    pub(super) fn move_to_view(&mut self, id: SessionId, grant: Grant, out: Vec<u8>, now: Stamp) {
        let session = &self.sessions[id];
        if session.access.is_verifying() {
            // The verdict about its next token would come to this shard.
            return self.withdraw(id, Goodbye::Kicked, now);
        }
        let lane = session.lane();
        if session.is_told_nothing() && !self.lanes[lane].key().patterns.is_empty() {
            // Nothing would say that its messages are of another time.
            return self.withdraw(id, Goodbye::Kicked, now);
        }
        // Patterns in force were parsed once.
        let patterns = self.lanes.texts(lane).filter_map(|text| Pattern::parse(text).ok()).collect();
        let is_amid_scan = matches!(session.state(), SyncState::Behind(catch_up) if catch_up.scan.is_some());
        let cursor =
            Cursor { epoch: self.log.reader().epoch(), offset: self.sessions.sent(id, &self.lanes, self.log.offset()) };
        let (sent, compression) = ((!is_amid_scan).then_some(cursor), self.lanes[lane].key().compression);
        // What its requests are answered is not for the view that it sees then.
        self.requests.forget(self.sessions[id].requests.take());
        self.forget_end(id);
        let session = self.sessions.take_out(id, &mut self.lanes);
        self.load.leave();
        let orders_past = self.orders_past(id);
        self.transfers.push(Transfer { session, grant, patterns, compression, orders_past, sent, out });
    }

    pub fn has_transfers(&self) -> bool {
        !self.transfers.is_empty()
    }

    /// The sessions that have left for other views since the last call.
    pub fn take_transfers(&mut self) -> Vec<Transfer<S>> {
        std::mem::take(&mut self.transfers)
    }

    /// A session ends on its way, because nobody can take it over.
    pub fn lose(&self, transfer: Transfer<S>) {
        self.record_close(&transfer.session, Goodbye::ConnectionLost);
        self.keep_end_of(&transfer.session, Goodbye::ConnectionLost);
    }

    /// Takes over a session of another view.
    pub fn take_over(&mut self, transfer: Transfer<S>, now: Stamp) -> SessionId {
        let Transfer { mut session, grant, patterns, compression, orders_past, sent, mut out } = transfer;
        let cursor = self.log.offset();
        // Whatever state of the feed it knows is that of the other view.
        session.feed_version = self.log.feed_version().wrapping_sub(1);
        let had_subscribed = std::mem::take(&mut session.has_subscribed);
        session.enter(self.log.reader().epoch());
        let (encoding, format, framing) = (session.encoding(), session.format, session.transport().framing());
        session.access.set_grant(grant.clone(), self.lanes.filter_of(&grant.rights));
        let every = session.access.asked_every();
        let id = self.sessions.take_in(session, cursor);
        let patterns_of_lane = LanePatterns::default();
        let key = LaneKey { patterns: patterns_of_lane, format, framing, compression, every: None, filter: None };
        let lane = self.lanes.lane_to_join(key, (cursor, now));
        self.sessions.join_lane(id, lane, &mut self.lanes);
        self.go_on_awaiting(id);
        self.schedule_end(id, &grant, now);
        let (epoch, delay) = (self.log.reader().epoch(), shown_delay(&grant.rights));
        ServerMessage::View { epoch, offset: cursor, delay_ms: delay.as_ref(), ts: now.wall_ms }
            .put(encoding, &mut out);
        let mut is_refused = false;
        if patterns.is_empty() {
            self.sessions[id].has_subscribed = had_subscribed;
        } else {
            if sent.is_none() {
                self.meters.skips_delayed.increment(1);
                self.sessions[id].skips += 1;
                ServerMessage::Skipped { from: Offset::START, to: cursor, reason: "delayed" }.put(encoding, &mut out);
            }
            let terms = SubscribeTerms { every, since: sent, brief: false };
            match self.subscribe(id, patterns, terms, now) {
                Ok(effect) => {
                    effect.put(None, self.lanes.texts(self.sessions[id].lane()), (encoding, now), &mut out);
                }
                Err(refusal) => {
                    self.refuse(None, &refusal, encoding, &mut out);
                    is_refused = true;
                }
            }
        }
        let is_taken = self.take_query(id, now, &mut out);
        self.sessions.append(id, &out);
        if !is_taken {
            self.dismiss_mute(id, now);
        }
        if is_refused {
            // It would wait for ever for what it has subscribed to.
            self.dismiss(id, Goodbye::Kicked, Goodbye::Kicked.sentence(), now);
        }
        // Orders may have reached all shards while it was on its way between two of them, and so may a change of rights
        // that nobody has ordered here yet.
        self.obey_missed(id, &orders_past, now);
        self.reassess(id, now);
        self.drain_one(id, now);
        self.sessions.enqueue(id);
        id
    }
}

#[cfg(test)]
mod tests;
