//! Totals of all clients.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Greater ages count as this: one minute.
const AGE_NS_MAX: u64 = 60_000_000_000;

/// Counts of all clients since the last restart.
#[derive(Clone, Debug)]
pub struct ClientTotals {
    /// Frames received.
    pub deliveries: u64,
    /// Bytes received, including WebSocket headers and server messages.
    pub bytes: u64,
    /// Messages that are not frames, such as heartbeats.
    pub notices: u64,
    /// Server messages `skipped` among them.
    pub skips: u64,
    /// Server messages `error` among them: refused commands.
    pub refusals: u64,
    pub pings: u64,
    /// Frames of followed clients.
    pub followed: u64,
    /// Their bytes, WebSocket headers included, and what they would be without compression.
    pub followed_bytes: u64,
    pub followed_plain_bytes: u64,
    /// Those with the text that was sent, and with another.
    pub compared: u64,
    pub wrong: u64,
    /// Offsets missing between them, and messages of a topic that are missing or not new.
    pub gaps: u64,
    /// Their ages, in ns.
    pub ages: Histogram<u64>,
}

impl Default for ClientTotals {
    fn default() -> ClientTotals {
        let ages = Histogram::new_with_max(AGE_NS_MAX, 3).expect("constants that hdrhistogram allows");
        ClientTotals {
            deliveries: 0,
            bytes: 0,
            notices: 0,
            skips: 0,
            refusals: 0,
            pings: 0,
            followed: 0,
            followed_bytes: 0,
            followed_plain_bytes: 0,
            compared: 0,
            wrong: 0,
            gaps: 0,
            ages,
        }
    }
}

/// Feed-to-client latency of the followed clients' frames, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    pub samples: u64,
}

impl Latency {
    /// None without samples.
    pub fn of(ages: &Histogram<u64>) -> Option<Latency> {
        let at = |quantile| ages.value_at_quantile(quantile) as f64 / 1000.0;
        (!ages.is_empty()).then(|| Latency {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: ages.max() as f64 / 1000.0,
            samples: ages.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_cover_all_ages_and_cap_the_oldest() {
        let mut tally = ClientTotals::default();
        assert_eq!(Latency::of(&tally.ages), None);
        (1..=999).for_each(|ms| tally.ages.saturating_record(ms * 1_000_000));
        tally.ages.saturating_record(u64::MAX);
        let latency = Latency::of(&tally.ages).expect("samples");
        for (found, expected_ms) in [(latency.p50_us, 500.0), (latency.p90_us, 900.0), (latency.p99_us, 990.0)] {
            assert!((found / (expected_ms * 1000.0) - 1.0).abs() < 0.002, "{found} for {expected_ms} ms");
        }
        assert!(latency.max_us >= 59e6 && latency.max_us < 70e6, "{}", latency.max_us);
        assert_eq!(latency.samples, 1000);
    }
}
