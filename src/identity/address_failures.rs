//! Bad credentials by address: an address that shows too many is refused before its next one is verified.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::access::network_counts::NetworkCounts;

const SPAN: Duration = Duration::from_secs(60);

pub(super) struct AddressFailures {
    /// In a minute; 0: no limit.
    max: u32,
    /// Held for one look-up.
    counts: Mutex<NetworkCounts>,
}

impl AddressFailures {
    pub(super) fn new(max: u32, now: Instant) -> AddressFailures {
        AddressFailures { max, counts: Mutex::new(NetworkCounts::new(SPAN, now)) }
    }

    pub(super) fn is_over(&self, address: Option<IpAddr>, now: Instant) -> bool {
        let (Some(address), true) = (address, self.max > 0) else { return false };
        self.counts.lock().expect("no holder panics").of(address, now) >= f64::from(self.max)
    }

    pub(super) fn count(&self, address: Option<IpAddr>, now: Instant) {
        if let (Some(address), true) = (address, self.max > 0) {
            self.counts.lock().expect("no holder panics").add(address, 1, now);
        }
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
        (0..9).for_each(|second| failures.count(address("192.0.2.1"), after(second)));
        assert!(!failures.is_over(address("192.0.2.1"), after(9)));
        failures.count(address("192.0.2.1"), after(9));
        assert!(failures.is_over(address("192.0.2.1"), after(9)) && failures.is_over(address("192.0.2.1"), after(60)));
        assert!(!failures.is_over(address("192.0.2.2"), after(9)) && !failures.is_over(None, after(9)));
        assert!(!failures.is_over(address("192.0.2.1"), after(67)));
        let unlimited = AddressFailures::new(0, start);
        (0..100).for_each(|_| unlimited.count(address("192.0.2.1"), start));
        assert!(!unlimited.is_over(address("192.0.2.1"), start));
    }
}
