//! The shared window of a lane: one compressor whose window is kept, its bytes shared by every session that boarded.
//!
//! The stream is cut into stretches. At a cut the compressor forgets its window, so whoever boards there can inflate
//! all that follows; in between nobody boards. A session that leaves the identical stream, because it fell behind or
//! changed its subscription, gets stateless frames from then on, and boards again at a later cut: what it inflates in
//! between enters its own window, to which the stretch never refers. Personal messages are not compressed, so they do
//! not enter the peer's window at all (RFC 7692 section 7.2.3.2).

use bytes::Bytes;

use crate::bus::frame::Frame;
use crate::delivery::lane::{LaneKey, SessionId};
use crate::delivery::walk::{Chunk, Form};
use crate::wire::deflate::{Deflater, WINDOW_BITS_MAX};
use crate::wire::encode::{Encoder, Encoding};
use crate::wire::frame::{parts, put_deflated};

/// When a lane gets a shared window, and how long its stretches are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSettings {
    /// Windows of one shard at most; 0 for none. Each costs about 300 KiB.
    pub windows_max: usize,
    /// Sessions in step that a lane must have to get a window; it loses the window below half of that.
    pub members_min: usize,
    /// Frames of a stretch at most.
    pub cut_frames_max: u32,
    /// Frames of a stretch at least before it is cut for those who wait to board.
    pub cut_frames_min: u32,
}

pub struct Window {
    deflater: Deflater,
    /// Frames since the cut.
    frames: u32,
    /// Sessions that have been sent everything since the cut, and nothing else; each knows its seat.
    pub boarded: Vec<SessionId>,
}

impl Window {
    pub fn new(level: u32) -> Window {
        Window { deflater: Deflater::new(level, WINDOW_BITS_MAX), frames: 0, boarded: Vec::new() }
    }

    /// Whether it is time to cut; `waiting` tells that someone wants to board.
    pub fn is_due(&self, waiting: bool, settings: &WindowSettings) -> bool {
        self.frames >= settings.cut_frames_max
            || (waiting && (self.frames >= settings.cut_frames_min || self.boarded.is_empty()))
    }

    /// Forgets everything: those who are on board from here can inflate what follows.
    pub fn cut(&mut self) {
        self.deflater.cut();
        self.frames = 0;
    }

    /// The frames as one chunk for all on board.
    pub fn chunk(&mut self, frames: &[&Frame], key: &LaneKey, encoder: &mut Encoder) -> Chunk {
        let mut out = Vec::new();
        let (mut plain_bytes, mut count) = (0, 0);
        for frame in frames {
            let plain = &frame.encoded(Encoding::of(key.format, false), encoder).bytes;
            plain_bytes += plain.len();
            if frame.is_note() {
                // As all notices it is not compressed, so that it enters no window; for raw lanes it is empty.
                out.extend_from_slice(plain);
                continue;
            }
            let (opcode, payload) = parts(plain);
            put_deflated(&mut out, opcode, payload, &mut self.deflater);
            count += 1;
        }
        self.frames = self.frames.saturating_add(count);
        Chunk {
            saved_bytes: plain_bytes.saturating_sub(out.len()),
            bytes: Bytes::from(out),
            frames: u64::from(count),
            form: Form::Window,
        }
    }
}
