//! The patterns that one session may have by the limits of the server; what its rights allow decides the filter of its
//! lane. Rates are checked in
//! `inbound.rs` and `pending_requests.rs`, the limits of a shard in `lanes/opening.rs`.

use crate::delivery::lanes::lane_patterns::PatternTotals;
use crate::delivery::settings::Settings;
use crate::protocol::command::{CommandRefusal, check_wildcard_count};

/// Checks the patterns that a session would have.
pub fn check_patterns(totals: PatternTotals, settings: &Settings) -> Result<(), CommandRefusal> {
    if totals.patterns > settings.limits.patterns_max {
        return Err(CommandRefusal::too_many_patterns(settings.limits.patterns_max, totals.patterns));
    }
    check_wildcard_count(totals.wildcards, settings.limits.wildcards_max)?;
    let (max, found) = (settings.limits.pattern_bytes_max, totals.bytes);
    if found > max {
        let message = format!(
            "expected patterns of at most {max} bytes together in one session (limits.pattern_bytes_max), \
             found {found}; use wildcards"
        );
        return Err(CommandRefusal::new("too_many_pattern_bytes", message));
    }
    Ok(())
}
