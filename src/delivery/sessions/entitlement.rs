//! The patterns that one session may have, by its grant and by the limits of the server. Rates are checked in
//! `inbound.rs` and `pending_requests.rs`, the limits of a shard in `lanes/opening.rs`.

use crate::delivery::settings::Settings;
use crate::protocol::command::{CommandRefusal, check_wildcards};
use crate::words::grant::Grant;
use crate::words::topic::Pattern;

/// Checks all patterns that a session would have.
pub fn check_patterns(patterns: &[Pattern], grant: Grant, settings: &Settings) -> Result<(), CommandRefusal> {
    if let Some(pattern) = patterns.iter().find(|pattern| !grant.allows(pattern)) {
        let message = format!("expected patterns that the client may subscribe to, found `{pattern}`");
        return Err(CommandRefusal::new("forbidden", message));
    }
    if patterns.len() > settings.limits.patterns_max {
        return Err(CommandRefusal::too_many_patterns(settings.limits.patterns_max, patterns.len()));
    }
    check_wildcards(patterns, settings.limits.wildcards_max)?;
    let bytes = |pattern: &Pattern| pattern.as_str().len();
    let (max, found) = (settings.limits.pattern_bytes_max, patterns.iter().map(bytes).sum::<usize>());
    if found > max {
        let message = format!(
            "expected patterns of at most {max} bytes together in one session (limits.pattern_bytes_max), \
             found {found}; use wildcards"
        );
        return Err(CommandRefusal::new("too_many_pattern_bytes", message));
    }
    Ok(())
}
