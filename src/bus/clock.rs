//! The process's two real clocks. Made once by `app` and handed to whoever stamps something.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::words::stamp::Stamp;

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { started: Instant::now() }
    }

    pub fn now(&self) -> Stamp {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Stamp {
            wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
            mono_ns: u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
        }
    }
}
