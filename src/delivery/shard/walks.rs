//! Orders to sessions, and lists of them: a walk over all sessions of the shard, some of them in each turn.
//!
//! A session that joins during a walk may be missed. Its grant is looked at again when it is admitted
//! (`authentication.rs`), so that no order that withdraws rights misses it. Nor is one missed that moves from one view to
//! another (`orders.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::access::rights::Rights;
use crate::access::selector::{SessionOrder, SessionSelector};
use crate::access::session_row::{ROW_PATTERNS_MAX, SessionFilter, SessionRow, SessionState};
use crate::audit::event::AuditKind;
use crate::delivery::chunk::Compression;
use crate::delivery::session_id::SessionId;
use crate::delivery::shard::Shard;
use crate::delivery::shard::departure::spread_by_number;
use crate::delivery::shard::orders::NumberedOrder;
use crate::delivery::transport::socket::Socket;
use crate::words::goodbye::Goodbye;
use crate::words::stamp::Stamp;

/// Sessions, and patterns of theirs, looked at in one turn: 4096 at 20 to 200 ns keep it below a millisecond.
const WALK_STEPS: usize = 4096;
/// What ending a session costs in them, or changing what it may do: about 3 us.
const CHANGE_STEPS: usize = 16;

/// Which rows are wanted: the first so many with a greater number than `after`.
#[derive(Clone, Debug)]
pub struct ListQuery {
    pub filter: SessionFilter,
    pub after: u64,
    pub limit: usize,
}

/// Gives each session that is sent away its delay.
pub type ReconnectDelay = Box<dyn FnMut() -> u64 + Send>;

pub struct Walk {
    errand: Errand,
    /// The session number that is next.
    next: usize,
}

enum Errand {
    Order { order: NumberedOrder, reconnect_ms: ReconnectDelay, sessions: usize, reached: Sender<usize> },
    List { query: Arc<ListQuery>, rows: BTreeMap<u64, SessionRow>, reply: Sender<Vec<SessionRow>> },
}

impl<S: Socket> Shard<S> {
    /// Does this to all sessions that are selected, and sends their number to `reached`; `reconnect_ms` gives each its
    /// delay.
    pub fn order(&mut self, order: NumberedOrder, reconnect_ms: ReconnectDelay, reached: Sender<usize>, now: Stamp) {
        self.recent_orders.add(order.clone(), now);
        self.walks.push_back(Walk { errand: Errand::Order { order, reconnect_ms, sessions: 0, reached }, next: 0 });
    }

    /// An order of which nobody counts the sessions.
    #[cfg(test)]
    pub fn order_uncounted(
        &mut self,
        selector: SessionSelector,
        order: SessionOrder,
        reconnect_ms: ReconnectDelay,
        now: Stamp,
    ) {
        let number = self.recent_orders.iter().map(|order| order.number + 1).max().unwrap_or(0);
        self.order(NumberedOrder { number, selector, order }, reconnect_ms, std::sync::mpsc::channel().0, now);
    }

    /// The recent orders that have looked at this session.
    pub(super) fn orders_past(&self, id: SessionId) -> Vec<u64> {
        let is_ahead = |number: u64| {
            let is_it = |errand: &Errand| matches!(errand, Errand::Order { order, .. } if order.number == number);
            self.walks.iter().any(|walk| walk.next <= id.0 && is_it(&walk.errand))
        };
        self.recent_orders.iter().map(|order| order.number).filter(|number| !is_ahead(*number)).collect()
    }

    /// Has a session that was on its way do what it was ordered to meanwhile; `past` are the orders that looked at it.
    pub(super) fn obey_missed(&mut self, id: SessionId, past: &[u64], now: Stamp) {
        let missed = self.recent_orders.iter().filter(|order| !past.contains(&order.number));
        for NumberedOrder { selector, order, .. } in missed.cloned().collect::<Vec<_>>() {
            let spread_ms = match &order {
                SessionOrder::End { spread, .. } => u64::try_from(spread.as_millis()).unwrap_or(u64::MAX),
                SessionOrder::Reassess => 0,
            };
            let delay_ms = self.sessions.get(id).map_or(0, |session| spread_by_number(session.number, spread_ms));
            self.obey_order(id, (&selector, &order), &mut || delay_ms, now);
        }
    }

    /// Sends the rows of the sessions that are asked for.
    pub fn list(&mut self, query: Arc<ListQuery>, reply: Sender<Vec<SessionRow>>) {
        self.walks.push_back(Walk { errand: Errand::List { query, rows: BTreeMap::new(), reply }, next: 0 });
    }

    /// The part of one turn.
    pub(super) fn walk_on(&mut self, now: Stamp) {
        let mut steps = 0;
        while steps < WALK_STEPS
            && let Some(mut walk) = self.walks.pop_front()
        {
            while steps < WALK_STEPS && walk.next < self.sessions.capacity() {
                steps += self.visit(SessionId(walk.next), &mut walk.errand, now);
                walk.next += 1;
            }
            if walk.next < self.sessions.capacity() {
                return self.walks.push_front(walk);
            }
            // Nobody waits for it any more, or the answer arrives.
            match walk.errand {
                Errand::List { rows, reply, .. } => drop(reply.send(rows.into_values().collect())),
                Errand::Order { sessions, reached, .. } => drop(reached.send(sessions)),
            }
        }
    }

    /// Gives the work.
    fn visit(&mut self, id: SessionId, errand: &mut Errand, now: Stamp) -> usize {
        // The canary is nobody's client: it is not listed, and no order is about it.
        let Some(session) = self.sessions.get(id).filter(|session| !session.is_canary) else { return 1 };
        match errand {
            Errand::Order { order: NumberedOrder { selector, order, .. }, reconnect_ms, sessions, .. } => {
                let (steps, is_reached) = self.obey_order(id, (selector, order), reconnect_ms, now);
                *sessions += usize::from(is_reached);
                steps
            }
            Errand::List { query, rows, .. } => {
                let number = session.number;
                let is_full = rows.len() >= query.limit && rows.last_key_value().is_none_or(|(last, _)| *last < number);
                if number <= query.after || is_full || !self.is_listed(id, &query.filter) {
                    return 2;
                }
                rows.insert(number, self.row(id));
                if rows.len() > query.limit {
                    rows.pop_last();
                }
                CHANGE_STEPS
            }
        }
    }

    /// Gives the work, and whether the session ends.
    fn obey_order(
        &mut self,
        id: SessionId,
        (selector, order): (&SessionSelector, &SessionOrder),
        reconnect_ms: &mut dyn FnMut() -> u64,
        now: Stamp,
    ) -> (usize, bool) {
        let Some(session) = self.sessions.get(id).filter(|session| !session.is_leaving()) else { return (1, false) };
        let selected = match session.access.grant() {
            Some(grant) => selector.selects(session.number, grant),
            None => *selector == SessionSelector::All || *selector == SessionSelector::Number(session.number),
        };
        if !selected {
            return (1, false);
        }
        match order {
            SessionOrder::End { goodbye, .. } => {
                self.send_away(id, *goodbye, reconnect_ms, now);
                (CHANGE_STEPS, true)
            }
            SessionOrder::Reassess => {
                let names = self.lanes[session.lane()].key().patterns.totals().patterns;
                (CHANGE_STEPS + names, !self.reassess(id, now))
            }
        }
    }

    /// Ends a session by order. Who must see nothing more sees nothing more.
    fn send_away(&mut self, id: SessionId, goodbye: Goodbye, reconnect_ms: &mut dyn FnMut() -> u64, now: Stamp) {
        if goodbye != Goodbye::Replaced {
            self.record_reason(id, AuditKind::Kick, goodbye.label());
        }
        match goodbye {
            Goodbye::Forbidden | Goodbye::Unauthenticated => self.withdraw(id, goodbye, now),
            Goodbye::Replaced => self.dismiss(id, goodbye, goodbye.sentence(), now),
            _ => self.dismiss_for(id, goodbye, reconnect_ms(), now),
        }
    }

    /// Gives a session what its gatekeeper allows it now. False if that is nothing, and it ends.
    pub(super) fn reassess(&mut self, id: SessionId, now: Stamp) -> bool {
        let session = self.sessions.get(id).filter(|session| !session.is_leaving());
        let Some(before) = session.and_then(|session| session.access.grant().cloned()) else { return true };
        let grant = match self.gatekeeper.reassess(&before) {
            Ok(grant) => grant,
            Err(refusal) => {
                self.record_reason(id, AuditKind::Revoke, refusal.reason);
                self.withdraw(id, refusal.goodbye, now);
                return false;
            }
        };
        if grant.rights == before.rights && grant.identity == before.identity {
            return true;
        }
        self.record_grant(id, AuditKind::RightsChange, &grant);
        let has_unsent = self.sessions[id].has_unsent();
        let Rights { topics, .. } = &*before.rights;
        if has_unsent && grant.rights.topics != *topics {
            // What is left of a chunk may be of topics that are not allowed any more.
            self.withdraw(id, Goodbye::Kicked, now);
            return true;
        }
        self.step_aside(id);
        let mut out = Vec::new();
        if self.change_grant(id, grant, now, &mut out) && !has_unsent && !out.is_empty() {
            self.sessions.send(id, out, Compression::Plain);
            self.flush_or_fall_behind(id, now);
        }
        true
    }

    fn is_listed(&self, id: SessionId, filter: &SessionFilter) -> bool {
        let session = &self.sessions[id];
        let receives = |topic: &str| !session.is_leaving() && self.lanes.receives(session.lane(), topic);
        filter.admits(session.access.grant()) && filter.topic.as_deref().is_none_or(receives)
    }

    fn row(&self, id: SessionId) -> SessionRow {
        let session = &self.sessions[id];
        let offset = self.log.offset();
        let is_leaving = session.is_leaving();
        let state = match session.access.grant() {
            _ if is_leaving => SessionState::Leaving,
            None => SessionState::Unauthenticated,
            Some(_) if session.state().is_settled() => SessionState::InStep,
            Some(_) => SessionState::Behind,
        };
        let lane = (!is_leaving).then(|| session.lane());
        let patterns = lane.into_iter().flat_map(|lane| self.lanes.texts(lane)).take(ROW_PATTERNS_MAX);
        let count = lane.map_or(0, |lane| self.lanes[lane].key().patterns.totals().patterns);
        let sent = if is_leaving { offset } else { self.sessions.sent(id, &self.lanes, offset) };
        SessionRow {
            number: session.number,
            grant: session.access.grant().cloned(),
            address: session.address,
            certificate: session.certificate.clone(),
            since_ms: session.joined.wall_ms,
            patterns: patterns.map(Box::from).collect(),
            patterns_count: count,
            lag: offset.0.saturating_sub(sent.0),
            offset,
            unsent_bytes: session.unsent_bytes(),
            transport: session.transport().name(),
            state,
        }
    }
}
