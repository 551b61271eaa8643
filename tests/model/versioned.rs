//! A state of the feed is reported after the frames that were published before it, and the last one always is.

use std::sync::Arc;

use loom::thread;

use super::{Bed, check, publish};
use crate::bus::log::ring::Ring;
use crate::bus::signal::doorbell::Doorbell;
use crate::bus::signal::versioned::Versioned;

/// A state of the feed that was announced after this many frames.
#[derive(PartialEq)]
struct State {
    frames: u64,
}

#[test]
fn a_state_is_reported_after_the_frames_before_it_and_the_last_one_always() {
    check(|| {
        let bus = Arc::new(Bus::new());
        let shard = thread::spawn({
            let bus = bus.clone();
            move || Shard::default().run(&bus)
        });
        for frames in 1..=2 {
            publish(&bus.ring, frames);
            bus.doorbell.ring();
            bus.state.set(Arc::new(State { frames }), |before, now| before != now);
            bus.doorbell.ring();
        }
        let shard = shard.join().expect("the shard ends well");
        assert_eq!((shard.cursor, shard.told), (2, 2));
    });
}

struct Bus {
    ring: Ring<super::Item>,
    state: Versioned<State>,
    bed: Arc<Bed>,
    doorbell: Doorbell,
}

impl Bus {
    fn new() -> Bus {
        let bed = Arc::new(Bed::default());
        let doorbell = bed.doorbell();
        Bus { ring: Ring::new(2), state: Versioned::new(State { frames: 0 }), bed, doorbell }
    }
}

/// What a shard knows.
#[derive(Default)]
struct Shard {
    cursor: u64,
    version: u32,
    /// `frames` of the state that was reported last.
    told: u64,
}

impl Shard {
    /// As `EventLoop::run` does it, until the last state was reported.
    fn run(mut self, bus: &Bus) -> Shard {
        while self.version < 2 {
            bus.doorbell.arm();
            if !self.has_work(bus) {
                bus.bed.sleep();
            }
            bus.doorbell.disarm();
            self.round(bus);
        }
        self
    }

    fn has_work(&self, bus: &Bus) -> bool {
        bus.ring.head().0 > self.cursor || bus.state.version() != self.version
    }

    /// Version, state, head: the order in which a shard has to look. With the head before the state, the state may
    /// have been announced after frames beyond that head.
    fn round(&mut self, bus: &Bus) {
        let version = bus.state.version();
        let state = bus.state.get();
        let head = bus.ring.head().0;
        self.cursor = head;
        if version != self.version {
            assert!(state.frames <= self.cursor, "a state after frame {} is reported at {}", state.frames, self.cursor);
            assert!(state.frames >= u64::from(version), "version {version} shows an older state");
            self.version = version;
            self.told = state.frames;
        }
    }
}
