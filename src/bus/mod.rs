//! Floor 3: published once, read by many.
//!
//! `open` gives the one [`Publisher`] and a [`Reader`] that may be cloned. The publisher numbers a frame, remembers
//! it in what is retained of its topic, stores it in the ring, moves the head and rings the doorbells, in this order.
//! `demand` goes the other way: delivery writes it, the intake reads it.

pub mod archive;
pub mod clock;
pub mod delay;
pub mod demand;
pub mod feed_state;
pub mod frame;
pub mod history;
pub mod latest;
pub mod log;
pub(crate) mod logged;
pub mod private_directory;
pub mod publisher;
pub mod reader;
pub mod retained;
pub mod retained_topic;
pub mod retention;
pub mod shown_log;
pub mod signal;
pub mod topic_status;
pub mod views;

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::bus::feed_state::FeedState;
use crate::bus::frame::Frame;
use crate::bus::history::History;
use crate::bus::latest::Latest;
use crate::bus::log::ring::Ring;
use crate::bus::publisher::Publisher;
use crate::bus::reader::Reader;
use crate::bus::signal::doorbell::Doorbell;
use crate::bus::signal::pulse::Pulse;
use crate::bus::signal::sync::{AtomicBool, AtomicU64};
use crate::bus::signal::versioned::Versioned;
use crate::words::ids::Epoch;
use crate::words::metrics::Meters;

/// Bounds of the bus. At a bound the oldest frame is dropped (ring) or the new topic is refused (topics).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Frames the ring holds at most; rounded up to a power of two.
    pub ring_frames_max: usize,
    /// Payload bytes the ring holds at most; the newest frame stays, however large.
    pub ring_bytes_max: usize,
    /// Topics at most; frames of further topics are refused and counted.
    pub topics_max: usize,
}

/// What publisher and readers share.
struct BusShared {
    epoch: Epoch,
    ring: Ring<Frame>,
    latest: Latest,
    /// Written by the publisher alone. Its version counts changes of the state, not of its message.
    feed: Versioned<FeedState>,
    doorbells: ArcSwap<Vec<Arc<Doorbell>>>,
    /// The newest offset at which a topic was forgotten; 0 if none was. Stored by the publisher, Release, before the
    /// frame of kind `Expired` enters the ring; loaded by readers, Acquire.
    forgotten: AtomicU64,
    /// The sign of life of whatever feeds the publisher.
    pulse: Pulse,
    /// The publisher is no more. Stored by it after all else, Release; loaded by readers, Acquire.
    ended: AtomicBool,
}

/// Opens an empty bus for one epoch, where every topic keeps as many values as its frames ask for.
pub fn open(epoch: Epoch, limits: Limits, meters: &Meters) -> (Publisher, Reader) {
    open_with_history(epoch, limits, History::default(), meters)
}

/// Opens an empty bus for one epoch.
pub fn open_with_history(epoch: Epoch, limits: Limits, history: History, meters: &Meters) -> (Publisher, Reader) {
    let shared = Arc::new(BusShared {
        epoch,
        ring: Ring::new(limits.ring_frames_max),
        latest: Latest::new(),
        feed: Versioned::new(FeedState::Connecting),
        doorbells: ArcSwap::from_pointee(Vec::new()),
        forgotten: AtomicU64::new(0),
        pulse: Pulse::default(),
        ended: AtomicBool::new(false),
    });
    (Publisher::new(shared.clone(), (limits, history), meters), Reader::new(shared))
}
