//! Counts for the report of `fanline probe`.

use crate::profile::rule::MessageClass;

/// Troubles remembered at most.
const TROUBLES_MAX: usize = 16;

#[derive(Clone, Debug, Default)]
pub(super) struct ProbeCounts {
    pub connects: u64,
    /// Messages by `MessageClass as usize`.
    pub messages: [u64; MessageClass::ALL.len()],
    /// The first troubles, each once.
    troubles: Vec<String>,
}

impl ProbeCounts {
    pub(super) fn trouble(&mut self, trouble: String) {
        if self.troubles.len() < TROUBLES_MAX && !self.troubles.contains(&trouble) {
            self.troubles.push(trouble);
        }
    }

    pub(super) fn troubles(&self) -> &[String] {
        &self.troubles
    }
}
