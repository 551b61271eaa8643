//! The shared window of a lane: one compressor whose window is kept, its bytes shared by every session that boarded.
//!
//! The stream is cut into stretches. At a cut the compressor forgets its window, so whoever boards there can inflate
//! all that follows; in between nobody boards. So there is a cut only for those who wait, as soon as their waiting has
//! cost as many bytes as the cut costs: together never more than twice what the best cuts would. A session that leaves the identical stream, because it fell behind or
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

/// What a cut costs a session on board, in frames: it gets as many more bytes as one that waits for so many. Measured
/// 2.5 to 8 (`cargo bench --bench compression -- sweep`); the sum of all bytes hardly depends on it in that range.
const CUT_COST_FRAMES: u64 = 4;

/// When a lane gets a shared window, and how long one waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSettings {
    /// Windows of one shard at most; 0 for none. Each costs about 300 KiB.
    pub windows_max: usize,
    /// Sessions in step that a lane must have to get a window; it loses the window below half of that.
    pub members_min: usize,
    /// Frames for which sessions wait to board at most.
    pub cut_frames_max: u32,
}

pub struct Window {
    deflater: Deflater,
    /// Frames since the cut for which someone waited to board.
    frames_waited: u64,
    /// The same, each frame as often as sessions waited for it.
    waits: u64,
    /// Sessions that have been sent everything since the cut, and nothing else; each knows its seat.
    pub boarded: Vec<SessionId>,
}

impl Window {
    pub fn new(level: u32) -> Window {
        Window { deflater: Deflater::new(level, WINDOW_BITS_MAX), frames_waited: 0, waits: 0, boarded: Vec::new() }
    }

    /// Forgets everything if that is better than to let so many sessions, at least one, wait for these frames too.
    /// Then those who are on board from here can inflate what follows.
    pub fn cut_for(&mut self, waiting: usize, frames: usize, settings: &WindowSettings) -> bool {
        self.frames_waited += frames as u64;
        self.waits += (waiting * frames) as u64;
        let due = self.waits >= CUT_COST_FRAMES * self.boarded.len() as u64
            || self.frames_waited >= u64::from(settings.cut_frames_max);
        if due {
            self.deflater.cut();
            (self.frames_waited, self.waits) = (0, 0);
        }
        due
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
        Chunk {
            saved_bytes: plain_bytes.saturating_sub(out.len()),
            bytes: Bytes::from(out),
            frames: count,
            form: Form::Window,
        }
    }
}
