//! The patterns that one session may have, by its grant and by the limits of the server. Rates are checked in
//! `inbound.rs` and `pending_requests.rs`, the limits of a shard in `lanes/opening.rs`.

use crate::access::grant::Grant;
use crate::delivery::lanes::lane_patterns::PatternTotals;
use crate::delivery::settings::Settings;
use crate::protocol::command::{CommandRefusal, check_wildcard_count};
use crate::words::topic::Pattern;

/// Checks the patterns that a session wants, and what it would have with them.
pub fn check_patterns(
    wanted: &[Pattern],
    totals: PatternTotals,
    grant: &Grant,
    settings: &Settings,
) -> Result<(), CommandRefusal> {
    let is_forbidden = |pattern: &&Pattern| pattern.is_exact() && !grant.rights.topics.allows(pattern.as_str());
    if let Some(pattern) = wanted.iter().find(is_forbidden) {
        let message = format!("expected patterns that the client may subscribe to, found `{pattern}`");
        return Err(CommandRefusal::new("forbidden", message));
    }
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
