//! What a client may do. The edge decides it when the client joins; delivery consults it and knows no tokens.

use crate::words::topic::Pattern;

/// The rights of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    topics: GrantedTopics,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum GrantedTopics {
    #[default]
    All,
}

impl Grant {
    /// All topics, for as long as the client stays, as often as the limits of the server allow.
    pub fn unlimited() -> Grant {
        Grant { topics: GrantedTopics::All }
    }

    /// Whether the client may have all topics that the pattern matches.
    pub fn allows(&self, _pattern: &Pattern) -> bool {
        match self.topics {
            GrantedTopics::All => true,
        }
    }
}
