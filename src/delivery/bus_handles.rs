//! What delivery holds of the bus.

use std::sync::Arc;

use crate::bus::demand::interest::Interest;
use crate::bus::demand::requests::Requests;
use crate::bus::reader::Reader;

#[derive(Clone)]
pub struct BusHandles {
    pub reader: Reader,
    /// None without `upstream.demand`.
    pub interest: Option<Arc<Interest>>,
    pub requests: Requests,
}

impl BusHandles {
    /// For a delivery without client requests and demand.
    pub fn reading(reader: Reader) -> BusHandles {
        BusHandles { reader, interest: None, requests: Requests::closed() }
    }
}
