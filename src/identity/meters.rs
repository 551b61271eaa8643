//! What identity reports of itself.

use metrics::{Counter, Gauge};

use crate::identity::token::fault::TokenFault;
use crate::words::metrics::{self as names, Meters};

/// Credentials by what became of them.
pub(super) struct IdentityMeters {
    accepted: Counter,
    /// In the order of [`TokenFault::ALL`].
    refused: [Counter; TokenFault::ALL.len()],
    pub waiting: Gauge,
    pub revocations: Gauge,
}

/// Makes the series exist in a server without identities, so that a dashboard shows zeros.
pub fn announce(meters: &Meters) {
    IdentityMeters::new(meters);
}

/// The keys of one issuer.
#[derive(Clone)]
pub struct KeyMeters {
    pub(super) keys: Gauge,
    pub(super) fetched: Counter,
    pub(super) failed: Counter,
}

impl IdentityMeters {
    pub(super) fn new(meters: &Meters) -> IdentityMeters {
        let counter = |result| meters.counter(&names::AUTH_CREDENTIALS, &[("result", result)]);
        IdentityMeters {
            accepted: counter("accepted"),
            refused: TokenFault::ALL.map(|fault| counter(fault.label())),
            waiting: meters.gauge(&names::AUTH_WAITING, &[]),
            revocations: meters.gauge(&names::AUTH_REVOCATIONS, &[]),
        }
    }

    pub(super) fn count<T>(&self, outcome: &Result<T, TokenFault>) {
        match outcome {
            Ok(_) => self.accepted.increment(1),
            Err(fault) => {
                let places = TokenFault::ALL.into_iter().zip(&self.refused);
                places.filter(|(known, _)| known == fault).for_each(|(_, counter)| counter.increment(1));
            }
        }
    }
}

impl KeyMeters {
    /// `issuer` is of the configuration, so the label is bounded.
    pub fn new(meters: &Meters, issuer: &str) -> KeyMeters {
        let fetches = |result| meters.counter(&names::AUTH_FETCHES, &[("issuer", issuer), ("result", result)]);
        KeyMeters {
            keys: meters.gauge(&names::AUTH_KEYS, &[("issuer", issuer)]),
            fetched: fetches("fetched"),
            failed: fetches("failed"),
        }
    }
}
