//! What delivery holds of the bus.

use std::sync::Arc;

use crate::bus::demand::interest::Interest;
use crate::bus::demand::requests::Requests;
use crate::bus::reader::Reader;

#[derive(Clone)]
pub struct BusHandles {
    pub reader: Reader,
    /// None: the upstream is not asked for topics.
    pub interest: Option<Arc<Interest>>,
    pub requests: Requests,
}

impl BusHandles {
    /// For a delivery that sends nothing to the upstream.
    pub fn reading(reader: Reader) -> BusHandles {
        BusHandles { reader, interest: None, requests: Requests::closed() }
    }
}
