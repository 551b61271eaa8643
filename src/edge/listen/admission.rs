//! Admission of sessions: counts them, in total and by address, from the upgrade to their end.
//!
//! A [`Permit`] counts from its creation to its drop, wherever it travels in between.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::access::network_counts::network;
use crate::edge::listen::since;
use crate::words::rate_limited_log::RateLimitedLog;

/// The two limits and the counts against them.
pub(in crate::edge) struct Admission {
    started: Instant,
    /// Held for a few instructions: by the edge at each upgrade, by a shard at each session's end.
    ledger: Mutex<SessionCounts>,
}

struct SessionCounts {
    sessions_max: usize,
    sessions_per_address_max: Option<usize>,
    sessions: usize,
    /// Kept also without a limit, which may come; an address without sessions has no entry.
    by_address: HashMap<IpAddr, usize>,
    refusals: RateLimitedLog,
}

/// The limit that refuses a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::edge) enum AdmissionLimit {
    #[error("expected fewer than {max} sessions (limits.sessions_max), found them all taken; try again later")]
    Sessions { max: usize },
    #[error(
        "expected fewer than {max} sessions from your address (limits.sessions_per_address_max), found them all taken; \
         close one, or share one connection among several uses"
    )]
    Address { max: usize },
}

/// One admitted session.
pub(in crate::edge) struct Permit {
    admission: Arc<Admission>,
    /// None: a client without an address.
    network: Option<IpAddr>,
}

/// Sessions that have shown no credential, where one is required: so many that they take no room from others.
pub(in crate::edge) struct WaitingRoom {
    max: AtomicUsize,
    taken: Arc<AtomicUsize>,
}

/// One of its places, given back by the drop.
pub(in crate::edge) struct WaitingPlace(Arc<AtomicUsize>);

impl WaitingRoom {
    pub(crate) fn new(max: usize) -> WaitingRoom {
        WaitingRoom { max: AtomicUsize::new(max), taken: Arc::default() }
    }

    /// Those who are inside stay.
    pub(crate) fn change(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// None if all places are taken.
    pub(crate) fn enter(&self) -> Option<WaitingPlace> {
        let place = WaitingPlace(self.taken.clone());
        // Given back at once if it was one too many.
        (self.taken.fetch_add(1, Ordering::Relaxed) < self.max()).then_some(place)
    }

    pub(crate) fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }
}

impl Drop for WaitingPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    pub(crate) fn new(sessions_max: usize, sessions_per_address_max: Option<usize>) -> Arc<Admission> {
        let ledger = SessionCounts {
            sessions_max,
            sessions_per_address_max,
            sessions: 0,
            by_address: HashMap::new(),
            refusals: RateLimitedLog::default(),
        };
        Arc::new(Admission { started: Instant::now(), ledger: Mutex::new(ledger) })
    }

    /// For sessions that begin from now on.
    pub(crate) fn change(&self, sessions_max: usize, sessions_per_address_max: Option<usize>) {
        let mut ledger = self.ledger();
        (ledger.sessions_max, ledger.sessions_per_address_max) = (sessions_max, sessions_per_address_max);
    }

    pub(crate) fn admit(self: &Arc<Admission>, address: Option<IpAddr>) -> Result<Permit, AdmissionLimit> {
        let network = address.map(network);
        let mut ledger = self.ledger();
        if ledger.sessions >= ledger.sessions_max {
            return Err(AdmissionLimit::Sessions { max: ledger.sessions_max });
        }
        if let Some(network) = network {
            let max = ledger.sessions_per_address_max;
            let taken = ledger.by_address.entry(network).or_default();
            if let Some(max) = max.filter(|max| *taken >= *max) {
                let suppressed = ledger.refusals.take(since(self.started));
                drop(ledger);
                if let Some(suppressed) = suppressed {
                    tracing::warn!(
                        address = %network,
                        max,
                        suppressed,
                        "refused a client: limits.sessions_per_address_max of its address are taken; \
                         if the address is that of a proxy, set proxy.trusted"
                    );
                }
                return Err(AdmissionLimit::Address { max });
            }
            *taken += 1;
        }
        ledger.sessions += 1;
        Ok(Permit { admission: self.clone(), network })
    }

    fn ledger(&self) -> MutexGuard<'_, SessionCounts> {
        // Each update is complete before anything can panic, so a poisoned lock is still valid.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut ledger = self.admission.ledger();
        ledger.sessions -= 1;
        let Some(network) = self.network else { return };
        if let Some(taken) = ledger.by_address.get_mut(&network) {
            *taken -= 1;
            if *taken == 0 {
                ledger.by_address.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect(text))
    }

    #[test]
    fn a_dropped_permit_makes_room_for_exactly_one() {
        let admission = Admission::new(2, None);
        let first = admission.admit(ip("10.0.0.1")).ok();
        let _second = admission.admit(ip("10.0.0.1")).expect("two are allowed");
        assert_eq!(admission.admit(ip("10.0.0.2")).err(), Some(AdmissionLimit::Sessions { max: 2 }));
        drop(first);
        let _third = admission.admit(ip("10.0.0.2")).expect("one has left");
        assert_eq!(admission.admit(ip("10.0.0.3")).err(), Some(AdmissionLimit::Sessions { max: 2 }));
    }

    #[test]
    fn other_limits_count_for_all_that_are_there() {
        let admission = Admission::new(10, None);
        let permits = [(); 3].map(|()| admission.admit(ip("10.0.0.1")).expect("no limit"));
        admission.change(10, Some(2));
        assert_eq!(admission.admit(ip("10.0.0.1")).err(), Some(AdmissionLimit::Address { max: 2 }));
        let _other = admission.admit(ip("10.0.0.2")).expect("another address");
        admission.change(4, None);
        assert_eq!(admission.admit(ip("10.0.0.3")).err(), Some(AdmissionLimit::Sessions { max: 4 }));
        drop(permits);
        admission.change(10, Some(1));
        let _again = admission.admit(ip("10.0.0.1")).expect("those have left");
    }

    #[test]
    fn a_place_in_the_waiting_room_is_free_again_when_it_is_given_back() {
        let room = WaitingRoom::new(2);
        let first = room.enter();
        let _second = room.enter().expect("two may wait");
        assert!(room.enter().is_none() && room.enter().is_none());
        drop(first);
        let _third = room.enter().expect("one has left");
        assert!(room.enter().is_none());
    }

    #[test]
    fn one_address_cannot_take_the_places_of_others() {
        for (first, second, same) in [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
        ] {
            let admission = Admission::new(10, Some(1));
            let permit = admission.admit(ip(first)).expect("the first");
            assert_eq!(admission.admit(ip(second)).is_err(), same, "{first} and {second}");
            drop(permit);
            assert!(admission.ledger().by_address.is_empty(), "nobody is remembered after the last session");
            assert_eq!(admission.ledger().sessions, 0);
        }
    }

    #[test]
    fn a_client_without_an_address_counts_in_total_only() {
        let admission = Admission::new(2, Some(1));
        let _permits = [admission.admit(None).expect("the first"), admission.admit(None).expect("the second")];
        assert_eq!(admission.admit(None).err(), Some(AdmissionLimit::Sessions { max: 2 }));
    }
}
