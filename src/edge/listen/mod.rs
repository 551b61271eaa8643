//! The listening socket: who may come in, and how long each may take.

pub(crate) mod accept;
pub(crate) mod admission;
pub(crate) mod deadlines;
pub(crate) mod peer;
pub(crate) mod places;
