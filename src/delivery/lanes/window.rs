//! The shared window of a lane: one compressor whose window is kept, its bytes shared by every session that boarded.
//!
//! The stream is cut into stretches. At a cut the compressor forgets its window, so whoever boards there can inflate
//! all that follows; in between nobody boards. So there is a cut only for those who wait, as soon as their waiting has
//! cost as many bytes as the cut costs: together never more than twice what the best cuts would. A session that leaves
//! the identical stream, because it fell behind or changed its subscription, gets stateless frames from then on, and
//! boards again at a later cut: what it inflates in between enters its own window, to which the stretch never refers.
//! Personal messages are not compressed, so they do not enter the peer's window at all (RFC 7692 section 7.2.3.2).

use bytes::Bytes;

use crate::bus::frame::Frame;
use crate::delivery::catch_up::path::{Chunk, Compression};
use crate::delivery::lanes::lane::{LaneKey, SessionId};
use crate::protocol::encoding::{Encoder, Encoding};
use crate::wire::deflate::{Deflater, WINDOW_BITS_MAX};
use crate::wire::frame::{parts, put_deflated};

/// What a cut costs a session on board, in frames: it gets as many more bytes as one that waits for so many. Measured
/// 3 to 5 (`cargo bench --bench compression -- sweep`), and up to 8 where many topics take turns; the sum of all bytes
/// hardly depends on it in that range.
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
            if frame.is_status() {
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
            form: Compression::Window,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::handoff::SessionOptions;
    use crate::delivery::harness::{Harness, HarnessClient};
    use crate::delivery::sessions::session::SyncState;
    use crate::wire::negotiate::Agreement;
    use crate::words::topic::Pattern;

    #[test]
    fn a_cut_costs_no_more_than_the_waiting_before_it() {
        let settings = WindowSettings { windows_max: 1, members_min: 1, cut_frames_max: 100 };
        for (boarded, waiting, frames_a_round, rounds) in [
            // Nobody has anything to lose.
            (0, 1, 1, 1),
            (10, 1, 1, 40),
            (10, 3, 1, 14),
            (10, 40, 1, 1),
            // Frames that are there already need not be waited for.
            (10, 1, 40, 1),
            (10, 1, 13, 4),
            // Not worth it in bytes, but nobody waits for ever.
            (1000, 1, 1, 100),
            (1000, 1, 64, 2),
        ] {
            let mut window = Window::new(1);
            window.boarded = (0..boarded).map(SessionId).collect();
            for stretch in 0..3 {
                let cut = (1..=1000).find(|_| window.cut_for(waiting, frames_a_round, &settings));
                let case = format!("{waiting} wait for {boarded}, {frames_a_round} at once, stretch {stretch}");
                assert_eq!(cut, Some(rounds), "{case}");
            }
        }
    }

    #[test]
    fn a_window_opens_with_the_first_frame_and_is_cut_only_for_those_who_wait() {
        let mut stage = Harness::open();
        let early = [adopt(&mut stage), adopt(&mut stage)];
        // Beyond `cut_frames_max`.
        let sizes: Vec<usize> = (0..100).map(|_| publish(&mut stage, &early[0])).collect();
        assert!(early.iter().all(|puppet| is_boarded(&stage, puppet)));
        assert!(sizes[1..].iter().all(|bytes| bytes * 2 < sizes[0]), "only the first frame repeats nothing: {sizes:?}");

        let late = adopt(&mut stage);
        let sizes: Vec<usize> = (0..8).map(|_| publish(&mut stage, &early[0])).collect();
        assert!(is_boarded(&stage, &late));
        assert!(sizes[..7].iter().all(|bytes| bytes * 2 < sizes[7]), "cut before the eighth frame: {sizes:?}");
    }

    fn adopt(stage: &mut Harness) -> HarnessClient {
        let deflate = Some(Agreement { server_no_context_takeover: false, server_max_window_bits: None });
        let patterns = vec![Pattern::parse(">").expect("a pattern")];
        let puppet = stage.adopt(SessionOptions { patterns, deflate, ..SessionOptions::default() });
        stage.settle();
        puppet
    }

    /// The bytes that the puppet got of one more frame.
    fn publish(stage: &mut Harness, puppet: &HarnessClient) -> usize {
        puppet.pipe.borrow_mut().to_client.clear();
        stage.publish("a.topic.of.which.the.name.is.long");
        stage.settle();
        puppet.pipe.borrow().to_client.len()
    }

    fn is_boarded(stage: &Harness, puppet: &HarnessClient) -> bool {
        matches!(stage.shard.sessions[puppet.id.0].standing, SyncState::Boarded { .. })
    }
}
