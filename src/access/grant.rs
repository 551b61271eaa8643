//! What one session may do, and in whose name.

use std::sync::{Arc, LazyLock};

use crate::access::identity::Identity;
use crate::access::rights::Rights;

static UNLIMITED: LazyLock<Arc<Rights>> = LazyLock::new(|| Arc::new(Rights::unlimited()));

/// The rights of one session. The gatekeeper decides them; delivery and the edge consult them.
#[derive(Clone, Debug)]
pub struct Grant {
    /// None: anonymous, or no identities are configured.
    pub identity: Option<Arc<Identity>>,
    pub rights: Arc<Rights>,
}

impl Grant {
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
