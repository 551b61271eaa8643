//! What delivery holds of the bus.

use std::sync::Arc;

use crate::access::rights::ViewId;
use crate::bus::demand::interest::Interest;
use crate::bus::demand::requests::Requests;
use crate::bus::reader::Reader;

/// Of one view: a shard has no way to another one.
#[derive(Clone)]
pub struct BusHandles {
    pub view: ViewId,
    pub reader: Reader,
    /// None without `upstream.demand`.
    pub interest: Option<Arc<Interest>>,
    pub requests: Requests,
}

impl BusHandles {
    /// For a delivery without client requests and demand.
    pub fn reading(reader: Reader) -> BusHandles {
        BusHandles { view: ViewId::LIVE, reader, interest: None, requests: Requests::closed() }
    }
}
