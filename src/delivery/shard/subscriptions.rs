//! Clients change what they see: `subscribe` and `unsubscribe`.

use std::time::Duration;

use crate::delivery::catch_up::CatchUp;
use crate::delivery::demand::restore_count;
use crate::delivery::lanes::lane_patterns::PatternChange;
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
        let reader = self.log.reader();
        let change = self.lanes.adding(session.lane(), &wanted, &self.demand);
        check_patterns(&wanted, change.totals, session.grant, &self.settings)?;
        if since.is_some() && session.has_subscribed {
            let message = "`since` is only allowed in the first subscription of a connection; reconnect to resume";
            return Err(CommandRefusal::new("bad_request", message));
        }
        let resume = since.map(|since| resume_offset(since, reader.epoch(), reader.head())).transpose()?;
        let count_before = self.demand.count(change.totals.wanted, session.share.as_deref_mut())?;
        if let Err(refusal) = self.change_lane(id, (change, every), now) {
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
        Ok(CommandEffect::Subscribed { offset, other_epoch, pending, statuses })
    }

    pub(super) fn unsubscribe(
        &mut self,
        id: SessionId,
        unwanted: &[Pattern],
        now: Stamp,
    ) -> Result<CommandEffect, CommandRefusal> {
        let lane = self.sessions[id].lane();
        let change = self.lanes.removing(lane, unwanted).map_err(|stranger| {
            let message = format!("expected subscribed patterns, found `{stranger}`, which is not in force");
            CommandRefusal::new("not_subscribed", message)
        })?;
        let (wanted, every) = (change.totals.wanted, self.lanes[lane].key().every);
        self.change_lane(id, (change, every), now)?;
        self.demand.count(wanted, self.sessions[id].share.as_deref_mut())?;
        Ok(CommandEffect::Unsubscribed { offset: self.log.offset() })
    }

    /// Puts the session on the lane that has its patterns after the change, and this pace, if it is another one.
    fn change_lane(
        &mut self,
        id: SessionId,
        (change, every): (PatternChange, Option<Duration>),
        now: Stamp,
    ) -> Result<(), CommandRefusal> {
        let lane = self.sessions[id].lane();
        if change.is_empty() && every == self.lanes[lane].key().every {
            return Ok(());
        }
        // The new lane first: a topic on both is wanted throughout.
        let cursor = self.log.offset();
        let lane = self.lanes.lane_for((lane, change, every), &self.settings, &self.demand, (cursor, now))?;
        self.sessions.change_lane(id, lane, &mut self.lanes, cursor);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
