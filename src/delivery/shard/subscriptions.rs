//! Clients change what they see: `subscribe` and `unsubscribe`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::delivery::catch_up::CatchUp;
use crate::delivery::demand::restore_count;
use crate::delivery::lanes::lane_key::LaneKey;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::command_effect::CommandEffect;
use crate::delivery::sessions::entitlement::check_patterns;
use crate::delivery::sessions::sync_state::NextState;
use crate::delivery::shard::Shard;
use crate::delivery::transport::socket::Socket;
use crate::protocol::command::{CommandRefusal, resume_offset};
use crate::words::ids::Cursor;
use crate::words::stamp::Stamp;
use crate::words::topic::Pattern;

impl<S: Socket> Shard<S> {
    pub(super) fn subscribe(
        &mut self,
        id: SessionId,
        wanted: Vec<Pattern>,
        (every, since): (Option<Duration>, Option<Cursor>),
        now: Stamp,
    ) -> Result<CommandEffect, CommandRefusal> {
        let session = &mut self.sessions[id];
        let (key, reader) = (self.lanes[session.lane()].key().clone(), self.log.reader());
        let mut patterns: Vec<Pattern> = key.patterns.iter().chain(&wanted).cloned().collect();
        patterns.sort_unstable();
        patterns.dedup();
        check_patterns(&patterns, session.grant, &self.settings)?;
        if since.is_some() && session.has_subscribed {
            let message = "`since` is only allowed in the first subscription of a connection; reconnect to resume";
            return Err(CommandRefusal::new("bad_request", message));
        }
        let resume = since.map(|since| resume_offset(since, reader.epoch(), reader.head())).transpose()?;
        let patterns: Arc<[Pattern]> = patterns.into();
        let count_before = self.demand.count(&patterns, session.share.as_deref_mut())?;
        if let Err(refusal) = self.change_lane(id, LaneKey { patterns: patterns.clone(), every, ..key }, now) {
            restore_count(self.sessions[id].share.as_deref_mut(), count_before);
            return Err(refusal);
        }
        let session = &mut self.sessions[id];
        session.has_subscribed = true;
        let (mut statuses, context) = (Vec::new(), (session.encoding(), now));
        let pending = self.demand.pending(wanted, self.log.reader(), context, &mut statuses);
        let mut offset = self.log.offset();
        if let Some(Some(cursor)) = resume {
            offset = offset.max(cursor);
            self.sessions.move_to(id, NextState::Behind(CatchUp::resuming(cursor)), &mut self.lanes);
        }
        let other_epoch = resume == Some(None);
        if other_epoch {
            self.meters.skips_epoch.increment(1);
        }
        Ok(CommandEffect::Subscribed { patterns, offset, other_epoch, pending, statuses })
    }

    pub(super) fn unsubscribe(
        &mut self,
        id: SessionId,
        unwanted: &[Pattern],
        now: Stamp,
    ) -> Result<CommandEffect, CommandRefusal> {
        let key = self.lanes[self.sessions[id].lane()].key().clone();
        // A lane's patterns are sorted, so that this costs no product of both numbers.
        let places: Vec<Result<usize, usize>> =
            unwanted.iter().map(|pattern| key.patterns.binary_search(pattern)).collect();
        if let Some((_, stranger)) = places.iter().zip(unwanted).find(|(place, _)| place.is_err()) {
            let message = format!("expected subscribed patterns, found `{stranger}`, which is not in force");
            return Err(CommandRefusal::new("not_subscribed", message));
        }
        let unwanted: HashSet<usize> = places.into_iter().flatten().collect();
        let kept = key.patterns.iter().enumerate().filter(|(place, _)| !unwanted.contains(place));
        let patterns: Arc<[Pattern]> = kept.map(|(_, pattern)| pattern.clone()).collect();
        self.change_lane(id, LaneKey { patterns: patterns.clone(), ..key }, now)?;
        self.demand.count(&patterns, self.sessions[id].share.as_deref_mut())?;
        Ok(CommandEffect::Unsubscribed { patterns, offset: self.log.offset() })
    }

    /// Puts the session on the lane with this key, if it is another one.
    fn change_lane(&mut self, id: SessionId, key: LaneKey, now: Stamp) -> Result<(), CommandRefusal> {
        if key != *self.lanes[self.sessions[id].lane()].key() {
            // The new lane first: a topic on both is wanted throughout.
            let cursor = self.log.offset();
            let lane = self.lanes.lane_for(key, &self.settings, &self.demand, (cursor, now))?;
            self.sessions.change_lane(id, lane, &mut self.lanes, cursor);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
