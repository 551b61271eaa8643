//! The shared window of a lane: its frames as one chunk for every session on board.
//!
//! `shared_deflate::window` defines what a window is, and who may board. Until then, and after it has left the identical
//! stream because it fell behind or changed its subscription, a session gets the frames as tokens (`stream`). Messages of
//! its own are not compressed, so they never enter the client's window.

use bytes::Bytes;
use shared_deflate::frame::parts;
use shared_deflate::window::SharedWindow;

use crate::delivery::chunk::{Chunk, Compression};
use crate::delivery::lanes::lane_key::LaneKey;
use crate::delivery::lanes::stream::Due;
use crate::delivery::session_id::SessionId;
use crate::protocol::encoding::Encoder;

/// A lane's window; each session on board knows its slot.
pub type Window = SharedWindow<SessionId>;

/// The frames as one chunk for all on board.
pub fn chunk(window: &mut Window, due: &[Due<'_>], key: &LaneKey, encoder: &mut Encoder) -> Chunk {
    let mut out = Vec::new();
    let (mut plain_bytes, mut count) = (0, 0);
    for Due { frame, .. } in due {
        let plain = &frame.encoded(key.plain(), encoder).bytes;
        plain_bytes += plain.len();
        if frame.is_status() {
            // As all messages of the server it is not compressed, so that it enters no window; it is empty in the
            // raw format.
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
        compression: Compression::Window,
    }
}

/// The frames as one part of the stream of each on board, who read all that they are sent as one.
pub fn part(window: &mut Window, due: &[Due<'_>], key: &LaneKey, encoder: &mut Encoder) -> Chunk {
    let (mut text, mut out) = (Vec::new(), Vec::new());
    for Due { frame, .. } in due {
        text.extend_from_slice(&frame.encoded(key.text(), encoder).bytes);
    }
    window.put_part(&mut out, &text);
    let frames = due.iter().filter(|due| !due.frame.is_status()).count() as u64;
    let saved_bytes = text.len().saturating_sub(out.len());
    Chunk { saved_bytes, bytes: Bytes::from(out), frames, compression: Compression::Window }
}

#[cfg(test)]
mod tests {
    use crate::delivery::handoff::SessionOptions;
    use crate::delivery::harness::{Harness, HarnessClient};
    use crate::delivery::sessions::sync_state::SyncState;
    use crate::words::topic::Pattern;
    use shared_deflate::negotiate::Agreement;

    #[test]
    fn a_window_opens_with_the_first_frame_and_a_later_session_boards_once_it_has_its_text() {
        let mut harness = Harness::open();
        let early = [adopt(&mut harness), adopt(&mut harness)];
        let first = publish_to(&mut harness, &early[0]);
        assert!(early.iter().all(|client| is_boarded(&harness, client)));
        let late = adopt(&mut harness);
        let mut sizes = Vec::new();
        while !is_boarded(&harness, &late) {
            sizes.push([&early[0], &late].map(|client| publish_to(&mut harness, client)));
            assert!(sizes.len() < 1000, "it boards");
        }
        assert!(sizes.iter().all(|[early, _]| early * 2 < first), "nobody pays for it: {sizes:?}");
        assert!(sizes[1..].iter().all(|[_, late]| late * 2 < first), "it waits with tokens: {sizes:?}");
        // An envelope of this topic has some 75 bytes.
        assert!((420..460).contains(&(2 * sizes.len())), "32 KiB of text: {} frames", 2 * sizes.len());
    }

    #[test]
    fn sessions_board_one_after_another_and_a_window_that_all_have_left_begins_anew() {
        let mut harness = Harness::open();
        let early = [adopt(&mut harness), adopt(&mut harness)];
        publish_to(&mut harness, &early[0]);
        let late = adopt(&mut harness);
        for _ in 0..100 {
            publish_to(&mut harness, &late);
        }
        let later = adopt(&mut harness);
        let frames = (0..1000).take_while(|_| {
            publish_to(&mut harness, &late);
            !is_boarded(&harness, &late)
        });
        assert!(frames.count() > 100 && !is_boarded(&harness, &later), "it has a hundred frames less");
        harness.vanish(&later);
        harness.settle();

        let last = adopt(&mut harness);
        assert!(publish_to(&mut harness, &last) > 0 && !is_boarded(&harness, &last));
        early.iter().chain([&late]).for_each(|client| harness.vanish(client));
        harness.settle();
        publish_to(&mut harness, &last);
        assert!(is_boarded(&harness, &last), "there is nothing that it lacks");
    }

    fn adopt(harness: &mut Harness) -> HarnessClient {
        let deflate = Some(Agreement { server_no_context_takeover: false, server_max_window_bits: None });
        let patterns = vec![Pattern::parse(">").expect("a pattern")];
        let client = harness.adopt(SessionOptions { patterns, deflate, ..SessionOptions::default() });
        harness.settle();
        client
    }

    /// The bytes that the client got of one more frame.
    fn publish_to(harness: &mut Harness, client: &HarnessClient) -> usize {
        client.pipe.borrow_mut().to_client.clear();
        harness.publish("a.topic.of.which.the.name.is.long");
        harness.settle();
        client.pipe.borrow().to_client.len()
    }

    fn is_boarded(harness: &Harness, client: &HarnessClient) -> bool {
        matches!(harness.shard.sessions[client.id].state(), SyncState::Boarded { .. })
    }
}
