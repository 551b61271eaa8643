//! What clients without an identity may cause in the log: nobody answers for them, and one of them must not fill the disk.
//!
//! | bound | at the bound |
//! |---|---|
//! | `NETWORK_BYTES_MAX` of one address in `NETWORK_SPAN` | further events of it are left out and counted |
//! | `BYTES_PER_SECOND` of all, and `BURST_BYTES` at once | the same |

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::access::network_counts::NetworkCounts;

/// About 2,000 events, and 150 MB a day; an office behind one address reloads a page that often.
const NETWORK_BYTES_MAX: f64 = 1_048_576.0;
const NETWORK_SPAN: Duration = Duration::from_secs(600);
/// About 250 events a second, and 11 GB a day at worst, from many addresses.
const BYTES_PER_SECOND: f64 = 131_072.0;
/// About 8,000 events: a restart brings all clients at once.
const BURST_BYTES: f64 = 4_194_304.0;
/// Between two lines that say how many were left out.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct UnidentifiedBudget {
    networks: NetworkCounts,
    /// What is left for all.
    bytes: f64,
    refilled: Instant,
    /// Left out, and not told yet.
    omitted: u64,
    told: Option<Instant>,
}

impl UnidentifiedBudget {
    pub(super) fn new(now: Instant) -> UnidentifiedBudget {
        let networks = NetworkCounts::new(NETWORK_SPAN, now);
        UnidentifiedBudget { networks, bytes: BURST_BYTES, refilled: now, omitted: 0, told: None }
    }

    /// Whether an event of so many bytes may be recorded, and takes it from what is left.
    pub(super) fn admits(&mut self, address: Option<IpAddr>, bytes: usize, now: Instant) -> bool {
        let weight = bytes as f64;
        let passed = now.saturating_duration_since(self.refilled).as_secs_f64();
        (self.bytes, self.refilled) = ((self.bytes + passed * BYTES_PER_SECOND).min(BURST_BYTES), now);
        let of_network = address.map_or(0.0, |address| self.networks.of(address, now));
        if weight > self.bytes || of_network + weight > NETWORK_BYTES_MAX {
            return false;
        }
        self.bytes -= weight;
        if let Some(address) = address {
            self.networks.add(address, u32::try_from(bytes).unwrap_or(u32::MAX), now);
        }
        true
    }

    pub(super) fn omit(&mut self) {
        self.omitted += 1;
    }

    /// How many were left out since this was last told, if it is due; `is_last`: it will not be asked again.
    pub(super) fn take_omitted(&mut self, is_last: bool, now: Instant) -> Option<u64> {
        let is_due = is_last || self.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_INTERVAL);
        if self.omitted == 0 || !is_due {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.omitted))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn one_address_has_its_share_and_others_have_theirs() {
        let start = Instant::now();
        let mut budget = UnidentifiedBudget::new(start);
        let (bad, good) = ("192.0.2.1".parse().ok(), "192.0.2.2".parse().ok());
        let admitted = (0..1_000_000).filter(|_| budget.admits(bad, 500, start)).count();
        assert_eq!(admitted, 2097, "1 MiB");
        assert!(budget.admits(good, 500, start) && budget.admits(None, 500, start));
        let day = (1..86_400).flat_map(|second| [second; 100]);
        let bytes: usize =
            day.filter(|second| budget.admits(bad, 500, start + Duration::from_secs(*second))).map(|_| 500).sum();
        assert!(bytes < 400_000_000, "{bytes} in a day");
        assert!(budget.admits(good, 500, start + Duration::from_secs(86_400)));
    }

    #[test]
    fn many_addresses_together_have_no_more_than_all_may() {
        let start = Instant::now();
        let mut budget = UnidentifiedBudget::new(start);
        let address = |n: u128| Some(Ipv6Addr::from_bits(n << 64).into());
        let admitted = |budget: &mut UnidentifiedBudget, now| {
            (0..100_000).filter(|n| budget.admits(address(*n), 512, now)).count()
        };
        assert_eq!(admitted(&mut budget, start), 8192);
        assert_eq!(admitted(&mut budget, start + Duration::from_secs(2)), 512);
    }

    #[test]
    fn what_was_left_out_is_told_once_a_minute() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut budget = UnidentifiedBudget::new(start);
        assert_eq!(budget.take_omitted(true, start), None);
        (0..3).for_each(|_| budget.omit());
        assert_eq!(budget.take_omitted(false, after(1)), Some(3));
        budget.omit();
        assert_eq!((budget.take_omitted(false, after(60)), budget.take_omitted(false, after(61))), (None, Some(1)));
        budget.omit();
        assert_eq!(budget.take_omitted(true, after(62)), Some(1));
    }
}
