//! Clients change what they see: `subscribe` and `unsubscribe`.

use std::sync::Arc;
use std::time::Duration;

use crate::access::rights::ViewId;
use crate::access::shown_delay::shown_delay;
use crate::audit::event::AuditKind;
use crate::bus::frame::Frame;
use crate::delivery::catch_up::CatchUp;
use crate::delivery::chunk::{Chunk, SLICE_BYTES};
use crate::delivery::demand::restore_count;
use crate::delivery::lanes::lane_key::LaneTerms;
use crate::delivery::lanes::lane_patterns::PatternChange;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::command_effect::{CommandEffect, RightsLimits};
use crate::delivery::sessions::entitlement::check_patterns;
use crate::delivery::sessions::sync_state::{NextState, SyncState};
use crate::delivery::shard::Shard;
use crate::delivery::shard::catch_up::SLICE_WORK;
use crate::delivery::transport::socket::Socket;
use crate::protocol::command::{CommandRefusal, resume_offset};
use crate::words::ids::Cursor;
use crate::words::stamp::Stamp;
use crate::words::topic::Pattern;

/// How a client subscribes.
pub(super) struct SubscribeTerms {
    /// The session's pace from now on.
    pub every: Option<Duration>,
    pub since: Option<Cursor>,
    pub brief: bool,
}

impl<S: Socket> Shard<S> {
    pub(super) fn subscribe(
        &mut self,
        id: SessionId,
        mut wanted: Vec<Pattern>,
        SubscribeTerms { every, since, brief }: SubscribeTerms,
        now: Stamp,
    ) -> Result<CommandEffect, CommandRefusal> {
        let session = &mut self.sessions[id];
        let terms = session.access.terms(every);
        let forbidden: Option<Vec<Pattern>> = terms.filter.as_ref().map(|filter| {
            self.budgets.messages.spend(wanted.len() * (1 + filter.count()));
            wanted.extract_if(.., |pattern| !filter.admits(pattern)).collect()
        });
        let reader = self.log.reader();
        let change = self.lanes.adding(session.lane(), &wanted, &self.demand);
        let (count, is_news) = (brief.then_some(change.totals.patterns), !change.is_empty());
        check_patterns(change.totals, &self.settings)?;
        if since.is_some() && session.has_subscribed {
            let message = "`since` is only allowed in the first subscription of a connection; reconnect to resume";
            return Err(CommandRefusal::new("bad_request", message));
        }
        // After a downgrade, its cursor is of the live log.
        let is_ahead = |since: &Cursor| since.epoch == reader.epoch() && since.offset > reader.head();
        let is_of_live = self.view != ViewId::LIVE && since.as_ref().is_some_and(is_ahead);
        let since = since.filter(|_| !is_of_live);
        let resume = since.map(|since| resume_offset(since, reader.epoch(), reader.head())).transpose()?;
        let count_before = self.demand.count(change.totals.wanted, session.share.as_deref_mut())?;
        let values = match self.change_patterns(id, (change, terms.clone()), now) {
            Ok(values) => values,
            Err(refusal) => {
                restore_count(self.sessions[id].share.as_deref_mut(), count_before);
                return Err(refusal);
            }
        };
        let forbidden = forbidden.unwrap_or_default();
        self.record_forbidden(id, AuditKind::Refuse, &forbidden);
        if is_news {
            self.record_patterns(id, AuditKind::Subscribe, &wanted);
        }
        let session = &mut self.sessions[id];
        session.has_subscribed = true;
        if let Some(spoken) = &mut session.dialect {
            spoken.since = self.log.offset();
            if self.log.is_live() {
                spoken.losses = self.log.losses();
            }
        }
        session.access.ask_every(every);
        let limits = RightsLimits {
            forbidden,
            within: self.lanes[session.lane()].key().filter.clone().filter(|_| !brief),
            every: session.access.pace_min().and(terms.every),
            delay: session.access.grant().and_then(|grant| shown_delay(&grant.rights)),
        };
        let (mut statuses, context) = (Vec::new(), (session.encoding(), now));
        let pending = self.demand.pending(wanted, self.log.reader(), context, &mut statuses);
        let mut offset = self.log.offset();
        if let Some(Some(cursor)) = resume {
            offset = offset.max(cursor);
            self.sessions.move_to(id, NextState::Behind(CatchUp::resuming(cursor)), &mut self.lanes);
        }
        let skipped = match resume {
            _ if is_of_live => Some(("delayed", &self.meters.skips_delayed)),
            Some(None) => Some(("epoch", &self.meters.skips_epoch)),
            Some(Some(_)) | None => None,
        };
        let skipped = skipped.map(|(reason, counter)| {
            counter.increment(1);
            reason
        });
        Ok(CommandEffect::Subscribed { offset, count, skipped, pending, statuses, values, limits })
    }

    pub(super) fn unsubscribe(
        &mut self,
        id: SessionId,
        unwanted: &[Pattern],
        brief: bool,
        now: Stamp,
    ) -> Result<CommandEffect, CommandRefusal> {
        let lane = self.sessions[id].lane();
        let change = self.lanes.removing(lane, unwanted).map_err(|stranger| {
            let message = format!("expected subscribed patterns, found `{stranger}`, which is not in force");
            CommandRefusal::new("not_subscribed", message)
        })?;
        let (totals, access) = (change.totals, &self.sessions[id].access);
        let terms = access.terms(access.asked_every());
        self.change_patterns(id, (change, terms), now)?;
        self.demand.count(totals.wanted, self.sessions[id].share.as_deref_mut())?;
        self.record_patterns(id, AuditKind::Unsubscribe, unwanted);
        Ok(CommandEffect::Unsubscribed { offset: self.log.offset(), count: brief.then_some(totals.patterns) })
    }

    /// Changes the patterns of a session, its pace, and what its rights leave of them. Gives the values that are to follow the answer at once.
    pub(super) fn change_patterns(
        &mut self,
        id: SessionId,
        (change, terms): (PatternChange, LaneTerms),
        now: Stamp,
    ) -> Result<Option<Chunk>, CommandRefusal> {
        let lane = self.sessions[id].lane();
        if change.is_empty() && self.lanes[lane].key().is_on(&terms) {
            return Ok(None);
        }
        if let Some(values) = self.values_in_place(id, &change, &terms) {
            self.budgets.messages.spend(change.work());
            self.budgets.catch_up.spend(values.len() + SLICE_WORK);
            self.lanes.change_lane(lane, change, &self.settings, &self.demand)?;
            if values.is_empty() {
                return Ok(None);
            }
            let chunk = self.lanes.values(lane, &values, (self.log.reader(), &mut self.encoder));
            self.meters.delivered(&chunk, 1);
            return Ok(Some(chunk));
        }
        // The new lane first: a topic on both is wanted throughout.
        let cursor = self.log.offset();
        let lane = self.lanes.lane_for((lane, change, &terms), &self.settings, &self.demand, (cursor, now))?;
        self.sessions.change_lane(id, lane, &mut self.lanes, cursor);
        Ok(None)
    }

    /// What is kept of the new topics, by offset, if the lane itself can change: the session has it for itself, is in step
    /// and stays so, because all that it has to be sent fits into one slice. None if it has to change its lane.
    fn values_in_place(&self, id: SessionId, change: &PatternChange, terms: &LaneTerms) -> Option<Vec<Arc<Frame>>> {
        let (session, slice_bytes) = (&self.sessions[id], self.slice_bytes());
        let is_in_step = matches!(session.state(), SyncState::InStep { .. });
        let may = is_in_step && slice_bytes == SLICE_BYTES && !self.budgets.catch_up.is_spent();
        if !may || !self.lanes.is_changeable(session.lane(), change, terms) {
            return None;
        }
        self.lanes.index().kept_of_new(change, (session.format, slice_bytes / 2))
    }
}

#[cfg(test)]
mod tests;
