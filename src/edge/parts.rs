//! What the edge is handed when it starts, and how it hands clients on.

use std::sync::Arc;

use crate::bus::reader::Reader;
use crate::bus::signal::pulse::Vitals;
use crate::delivery::handoff::Handoff;
use crate::edge::exposition::Exposition;
use crate::words::metrics::Meters;

/// Where an upgraded socket goes. Must not block.
pub type Adopt = Arc<dyn Fn(Handoff) + Send + Sync>;

/// What the edge needs of the rooms below.
#[derive(Clone)]
pub struct EdgeParts {
    pub reader: Reader,
    pub adopt: Adopt,
    pub vitals: Vitals,
    pub meters: Meters,
    pub exposition: Exposition,
}
