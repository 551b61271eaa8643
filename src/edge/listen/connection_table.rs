//! Slots of connections before the upgrade: which connection has one, and which gives it up for a new one.
//!
//! | bound | at the bound, in this order |
//! |---|---|
//! | connections of an address without a request head | its oldest makes room; those younger than `GRACE` are spared |
//! | connections of an address | its longest idle one makes room, then its oldest without a head, else the new one is refused |
//! | connections in total, and open files that sessions leave | the longest idle one makes room, then the oldest without a head, else the new one waits |
//!
//! The connections of a trusted proxy have no address: they are those of many clients, and count in total only.
//! A connection that is being answered never makes room. One that must close leaves the table at once and is notified; it
//! ends when its task next runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use metrics::{Counter, Gauge};
use tokio::sync::Notify;

use crate::access::network_counts::network;
use crate::edge::listen::client_files::ClientFiles;
use crate::edge::settings::ConnectionLimits;
use crate::words::metrics as names;
use crate::words::metrics::Meters;

/// A burst of upgrades through one proxy is accepted faster than heads are read: in 100 ms each task runs many times.
const GRACE: Duration = Duration::from_millis(100);

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) enum ConnectionActivity {
    /// Waits for a request head: the first one, or the rest of one that has begun.
    Pending,
    /// A request is being answered.
    Busy,
    /// Answered, without a request since.
    Idle,
}

/// Counts connections and chooses which one makes room.
pub(in crate::edge) struct ConnectionTable {
    limits: Arc<ArcSwap<ConnectionLimits>>,
    /// Held for a few instructions at each change of state.
    ledger: Mutex<TableState>,
    /// Notified when a slot may have become free.
    pub moved: Notify,
    pub files: Arc<ClientFiles>,
    meters: ConnectionMeters,
}

#[derive(Default)]
struct TableState {
    slots: HashMap<u64, ConnectionEntry>,
    /// Slots by the number of the change that moved them here, oldest first.
    pending: BTreeMap<u64, u64>,
    idle: BTreeMap<u64, u64>,
    by_address: HashMap<IpAddr, AddressCount>,
    changes: u64,
}

struct ConnectionEntry {
    /// None: counted in total only.
    network: Option<IpAddr>,
    doing: ConnectionActivity,
    /// Number of the last change.
    change: u64,
    since: Instant,
    leave: Arc<Notify>,
}

/// Where the connections that do the same are listed: those of all, and those of one address if it is counted.
type ActivityLists<'t> = (&'t mut BTreeMap<u64, u64>, Option<&'t mut BTreeSet<u64>>);

/// The connections of one address.
#[derive(Default)]
struct AddressCount {
    slots: usize,
    /// Numbers of changes, as in the table.
    pending: BTreeSet<u64>,
    idle: BTreeSet<u64>,
}

struct ConnectionMeters {
    doing: [Gauge; 3],
    address: Counter,
    pressure: Counter,
    refused: Counter,
}

/// The outcome for a new connection.
pub(in crate::edge) enum Accepted {
    Slot(ConnectionSlot),
    /// All slots are being answered: wait for [`ConnectionTable::moved`].
    Full,
    /// All slots of its address are being answered.
    Refused,
}

/// The slot of one connection, until it is dropped.
pub(in crate::edge) struct ConnectionSlot {
    places: Arc<ConnectionTable>,
    id: u64,
    doing: ConnectionActivity,
    /// Notified when the connection must close.
    pub leave: Arc<Notify>,
}

impl ConnectionTable {
    /// Each entry reads `limits` anew.
    pub(crate) fn new(
        limits: Arc<ArcSwap<ConnectionLimits>>,
        files: Arc<ClientFiles>,
        meters: &Meters,
    ) -> Arc<ConnectionTable> {
        let gauge = |state| meters.gauge(&names::HTTP_CONNECTIONS, &[("state", state)]);
        let counter = |reason| meters.counter(&names::HTTP_DROPPED, &[("reason", reason)]);
        let meters = ConnectionMeters {
            doing: ["pending", "busy", "idle"].map(gauge),
            address: counter("address"),
            pressure: counter("pressure"),
            refused: counter("refused"),
        };
        Arc::new(ConnectionTable { limits, ledger: Mutex::default(), moved: Notify::new(), files, meters })
    }

    pub(crate) fn enter(self: &Arc<ConnectionTable>, address: Option<IpAddr>, now: Instant) -> Accepted {
        let network = address.map(network);
        let mut ledger = self.ledger();
        if network.is_some_and(|network| !self.fits(&mut ledger, network, now)) {
            return Accepted::Refused;
        }
        if ledger.slots.len() >= self.limits.load().total_max.min(self.files.for_connections()) {
            let Some(oldest) = ledger.idle.values().chain(ledger.pending.values()).next().copied() else {
                return Accepted::Full;
            };
            self.evict(&mut ledger, oldest, &self.meters.pressure);
        }
        let leave = Arc::new(Notify::new());
        let id = ledger.admit(network, leave.clone(), now);
        self.meters.doing[ConnectionActivity::Pending as usize].increment(1.0);
        Accepted::Slot(ConnectionSlot { places: self.clone(), id, doing: ConnectionActivity::Pending, leave })
    }

    /// Whether its address may have one more connection; makes room for it.
    fn fits(&self, ledger: &mut TableState, network: IpAddr, now: Instant) -> bool {
        let held = ledger.by_address.get(&network).map_or(0, |share| share.slots);
        let limits = **self.limits.load();
        if limits.per_address_max.is_some_and(|max| held >= max) && !self.make_room_of(ledger, network, now) {
            self.meters.refused.increment(1);
            return false;
        }
        // Several, if a burst was spared and stayed silent.
        while limits.pending_per_address_max.is_some_and(|max| ledger.pending_of(network) >= max)
            && let Some(oldest) = ledger.oldest_pending_of(network, now)
        {
            self.evict(ledger, oldest, &self.meters.address);
        }
        true
    }

    /// Waits until all connections have ended.
    pub(crate) async fn emptied(&self) {
        while !self.ledger().slots.is_empty() {
            self.moved.notified().await;
        }
    }

    /// Whether one connection of the address could be closed.
    fn make_room_of(&self, ledger: &mut TableState, network: IpAddr, now: Instant) -> bool {
        let oldest = ledger.oldest_idle_of(network).or_else(|| ledger.oldest_pending_of(network, now));
        if let Some(oldest) = oldest {
            self.evict(ledger, oldest, &self.meters.address);
        }
        oldest.is_some()
    }

    fn evict(&self, ledger: &mut TableState, id: u64, counter: &Counter) {
        if let Some(entry) = ledger.remove(id) {
            self.meters.doing[entry.doing as usize].decrement(1.0);
            entry.leave.notify_one();
            counter.increment(1);
        }
    }

    fn ledger(&self) -> MutexGuard<'_, TableState> {
        // Each update is complete before anything can panic, so a poisoned lock is still valid.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TableState {
    fn admit(&mut self, network: Option<IpAddr>, leave: Arc<Notify>, now: Instant) -> u64 {
        self.changes += 1;
        let id = self.changes;
        let entry = ConnectionEntry { network, doing: ConnectionActivity::Pending, change: id, since: now, leave };
        self.count(network);
        self.file(&entry, id);
        self.slots.insert(id, entry);
        id
    }

    fn change(&mut self, id: u64, doing: ConnectionActivity, now: Instant) -> bool {
        let Some(mut entry) = self.slots.remove(&id) else { return false };
        self.unfile(&entry);
        self.changes += 1;
        (entry.doing, entry.change, entry.since) = (doing, self.changes, now);
        self.file(&entry, id);
        self.slots.insert(id, entry);
        true
    }

    fn remove(&mut self, id: u64) -> Option<ConnectionEntry> {
        let entry = self.slots.remove(&id)?;
        self.unfile(&entry);
        self.uncount(entry.network);
        Some(entry)
    }

    /// The connection turns out to be of this address; false if it has left already.
    fn readdress(&mut self, id: u64, network: IpAddr) -> bool {
        let Some(mut entry) = self.slots.remove(&id) else { return false };
        self.unfile(&entry);
        self.uncount(entry.network);
        entry.network = Some(network);
        self.count(entry.network);
        self.file(&entry, id);
        self.slots.insert(id, entry);
        true
    }

    fn count(&mut self, network: Option<IpAddr>) {
        if let Some(network) = network {
            self.by_address.entry(network).or_default().slots += 1;
        }
    }

    fn uncount(&mut self, network: Option<IpAddr>) {
        let Some(network) = network else { return };
        if let Some(share) = self.by_address.get_mut(&network) {
            share.slots -= 1;
            if share.slots == 0 {
                self.by_address.remove(&network);
            }
        }
    }

    fn file(&mut self, entry: &ConnectionEntry, id: u64) {
        let Some((all, own)) = self.lists_of(entry) else { return };
        all.insert(entry.change, id);
        if let Some(own) = own {
            own.insert(entry.change);
        }
    }

    fn unfile(&mut self, entry: &ConnectionEntry) {
        let Some((all, own)) = self.lists_of(entry) else { return };
        all.remove(&entry.change);
        if let Some(own) = own {
            own.remove(&entry.change);
        }
    }

    /// The lists that a connection is on by what it does: of all, and of its address.
    fn lists_of(&mut self, entry: &ConnectionEntry) -> Option<ActivityLists<'_>> {
        let share = entry.network.and_then(|network| self.by_address.get_mut(&network));
        match entry.doing {
            ConnectionActivity::Busy => None,
            ConnectionActivity::Pending => Some((&mut self.pending, share.map(|share| &mut share.pending))),
            ConnectionActivity::Idle => Some((&mut self.idle, share.map(|share| &mut share.idle))),
        }
    }

    fn pending_of(&self, network: IpAddr) -> usize {
        self.by_address.get(&network).map_or(0, |share| share.pending.len())
    }

    fn oldest_idle_of(&self, network: IpAddr) -> Option<u64> {
        let change = self.by_address.get(&network)?.idle.first()?;
        self.idle.get(change).copied()
    }

    /// None if the oldest is younger than `GRACE`.
    fn oldest_pending_of(&self, network: IpAddr, now: Instant) -> Option<u64> {
        let change = self.by_address.get(&network)?.pending.first()?;
        let id = self.pending.get(change).copied()?;
        let since = self.slots.get(&id)?.since;
        (now.duration_since(since) >= GRACE).then_some(id)
    }
}

impl ConnectionSlot {
    /// The connection turns out to be of this address, and counts for it from now on; false if that may have no more.
    pub(crate) fn counts_for(&mut self, address: IpAddr, now: Instant) -> bool {
        let network = network(address);
        let mut ledger = self.places.ledger();
        let fits = self.places.fits(&mut ledger, network, now);
        fits && ledger.readdress(self.id, network)
    }

    /// Records the new state of the connection.
    pub(crate) fn is(&mut self, doing: ConnectionActivity) {
        if self.doing == doing {
            return;
        }
        let freed = self.doing == ConnectionActivity::Busy;
        if self.places.ledger().change(self.id, doing, Instant::now()) {
            self.places.meters.doing[self.doing as usize].decrement(1.0);
            self.places.meters.doing[doing as usize].increment(1.0);
        }
        self.doing = doing;
        if freed {
            self.places.moved.notify_one();
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        if self.places.ledger().remove(self.id).is_some() {
            self.places.meters.doing[self.doing as usize].decrement(1.0);
        }
        self.places.moved.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn places(total_max: usize, per_address_max: usize, pending_per_address_max: usize) -> Arc<ConnectionTable> {
        let limits = ConnectionLimits {
            total_max,
            files_max: total_max,
            per_address_max: Some(per_address_max),
            pending_per_address_max: Some(pending_per_address_max),
            header_timeout: SECOND,
            keep_alive: SECOND,
            write_timeout: SECOND,
            requests_per_second_max: 1,
        };
        let files = ClientFiles::new(total_max, 1);
        ConnectionTable::new(Arc::new(ArcSwap::from_pointee(limits)), files, &Meters::unread())
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn slot(places: &Arc<ConnectionTable>, address: IpAddr, now: Instant) -> ConnectionSlot {
        match places.enter(Some(address), now) {
            Accepted::Slot(slot) => slot,
            Accepted::Full | Accepted::Refused => panic!("expected a place"),
        }
    }

    async fn must_go(slot: &ConnectionSlot) -> bool {
        tokio::time::timeout(Duration::ZERO, slot.leave.notified()).await.is_ok()
    }

    #[tokio::test]
    async fn silent_connections_of_one_address_only_take_each_others_places() {
        let places = places(100, 100, 3);
        let start = Instant::now();
        let honest = slot(&places, ip(2), start);
        let silent: Vec<ConnectionSlot> = (0..10).map(|n| slot(&places, ip(1), start + n * SECOND)).collect();
        for (n, silent) in silent.iter().enumerate() {
            assert_eq!(must_go(silent).await, n < 7, "{n}");
        }
        assert!(!must_go(&honest).await, "the oldest of all, but of another address");
        drop(silent);
        drop(honest);
        assert!(places.ledger().by_address.is_empty() && places.ledger().pending.is_empty());
    }

    #[tokio::test]
    async fn a_burst_through_a_proxy_is_spared() {
        let places = places(100, 100, 3);
        let now = Instant::now();
        let burst: Vec<ConnectionSlot> = (0..20).map(|_| slot(&places, ip(1), now)).collect();
        for slot in &burst {
            assert!(!must_go(slot).await);
        }
        let _late = slot(&places, ip(1), now + SECOND);
        assert_eq!(places.ledger().pending_of(ip(1)), 3, "but not for ever");
    }

    #[tokio::test]
    async fn under_pressure_idle_connections_go_first_then_silent_ones_and_never_busy_ones() {
        let places = places(3, 10, 10);
        let now = Instant::now();
        let mut busy = slot(&places, ip(1), now);
        busy.is(ConnectionActivity::Busy);
        let silent = slot(&places, ip(2), now);
        let mut idle = slot(&places, ip(3), now);
        idle.is(ConnectionActivity::Busy);
        idle.is(ConnectionActivity::Idle);
        let mut fourth = slot(&places, ip(4), now);
        assert!(must_go(&idle).await && !must_go(&silent).await);
        fourth.is(ConnectionActivity::Busy);
        let mut fifth = slot(&places, ip(5), now);
        assert!(must_go(&silent).await && !must_go(&busy).await);
        fifth.is(ConnectionActivity::Busy);
        assert!(matches!(places.enter(Some(ip(6)), now), Accepted::Full));
        busy.is(ConnectionActivity::Idle);
        slot(&places, ip(6), now);
        assert!(must_go(&busy).await);
    }

    #[tokio::test]
    async fn an_address_with_all_its_share_at_work_is_refused_and_others_are_not() {
        let places = places(100, 2, 2);
        let now = Instant::now();
        let mut slots: Vec<ConnectionSlot> = (0..2).map(|_| slot(&places, ip(1), now)).collect();
        slots.iter_mut().for_each(|slot| slot.is(ConnectionActivity::Busy));
        assert!(matches!(places.enter(Some(ip(1)), now), Accepted::Refused));
        slot(&places, ip(2), now);
        slots[0].is(ConnectionActivity::Idle);
        slots.push(slot(&places, ip(1), now));
        assert!(must_go(&slots[0]).await);
    }

    #[tokio::test]
    async fn connections_of_a_proxy_count_for_the_clients_that_they_turn_out_to_be() {
        let places = places(100, 2, 2);
        let now = Instant::now();
        let enter = || match places.enter(None, now) {
            Accepted::Slot(slot) => slot,
            Accepted::Full | Accepted::Refused => panic!("expected a place"),
        };
        let mut slots: Vec<ConnectionSlot> = (0..5).map(|_| enter()).collect();
        assert!(places.ledger().by_address.is_empty(), "a proxy has no share of its own");
        for slot in &mut slots[..2] {
            assert!(slot.counts_for(ip(1), now));
            slot.is(ConnectionActivity::Busy);
        }
        assert!(!slots[2].counts_for(ip(1), now), "all of this client's share is at work");
        assert!(slots[2].counts_for(ip(2), now));
        slots[1].is(ConnectionActivity::Idle);
        assert!(slots[3].counts_for(ip(1), now));
        assert!(must_go(&slots[1]).await && !must_go(&slots[4]).await);
        drop(slots);
        let ledger = places.ledger();
        assert!(ledger.by_address.is_empty() && ledger.pending.is_empty() && ledger.idle.is_empty());
    }
}
