//! What answers need of the rooms below and of the settings.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use crate::bus::pulse::Vitals;
use crate::bus::reader::Reader;
use crate::edge::admission::Admission;
use crate::edge::assets::Assets;
use crate::edge::metrics::Exposition;
use crate::edge::{Door, Phase, Rooms, Settings};
use crate::words::metrics::Meters;

/// Pictures drawn at the same moment: one core may be busy with them, the other belongs to the feed.
const PICTURES_MAX: usize = 1;

/// What answers need. Shared by all connections; only `admission` and `picture_turns` ever change, by themselves.
pub(super) struct Context {
    pub reader: Reader,
    pub door: Door,
    pub vitals: Vitals,
    pub meters: Meters,
    pub exposition: Exposition,
    pub phase: watch::Receiver<Phase>,
    pub admission: Arc<Admission>,
    pub assets: Assets,
    /// Requests for a picture wait here for their turn.
    pub picture_turns: Arc<Semaphore>,
    pub compression: bool,
    pub patterns_max: usize,
}

impl Context {
    pub fn new(settings: &Settings, rooms: Rooms, phase: watch::Receiver<Phase>) -> Context {
        Context {
            reader: rooms.reader,
            door: rooms.door,
            vitals: rooms.vitals,
            meters: rooms.meters,
            exposition: rooms.exposition,
            phase,
            admission: Admission::new(settings.sessions_max, settings.sessions_per_address_max),
            assets: Assets::load(),
            picture_turns: Arc::new(Semaphore::new(PICTURES_MAX)),
            compression: settings.compression,
            patterns_max: settings.patterns_max,
        }
    }
}
