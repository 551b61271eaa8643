//! One connection of an upstream over its whole life: dialed, open, lost, dialed again, perhaps somewhere else.

use std::time::Duration;

use rand::Rng;

use crate::intake::arbitrate::arbiter::UpdateSource;
use crate::intake::classify::Classifier;
use crate::intake::connection::backoff::Backoff;
use crate::intake::connection::loss::Loss;
use crate::intake::connection::protocol::Protocol;
use crate::intake::connection::transport::Transport;
use crate::intake::upstream::assignment::ConnectionId;
use crate::json::Pointer;
use crate::words::stamp::Stamp;

pub struct Connection {
    pub id: ConnectionId,
    pub leg: usize,
    pub role: ConnectionRole,
    pub link: Transport,
    /// While it is open.
    pub dialogue: Option<Protocol>,
    pub sorter: Classifier,
    /// When it is to be dialed; none while it is, or if it is not wanted.
    pub dial_at_ns: Option<u64>,
    pub opened: Option<Stamp>,
    /// As in `UpdateSource`.
    pub line: u32,
    /// First and last data of this connection.
    pub data: Option<(Stamp, Stamp)>,
    pub rotate_at_ns: Option<u64>,
    /// Nothing has come for the idle timeout.
    pub is_silent: bool,
    /// It was told that the connection stands and nothing has come yet.
    pub told_waiting: bool,
    /// Since when, as the upstream itself says, what comes over it may be outdated; in milliseconds since the Unix epoch.
    pub outdated_ms: Option<u64>,
    pub hole: Option<ConnectionGapEnd>,
    /// Index of the address that it is at, or goes to next.
    pub place: usize,
    places: Vec<AddressState>,
}

/// The upstream has left out messages, and the newest values of what was in them follow.
#[derive(Debug)]
pub struct ConnectionGapEnd {
    /// Data with a greater number are beyond it.
    pub until: u64,
    /// Where data have their number.
    pub number: Pointer,
}

/// What a connection is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionRole {
    Regular,
    /// It is to take the place of this one.
    Successor {
        of: ConnectionId,
    },
    /// Another one has taken its place; it takes leave, and is then forgotten.
    Leaving,
}

/// What is known of one address.
#[derive(Clone)]
struct AddressState {
    backoff: Backoff,
    /// Not to be dialed before this.
    retry_ns: u64,
}

impl Connection {
    /// `places` is the number of addresses; leg by leg they begin at another one.
    pub fn new(
        id: ConnectionId,
        leg: usize,
        role: ConnectionRole,
        (places, backoff): (usize, Backoff),
        sorter: Classifier,
    ) -> Connection {
        Connection {
            id,
            leg,
            role,
            link: Transport::Empty,
            dialogue: None,
            sorter,
            dial_at_ns: Some(0),
            opened: None,
            line: 0,
            data: None,
            rotate_at_ns: None,
            is_silent: false,
            told_waiting: false,
            outdated_ms: None,
            hole: None,
            place: leg % places,
            places: vec![AddressState { backoff, retry_ns: 0 }; places],
        }
    }

    pub fn source(&self) -> UpdateSource {
        UpdateSource { link: self.id, leg: self.leg, line: self.line }
    }

    /// The connection whose items it is asked for.
    pub fn carries_for(&self) -> ConnectionId {
        match self.role {
            ConnectionRole::Successor { of } => of,
            ConnectionRole::Regular | ConnectionRole::Leaving => self.id,
        }
    }

    pub fn is_open(&self) -> bool {
        self.dialogue.is_some()
    }

    /// Its connection has ended, or could not be opened. Decides when and where to try again; gives the wait.
    pub fn lost(&mut self, loss: &Loss, sustained: Duration, now: Stamp, rng: &mut impl Rng) -> Duration {
        let flowed_ms = self.data.map_or(0, |(first, last)| last.ms_since(first));
        let place = &mut self.places[self.place];
        if Duration::from_millis(flowed_ms) >= sustained {
            place.backoff.reset();
        }
        let wait = place.backoff.wait_after(loss, now, rng);
        let retry_ns = now.mono_ns.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
        // Another connection may have been told to wait longer.
        place.retry_ns = place.retry_ns.max(retry_ns);
        self.forget();
        self.choose(1, now)
    }

    /// Its addresses are not to be dialed before these moments: another connection was told so. Gives the wait.
    pub fn hold(&mut self, until_ns: &[u64], now: Stamp) -> Duration {
        for (place, until_ns) in self.places.iter_mut().zip(until_ns) {
            place.retry_ns = place.retry_ns.max(*until_ns);
        }
        if self.dial_at_ns.is_some() { self.choose(0, now) } else { Duration::ZERO }
    }

    /// When an address may be dialed again.
    pub fn retry_ns_at(&self, place: usize) -> u64 {
        self.places[place].retry_ns
    }

    /// The address that may be dialed soonest, the first in turn from so many after this one. Gives the wait.
    fn choose(&mut self, first: usize, now: Stamp) -> Duration {
        let count = self.places.len();
        let turn = (first..first + count).map(|step| (self.place + step) % count);
        let soonest = turn.min_by_key(|place| self.places[*place].retry_ns.max(now.mono_ns));
        self.place = soonest.unwrap_or(self.place);
        let at_ns = self.retry_ns_at(self.place).max(now.mono_ns);
        self.dial_at_ns = Some(at_ns);
        Duration::from_nanos(at_ns - now.mono_ns)
    }

    /// Its connection is ended by us, and dialed anew as soon as that is done.
    pub fn redial(&mut self, now: Stamp) {
        self.link.close();
        self.forget();
        self.dial_at_ns = Some(self.retry_ns_at(self.place).max(now.mono_ns));
    }

    /// Its connection is ended by us, for good.
    pub fn leave(&mut self) {
        self.link.close();
        self.forget();
        self.role = ConnectionRole::Leaving;
        self.dial_at_ns = None;
    }

    fn forget(&mut self) {
        self.dialogue = None;
        self.opened = None;
        self.data = None;
        self.rotate_at_ns = None;
        self.is_silent = false;
        self.told_waiting = false;
        self.outdated_ms = None;
        self.hole = None;
    }

    /// Attempts in a row, at the address that was dialed last.
    pub fn attempts(&self) -> u32 {
        self.places.iter().map(|place| place.backoff.attempts()).sum()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::profile::Profile;

    fn member(places: usize) -> Connection {
        let profile = Profile::built_in("simulated").expect("built in");
        let backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(10));
        Connection::new(ConnectionId(0), 0, ConnectionRole::Regular, (places, backoff), Classifier::new(&profile))
    }

    fn at(s: u64) -> Stamp {
        Stamp { wall_ms: s * 1000, mono_ns: s * 1_000_000_000 }
    }

    fn closed() -> Loss {
        Loss::Closed { code: None, reason: String::new() }
    }

    #[test]
    fn the_next_address_is_tried_at_once_and_none_before_its_wait_is_over() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut member = member(3);
        let mut earliest = [0; 3];
        let mut now = at(1);
        for attempt in 0..30 {
            let before = member.place;
            let wait = member.lost(&closed(), Duration::from_secs(60), now, &mut rng);
            let dial_ns = member.dial_at_ns.expect("it is dialed again");
            assert_eq!(dial_ns, now.mono_ns + u64::try_from(wait.as_nanos()).expect("short"));
            if attempt < 2 {
                assert_eq!((wait, member.place), (Duration::ZERO, before + 1), "one that did not fail yet");
            }
            earliest[before] = member.places[before].retry_ns;
            assert!(dial_ns >= earliest[member.place], "attempt {attempt}: no address before its time");
            assert!(earliest.iter().all(|other| *other >= dial_ns || *other <= now.mono_ns), "the soonest");
            now = Stamp { mono_ns: dial_ns, ..now };
        }
    }

    #[test]
    fn an_address_that_another_connection_was_banned_from_is_left_alone() {
        let mut member = member(2);
        member.hold(&[at(60).mono_ns, 0], at(1));
        assert_eq!((member.place, member.dial_at_ns), (1, Some(at(1).mono_ns)), "there is another one");
        member.hold(&[at(60).mono_ns, at(30).mono_ns], at(2));
        assert_eq!((member.place, member.dial_at_ns), (1, Some(at(30).mono_ns)));
        let mut open = self::member(1);
        open.dial_at_ns = None;
        open.hold(&[at(60).mono_ns], at(1));
        assert_eq!(open.dial_at_ns, None, "it is not dialed at all");
        open.redial(at(2));
        assert_eq!(open.dial_at_ns, Some(at(60).mono_ns));
        let wait = open.lost(&closed(), Duration::from_secs(60), at(3), &mut SmallRng::seed_from_u64(4));
        assert_eq!(wait, Duration::from_secs(57));
    }

    #[test]
    fn waits_are_short_again_after_data_has_flowed_for_long() {
        let mut rng = SmallRng::seed_from_u64(3);
        let mut member = member(1);
        for _ in 0..5 {
            member.lost(&closed(), Duration::from_secs(60), at(1), &mut rng);
        }
        member.data = Some((at(2), at(61)));
        member.lost(&closed(), Duration::from_secs(60), at(61), &mut rng);
        assert_eq!(member.attempts(), 6, "59 s are not long enough");
        member.data = Some((at(70), at(130)));
        member.lost(&closed(), Duration::from_secs(60), at(130), &mut rng);
        assert_eq!(member.attempts(), 1);
    }
}
