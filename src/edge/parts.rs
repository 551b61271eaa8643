//! What the edge needs at the start, and how it hands over clients.

use std::path::PathBuf;
use std::sync::Arc;

use crate::access::end_journal::EndJournal;
use crate::access::gatekeeper::Gatekeeper;
use crate::access::operator::OperatorCalls;
use crate::audit::log::AuditLog;
use crate::bus::signal::pulse::Vitals;
use crate::bus::views::Views;
use crate::cluster::relay::host::RelayEntrance;
use crate::delivery::handoff::Handoff;
use crate::edge::admin_key::AdminKey;
use crate::edge::exposition::Exposition;
use crate::edge::listen::tls::files::TlsFiles;
use crate::profile::downstream::Dialect;
use crate::words::metrics::Meters;

/// Takes an upgraded socket. Must not block.
pub type Adopt = Arc<dyn Fn(Handoff) + Send + Sync>;

/// What the edge needs from the rooms below.
#[derive(Clone)]
pub struct EdgeParts {
    pub views: Views,
    pub adopt: Adopt,
    pub vitals: Vitals,
    pub meters: Meters,
    pub exposition: Exposition,
    pub audit: AuditLog,
    pub journal: EndJournal,
    /// None: the operator's listener has metrics and health alone.
    pub admin: Option<AdminParts>,
    pub gatekeeper: Arc<dyn Gatekeeper>,
    /// What clients may speak besides the server's own protocol.
    pub dialect: Option<Arc<Dialect>>,
    /// For the listeners that speak TLS.
    pub tls: Option<Arc<TlsFiles>>,
    /// None: no relay may follow this server.
    pub relays: Option<RelayAdmission>,
    /// What the server's own canary shows. None: there is none.
    pub canary_key: Option<AdminKey>,
}

/// How relays are let in.
#[derive(Clone)]
pub struct RelayAdmission {
    pub entrance: RelayEntrance,
    /// None: they need not show one.
    pub key: Option<AdminKey>,
}

/// What the calls need from the rooms below.
#[derive(Clone)]
pub struct AdminParts {
    pub operator: Arc<dyn OperatorCalls>,
    /// None: only clients of this machine can reach the listener, and need no key.
    pub key: Option<AdminKey>,
    /// Where the audit log is, if there is one.
    pub audit_dir: Option<PathBuf>,
}
