//! The journal of ends: why the last sessions ended, and the last connections were refused. For the operator alone.
//!
//! It has two shelves with half of its room each, so that a flood of refused connections displaces no end of a session. On
//! a full shelf a network that holds more than an eighth of it displaces its own oldest row, and any other one the oldest
//! of all: who comes and goes ten thousand times hides only what it did itself. Refused connections of one network for one
//! reason share a row.
//!
//! A row costs its allocations, the time of day, and a lock that is held for the change of three tables. Who reads holds
//! the lock for some rows at a time.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge};

use crate::access::end_row::EndRow;
use crate::access::end_shelf::{EndShelf, JournalLimits};
use crate::words::metrics::{self as names, Meters};

/// Rows looked at under one hold of the lock: some microseconds, which a shard may have to wait.
const LOOK_ROWS: usize = 256;

/// Which rows are wanted; each part that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndQuery {
    pub session: Option<u64>,
    pub address: Option<IpAddr>,
    /// Of any issuer.
    pub subject: Option<Box<str>>,
}

/// A handle; without a journal nothing is kept.
#[derive(Clone, Default)]
pub struct EndJournal(Option<Arc<Shelves>>);

struct Shelves {
    sessions: Mutex<EndShelf>,
    refusals: Mutex<EndShelf>,
    kept: Gauge,
    displaced: Counter,
}

impl EndJournal {
    pub fn new(limits: JournalLimits, meters: &Meters) -> EndJournal {
        let shelf = || Mutex::new(EndShelf::new(limits.half()));
        EndJournal(Some(Arc::new(Shelves {
            sessions: shelf(),
            refusals: shelf(),
            kept: meters.gauge(&names::JOURNAL_ENDS, &[]),
            displaced: meters.counter(&names::JOURNAL_DISPLACED, &[]),
        })))
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Keeps no more than this from now on.
    pub fn change_limits(&self, limits: JournalLimits) {
        let Some(shelves) = &self.0 else { return };
        for shelf in [&shelves.sessions, &shelves.refusals] {
            let displaced = shelf_of(shelf).change_limits(limits.half());
            shelves.displaced.increment(displaced.len() as u64);
            shelves.kept.decrement(displaced.len() as f64);
        }
    }

    /// Keeps the end of a session, which is now.
    pub fn session_ended(&self, mut row: EndRow) {
        row.ended_ms = now_ms();
        self.keep_session(row);
    }

    /// Keeps the end of a session of another process, which says when.
    pub fn keep_session(&self, row: EndRow) {
        let Some(shelves) = &self.0 else { return };
        let displaced = shelf_of(&shelves.sessions).add(row);
        shelves.count_added(&displaced);
    }

    /// Keeps that a connection was refused, which is now.
    pub fn refused(&self, transport: &'static str, reason: &'static str, address: Option<IpAddr>, detail: &str) {
        let Some(shelves) = &self.0 else { return };
        let now_ms = now_ms();
        let mut shelf = shelf_of(&shelves.refusals);
        if shelf.repeats(address, reason, now_ms) {
            return;
        }
        let mut row = EndRow::of_refusal(transport, reason, address, detail);
        (row.opened_ms, row.ended_ms) = (now_ms, now_ms);
        let displaced = shelf.add(row);
        drop(shelf);
        shelves.count_added(&displaced);
    }

    /// The newest `limit` rows that are asked for, newest first.
    pub fn find(&self, query: &EndQuery, limit: usize) -> Vec<Arc<EndRow>> {
        let Some(shelves) = &self.0 else { return Vec::new() };
        let mut found = collect(&shelves.sessions, query, limit);
        if query.session.is_none() && query.subject.is_none() {
            found.extend(collect(&shelves.refusals, query, limit));
        }
        found.sort_by_key(|row| std::cmp::Reverse(row.ended_ms));
        found.truncate(limit);
        found
    }

    /// The oldest ends of sessions that came after `serial`, with theirs; at most so many.
    pub fn sessions_after(&self, serial: u64, limit: usize) -> Vec<(u64, Arc<EndRow>)> {
        let Some(shelves) = &self.0 else { return Vec::new() };
        let shelf = shelf_of(&shelves.sessions);
        shelf.after(serial).take(limit).map(|(serial, row)| (serial, row.clone())).collect()
    }
}

/// Looks in parts, so that nobody waits for the lock.
fn collect(shelf: &Mutex<EndShelf>, query: &EndQuery, limit: usize) -> Vec<Arc<EndRow>> {
    let (mut found, mut before) = (Vec::new(), u64::MAX);
    while found.len() < limit {
        let shelf = shelf_of(shelf);
        let (mut seen, mut next) = (0, before);
        for (serial, row) in shelf.before(before).take(LOOK_ROWS) {
            (seen, next) = (seen + 1, serial);
            if query.asks_for(row) && found.len() < limit {
                found.push(row.clone());
            }
        }
        before = next;
        if seen < LOOK_ROWS {
            break;
        }
    }
    found
}

impl EndQuery {
    fn asks_for(&self, row: &EndRow) -> bool {
        self.session.is_none_or(|number| row.session == Some(number))
            && self
                .address
                .is_none_or(|address| row.address.is_some_and(|it| it.to_canonical() == address.to_canonical()))
            && (self.subject.is_none() || self.subject.as_deref() == row.sub.as_deref())
    }
}

impl Shelves {
    /// Counts a row, and what made room for it.
    fn count_added(&self, displaced: &[Arc<EndRow>]) {
        self.kept.increment(1.0 - displaced.len() as f64);
        self.displaced.increment(displaced.len() as u64);
    }
}

fn shelf_of(shelf: &Mutex<EndShelf>) -> MutexGuard<'_, EndShelf> {
    // Each change is complete before anything can panic, so a poisoned lock is still valid.
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::goodbye::Goodbye;

    const LIMITS: JournalLimits = JournalLimits { rows_max: 2000, bytes_max: 4 << 20 };

    fn journal() -> EndJournal {
        EndJournal::new(LIMITS, &Meters::unread())
    }

    fn row(session: u64, address: &str, sub: &str) -> EndRow {
        let address = Some(address.parse().expect(address));
        EndRow { address, sub: Some(sub.into()), ..EndRow::of_session(session, Goodbye::TooSlow, "too slow") }
    }

    fn numbers(found: &[Arc<EndRow>]) -> Vec<u64> {
        found.iter().filter_map(|row| row.session).collect()
    }

    #[test]
    fn the_operator_finds_an_end_by_session_by_address_and_by_subject_newest_first() {
        let journal = journal();
        for number in 1..=900 {
            let ended_ms = number;
            let address = if number % 2 == 0 { "192.0.2.1" } else { "::ffff:192.0.2.2" };
            let sub = if number % 300 == 0 { "alice" } else { "bob" };
            journal.keep_session(EndRow { ended_ms, ..row(number, address, sub) });
        }
        let find = |query, limit| numbers(&journal.find(&query, limit));
        let address = |text: &str| Some(text.parse().expect(text));
        assert_eq!(find(EndQuery { session: Some(7), ..EndQuery::default() }, 10), [7]);
        assert_eq!(find(EndQuery { subject: Some("alice".into()), ..EndQuery::default() }, 2), [900, 600]);
        assert_eq!(find(EndQuery { address: address("192.0.2.2"), ..EndQuery::default() }, 2), [899, 897]);
        assert!(find(EndQuery { address: address("192.0.2.3"), ..EndQuery::default() }, 2).is_empty());
        assert_eq!(find(EndQuery::default(), 900).len(), 900);
    }

    #[test]
    fn a_flood_of_refusals_displaces_no_end_of_a_session_and_shares_rows() {
        let journal = journal();
        journal.session_ended(row(1, "192.0.2.1", "alice"));
        for n in 0..10_000_u32 {
            let address = std::net::Ipv4Addr::from_bits(n % 5000).into();
            journal.refused("http", "too_many_sessions", Some(address), "expected fewer");
        }
        assert_eq!(numbers(&journal.find(&EndQuery::default(), 5000)), [1]);
        let all = journal.find(&EndQuery::default(), 5000);
        assert_eq!(all.len(), 1 + LIMITS.rows_max / 2);
        let again = "192.0.2.9".parse().ok();
        (0..3).for_each(|_| journal.refused("tls", "failed", again, "no shared version"));
        let found = journal.find(&EndQuery { address: again, ..EndQuery::default() }, 10);
        assert_eq!(found.iter().map(|row| row.times).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn without_room_nothing_is_kept_and_less_room_keeps_the_newest() {
        let journal = journal();
        (1..=900).for_each(|number| journal.session_ended(row(number, "192.0.2.1", "alice")));
        journal.change_limits(JournalLimits { rows_max: 4, ..LIMITS });
        assert_eq!(numbers(&journal.find(&EndQuery::default(), 10)).len(), 2);
        assert_eq!(journal.sessions_after(0, 10).iter().map(|(serial, _)| *serial).collect::<Vec<_>>(), [899, 900]);
        journal.change_limits(JournalLimits { rows_max: 0, ..LIMITS });
        journal.session_ended(row(901, "192.0.2.1", "alice"));
        journal.refused("http", "draining", None, "");
        assert!(journal.find(&EndQuery::default(), 10).is_empty());
        assert!(EndJournal::default().find(&EndQuery::default(), 10).is_empty());
    }
}
