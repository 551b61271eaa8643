//! What one client received, checked message by message: every offset has arrived or was reported as skipped, and after
//! a `skipped` the value of every topic that changed.
//!
//! It relies on the feed: message number n has offset n and is of topic n mod `TOPICS`. So the newest value of every
//! topic as of any offset is known.

use serde::Deserialize;

/// Topics of the feed, each as often as any other.
pub const TOPICS: u64 = 20;

/// A message of the server, of any kind.
#[derive(Deserialize)]
struct Message {
    op: Option<String>,
    /// Of a frame, and of `subscribed`.
    offset: Option<u64>,
    from: Option<u64>,
    to: Option<u64>,
    data: Option<Data>,
}

/// Payload of a frame, as the feed makes it.
#[derive(Deserialize)]
struct Data {
    /// Its number, from 1.
    n: u64,
    /// When it was published, in nanoseconds since the feed's start.
    ns: u64,
}

/// What a message was.
pub enum Heard {
    /// A frame of the live stream or of a replay; when it was published, in nanoseconds since the feed's start.
    Stream {
        ns: u64,
    },
    /// A current value after `subscribed` or `skipped`.
    Value,
    /// Frames are skipped.
    Skipped,
    Notice,
}

#[derive(Default)]
pub struct Account {
    /// Everything up to here has arrived or was reported as skipped.
    reached: u64,
    /// Topics whose value as of `reached` has not arrived yet, a bit each.
    owed: u64,
    /// Messages `skipped`.
    pub skips: u64,
    /// Frames that were reported as skipped.
    pub skipped_frames: u64,
    /// What was not as promised.
    pub faults: Vec<String>,
}

impl Account {
    pub fn hear(&mut self, text: &[u8]) -> Heard {
        let message: Message = match serde_json::from_slice(text) {
            Ok(message) => message,
            Err(error) => {
                self.fault(format!("expected a message, found {error}: {}", String::from_utf8_lossy(text)));
                return Heard::Notice;
            }
        };
        match (message.op.as_deref(), message.offset, message.data, message.from.zip(message.to)) {
            (None, Some(offset), Some(data), None) => self.frame(offset, data),
            (Some("subscribed"), Some(offset), _, _) => {
                self.owe(1, offset);
                Heard::Notice
            }
            (Some("skipped"), _, _, Some((from, to))) => {
                if from != self.reached + 1 {
                    self.fault(format!("expected frames skipped from {}, found {from}", self.reached + 1));
                }
                self.skips += 1;
                self.skipped_frames += (to + 1).saturating_sub(from);
                self.owe(from, to);
                Heard::Skipped
            }
            (Some(_), ..) => Heard::Notice,
            _ => {
                self.fault(format!("expected a message of the protocol, found {}", String::from_utf8_lossy(text)));
                Heard::Notice
            }
        }
    }

    /// Whether it has all up to this offset, or newer values.
    pub fn is_current(&self, offset: u64) -> bool {
        self.reached >= offset && self.owed == 0
    }

    fn frame(&mut self, offset: u64, data: Data) -> Heard {
        if offset != data.n {
            self.fault(format!("expected message {offset} at its offset, found {}", data.n));
        }
        if offset > self.reached {
            if offset != self.reached + 1 || self.owed != 0 {
                let missing = self.owed.count_ones();
                self.fault(format!("expected {} values, then offset {}; found {offset}", missing, self.reached + 1));
            }
            self.reached = offset;
            return Heard::Stream { ns: data.ns };
        }
        let topic = 1 << (offset % TOPICS);
        if self.owed & topic == 0 || offset + TOPICS <= self.reached {
            self.fault(format!("expected no value {offset} as of {}", self.reached));
        }
        self.owed &= !topic;
        Heard::Value
    }

    /// The values as of `to` of the topics that changed from `from` on are to follow.
    fn owe(&mut self, from: u64, to: u64) {
        if self.owed != 0 {
            let missing = self.owed.count_ones();
            self.fault(format!("expected {missing} more values as of {}, found none", self.reached));
        }
        self.reached = to;
        self.owed = (from.max((to + 1).saturating_sub(TOPICS))..=to).fold(0, |owed, n| owed | 1 << (n % TOPICS));
    }

    fn fault(&mut self, fault: String) {
        // The first ones show the fault; what follows from them does not matter.
        if self.faults.len() < 3 {
            self.faults.push(fault);
        }
    }
}
