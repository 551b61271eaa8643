//! What one session may do, and in whose name.

use std::sync::{Arc, LazyLock};

use crate::access::identity::Identity;
use crate::access::rights::{GrantedCommands, Rights};

static UNLIMITED: LazyLock<Arc<Rights>> = LazyLock::new(|| Arc::new(Rights::unlimited()));

/// The rights of one session. The gatekeeper decides them; delivery and the edge consult them.
#[derive(Clone, Debug)]
pub struct Grant {
    /// None: anonymous, or no identities are configured.
    pub identity: Option<Arc<Identity>>,
    pub rights: Arc<Rights>,
}

impl Grant {
    /// All topics, live, and nothing to say to the feed: what the server's own canary has.
    pub fn reading() -> Grant {
        let rights = Rights { send: GrantedCommands::None, request: GrantedCommands::None, ..Rights::unlimited() };
        Grant { identity: None, rights: Arc::new(rights) }
    }

    /// Everything, for as long as the client stays: what everybody has without `[auth]`.
    pub fn unlimited() -> Grant {
        Grant { identity: None, rights: UNLIMITED.clone() }
    }
}

impl Default for Grant {
    fn default() -> Grant {
        Grant::unlimited()
    }
}
