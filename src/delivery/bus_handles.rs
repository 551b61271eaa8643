//! What delivery holds of others: of the bus, who decides about its clients, and where that is recorded.

use std::sync::Arc;

use crate::access::end_journal::EndJournal;
use crate::access::gatekeeper::{Gatekeeper, Open};
use crate::access::rights::ViewId;
use crate::access::session_numbers::SessionNumbers;
use crate::audit::log::AuditLog;
use crate::bus::demand::interest::Interest;
use crate::bus::demand::requests::Requests;
use crate::bus::reader::Reader;
use crate::profile::downstream::Dialect;

/// Of one view: a shard has no way to another one.
#[derive(Clone)]
pub struct BusHandles {
    pub view: ViewId,
    pub reader: Reader,
    /// None without `upstream.demand`.
    pub interest: Option<Arc<Interest>>,
    pub requests: Requests,
    pub gatekeeper: Arc<dyn Gatekeeper>,
    pub audit: AuditLog,
    pub journal: EndJournal,
    pub numbers: SessionNumbers,
    /// What clients may speak besides the server's own protocol.
    pub dialect: Option<Arc<Dialect>>,
}

impl BusHandles {
    /// For a delivery without client requests and demand, to which everybody is admitted, and that records nothing.
    pub fn reading(reader: Reader) -> BusHandles {
        BusHandles {
            view: ViewId::LIVE,
            reader,
            interest: None,
            requests: Requests::closed(),
            gatekeeper: Arc::new(Open),
            audit: AuditLog::default(),
            journal: EndJournal::default(),
            numbers: SessionNumbers::default(),
            dialect: None,
        }
    }
}
