//! Bad credentials by address: an address that shows too many is refused before its next one is verified.
//!
//! Two windows of a minute, of which the older one counts in part: no timer, and no more memory than the addresses of
//! two minutes, up to a bound. IPv6 addresses count by /64, the smallest network that one customer has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);
/// About 3 MiB in each window; further addresses are not counted.
const ADDRESSES_MAX: usize = 65_536;

pub(super) struct AddressFailures {
    /// In a minute; 0: no limit.
    max: u32,
    /// Held for one look-up.
    windows: Mutex<FailureWindows>,
}

struct FailureWindows {
    began: Instant,
    current: HashMap<IpAddr, u32>,
    previous: HashMap<IpAddr, u32>,
}

impl AddressFailures {
    pub(super) fn new(max: u32, now: Instant) -> AddressFailures {
        let windows = FailureWindows { began: now, current: HashMap::new(), previous: HashMap::new() };
        AddressFailures { max, windows: Mutex::new(windows) }
    }

    pub(super) fn is_over(&self, address: Option<IpAddr>, now: Instant) -> bool {
        let (Some(address), true) = (address.map(network), self.max > 0) else { return false };
        let mut windows = self.windows.lock().expect("no holder panics");
        windows.advance(now);
        let count = |window: &HashMap<IpAddr, u32>| f64::from(window.get(&address).copied().unwrap_or(0));
        let passed = now.duration_since(windows.began).as_secs_f64() / WINDOW.as_secs_f64();
        count(&windows.current) + count(&windows.previous) * (1.0 - passed) >= f64::from(self.max)
    }

    pub(super) fn count(&self, address: Option<IpAddr>, now: Instant) {
        let (Some(address), true) = (address.map(network), self.max > 0) else { return };
        let mut windows = self.windows.lock().expect("no holder panics");
        windows.advance(now);
        if windows.current.len() < ADDRESSES_MAX || windows.current.contains_key(&address) {
            *windows.current.entry(address).or_default() += 1;
        }
    }
}

impl FailureWindows {
    fn advance(&mut self, now: Instant) {
        let passed = now.duration_since(self.began);
        if passed < WINDOW {
            return;
        }
        self.previous = std::mem::take(&mut self.current);
        if passed >= 2 * WINDOW {
            self.previous.clear();
            self.began = now;
        } else {
            self.began += WINDOW;
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_too_often_is_refused_for_about_a_minute() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let failures = AddressFailures::new(10, start);
        let address = |text: &str| Some(text.parse().expect("an address"));
        for (bad, same, other) in
            [("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")]
        {
            (0..9).for_each(|second| failures.count(address(bad), after(second)));
            assert!(!failures.is_over(address(bad), after(9)));
            failures.count(address(same), after(9));
            assert!(failures.is_over(address(bad), after(9)) && failures.is_over(address(same), after(60)));
            assert!(!failures.is_over(address(other), after(9)) && !failures.is_over(None, after(9)));
        }
        assert!(!failures.is_over(address("192.0.2.1"), after(67)));
        assert!(!failures.is_over(address("192.0.2.1"), after(500)));
        let unlimited = AddressFailures::new(0, start);
        (0..100).for_each(|_| unlimited.count(address("192.0.2.1"), start));
        assert!(!unlimited.is_over(address("192.0.2.1"), start));
    }

    #[test]
    fn the_addresses_that_are_counted_are_bounded() {
        let start = Instant::now();
        let failures = AddressFailures::new(1, start);
        for number in 0..ADDRESSES_MAX as u32 + 1000 {
            failures.count(Some(std::net::Ipv4Addr::from_bits(number).into()), start);
        }
        assert_eq!(failures.windows.lock().expect("no holder panics").current.len(), ADDRESSES_MAX);
        assert!(failures.is_over(Some(std::net::Ipv4Addr::from_bits(5).into()), start));
    }
}
