//! The shared window of a lane: when a lane has one, and its frames as one chunk for every session on board.
//!
//! What a window is, and when it is cut, is said in `shared_deflate::window`. A session that leaves the identical
//! stream, because it fell behind or changed its subscription, gets stateless frames from then on, and boards again at
//! a later cut. Personal messages are not compressed, so they do not enter the client's window at all.

use bytes::Bytes;
use shared_deflate::deflate::{Deflater, WINDOW_BITS_MAX};
use shared_deflate::frame::parts;
use shared_deflate::window::{CutPolicy, SharedWindow};

use crate::bus::frame::Frame;
use crate::delivery::catch_up::path::{Chunk, Compression};
use crate::delivery::lanes::lane::{LaneKey, SessionId};
use crate::protocol::encoding::{Encoder, Encoding};

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

/// A lane's window; each session on board knows its seat.
pub type Window = SharedWindow<SessionId>;

/// A window without members. What a cut costs is measured by `cargo bench --bench compression -- sweep`.
pub fn open(level: u32, settings: &WindowSettings) -> Window {
    let policy = CutPolicy { wait_messages_max: settings.cut_frames_max, ..CutPolicy::default() };
    SharedWindow::new(Deflater::new(level, WINDOW_BITS_MAX), policy)
}

/// The frames as one chunk for all on board.
pub fn chunk(window: &mut Window, frames: &[&Frame], key: &LaneKey, encoder: &mut Encoder) -> Chunk {
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
        let (opcode, payload) = parts(plain).expect("an encoding is a whole frame");
        window.put_message(&mut out, opcode, payload);
        count += 1;
    }
    Chunk {
        saved_bytes: plain_bytes.saturating_sub(out.len()),
        bytes: Bytes::from(out),
        frames: count,
        form: Compression::Window,
    }
}

#[cfg(test)]
mod tests {
    use crate::delivery::handoff::SessionOptions;
    use crate::delivery::harness::{Harness, HarnessClient};
    use crate::delivery::sessions::session::SyncState;
    use crate::wire::negotiate::Agreement;
    use crate::words::topic::Pattern;

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
