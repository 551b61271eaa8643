//! A session whose grant names another view of the feed moves to a shard of that view, with its socket.
//!
//! From a delayed view to the live log it continues behind its cursor, as after a reconnect with `since`. The other way
//! its cursor is ahead of the view, and to a view with offsets of its own it means nothing: the session starts anew
//! there, and is told that it skips.

use std::time::Duration;

use crate::access::grant::Grant;
use crate::access::rights::ViewId;
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
use crate::words::ids::{Cursor, Epoch, Offset};
use crate::words::stamp::Stamp;
use crate::words::topic::Pattern;

/// A session on its way to a shard of another view. It has no lane, and no open request.
pub struct Transfer<S> {
    session: Session<S>,
    patterns: Vec<Pattern>,
    compression: CompressionMode,
    every: Option<Duration>,
    /// Of the view that it comes from, and up to where it was sent everything there; none if that was nowhere yet.
    epoch: Epoch,
    sent: Option<Offset>,
}

impl<S> Transfer<S> {
    /// The view that it goes to.
    pub fn view(&self) -> ViewId {
        self.session.grant.rights.view
    }
}

impl<S: Socket> Transfer<S> {
    pub fn socket_mut(&mut self) -> &mut S {
        self.session.socket_mut()
    }
}

impl<S: Socket> Shard<S> {
    /// Gives a session its grant, which may name another view: then the session leaves this shard. False if it does.
    pub fn move_to_view(&mut self, id: SessionId, grant: Grant) -> bool {
        let Some(session) = self.sessions.get_mut(id) else { return false };
        session.grant = grant;
        if session.grant.rights.view == self.view || session.is_leaving() {
            return true;
        }
        let lane = session.lane();
        let key = self.lanes[lane].key();
        let (compression, every) = (key.compression, key.every);
        // Patterns in force were parsed once.
        let patterns = self.lanes.texts(lane).filter_map(|text| Pattern::parse(text).ok()).collect();
        let is_amid_scan = matches!(session.state(), SyncState::Behind(catch_up) if catch_up.scan.is_some());
        let offset = self.sessions.sent(id, &self.lanes, self.log.offset());
        let (epoch, sent) = (self.log.reader().epoch(), (!is_amid_scan).then_some(offset));
        // What its requests are answered is not for the view that it sees then.
        self.requests.forget(self.sessions[id].requests.take());
        let session = self.sessions.take_out(id, &mut self.lanes);
        self.load.leave();
        self.transfers.push(Transfer { session, patterns, compression, every, epoch, sent });
        false
    }

    pub fn has_transfers(&self) -> bool {
        !self.transfers.is_empty()
    }

    /// The sessions that have left for other views since the last call.
    pub fn take_transfers(&mut self) -> Vec<Transfer<S>> {
        std::mem::take(&mut self.transfers)
    }

    /// Takes over a session of another view.
    pub fn take_over(&mut self, transfer: Transfer<S>, now: Stamp) -> SessionId {
        let Transfer { mut session, patterns, compression, every, epoch: old_epoch, sent } = transfer;
        let cursor = self.log.offset();
        // Whatever state of the feed it knows is that of the other view.
        session.feed_version = self.log.feed_version().wrapping_sub(1);
        session.has_subscribed = false;
        let (encoding, format, framing) = (session.encoding(), session.format, session.transport().framing());
        let id = self.sessions.take_in(session, cursor);
        let key = LaneKey { patterns: LanePatterns::default(), format, framing, compression, every: None };
        let lane = self.lanes.lane_to_join(key, (cursor, now));
        self.sessions.join_lane(id, lane, &mut self.lanes);
        let mut out = Vec::new();
        let epoch = self.log.reader().epoch();
        ServerMessage::View { epoch, offset: cursor, ts: now.wall_ms }.put(encoding, &mut out);
        let may_continue = |sent: &Offset| epoch == old_epoch && *sent <= self.log.reader().head();
        let since = sent.filter(may_continue).map(|offset| Cursor { epoch, offset });
        if since.is_none() {
            let reason = if epoch == old_epoch { "delayed" } else { "epoch" };
            ServerMessage::Skipped { from: Offset::START, to: cursor, reason }.put(encoding, &mut out);
        }
        let is_refused = !patterns.is_empty() && {
            let terms = SubscribeTerms { every, since, brief: false };
            match self.subscribe(id, patterns, terms, now) {
                Ok(effect) => {
                    effect.put(None, self.lanes.texts(self.sessions[id].lane()), (encoding, now), &mut out);
                    false
                }
                Err(refusal) => {
                    self.refuse(None, &refusal, encoding, &mut out);
                    true
                }
            }
        };
        self.sessions.append(id, &out);
        if is_refused {
            // It would wait for ever for what it has subscribed to.
            self.dismiss(id, Goodbye::Kicked, Goodbye::Kicked.sentence(), now);
        }
        self.drain_one(id, now);
        self.sessions.enqueue(id);
        id
    }
}
