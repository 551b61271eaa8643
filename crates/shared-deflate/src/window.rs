//! One window for many recipients: a compressor that keeps its context, and the same bytes for all on board.
//!
//! A message is deflated once, however many recipients it has, and small, because it refers to the messages before it.
//! A recipient can read it only if it has what the message refers to: the newest 32 KiB of text, or all since the window
//! began. In which encoding it received them does not matter, for its window is a function of the text alone. So nobody
//! waits for anyone, and nothing is forgotten for those that come: a recipient is sent the same texts in encodings of
//! its own (tokens, or messages that stand alone), until it has enough of them, and boards.
//!
//! # What a recipient may be sent
//! It must keep context, and a window as large as the compressor's
//! ([`Agreement::keeps_context`](crate::negotiate::Agreement::keeps_context)).
//! - From where it arrives: every text of the stream, compressed, in whatever encoding; on board, that of the window.
//!   Uncompressed messages and control frames may stand between them, for they enter no window (RFC 7692 section
//!   7.2.3.2). Any other compressed message must not: it would move the recipient's window, and references would miss.
//! - A recipient that has missed a text must leave. When it is back it arrives anew.

use crate::deflate::{Deflater, TAIL, WINDOW_BITS_MAX};
use crate::frame::{Opcode, put_deflated};

/// What a window has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowStatistics {
    /// Messages, each once.
    pub messages: u64,
    /// Bytes of their payloads, uncompressed.
    pub payload_bytes: u64,
    /// Bytes of their frames, compressed, headers included.
    pub frame_bytes: u64,
}

/// One compressor, and the recipients on board; `M` is what the caller knows a recipient by.
///
/// Positions are those of the [`Stream`](crate::token::Stream) of texts that goes through the window.
///
/// ```
/// use shared_deflate::deflate::{Deflater, WINDOW_BITS_MAX};
/// use shared_deflate::frame::Opcode;
/// use shared_deflate::window::SharedWindow;
///
/// let mut window = SharedWindow::new(Deflater::new(6, WINDOW_BITS_MAX), 1);
/// assert!(window.takes(1, 1), "it has all that there was");
/// let slot = window.board("a client");
/// let mut frame = Vec::new();
/// window.put_message(&mut frame, Opcode::Text, b"for everyone on board");
/// assert!(!window.takes(22, 22), "one that arrives after this message lacks it");
/// assert_eq!(window.members(), ["a client"]);
/// assert_eq!(window.leave(slot), ("a client", None));
/// ```
pub struct SharedWindow<M> {
    deflater: Deflater,
    /// Where the stream was when the window began.
    since: u64,
    /// Recipients that have all that the compressor may refer to.
    members: Vec<M>,
    statistics: WindowStatistics,
}

impl<M> SharedWindow<M> {
    /// A window without members, which begins at this position of the stream. The deflater must be new.
    pub fn new(deflater: Deflater, position: u64) -> SharedWindow<M> {
        SharedWindow { deflater, since: position, members: Vec::new(), statistics: WindowStatistics::default() }
    }

    /// Begins anew at this position: no message from here on refers to one before.
    ///
    /// # Panics
    /// Someone is on board.
    pub fn restart(&mut self, position: u64) {
        assert!(self.members.is_empty(), "those on board go on with what they have");
        self.deflater.cut();
        self.since = position;
    }

    /// Whether a recipient that arrived at one position of the stream may board at another, the current one.
    pub fn takes(&self, arrived: u64, position: u64) -> bool {
        arrived <= self.known_since(position)
    }

    /// Where a recipient must have arrived to board at this position: one that leaves the window for another encoding
    /// has all that follows.
    pub fn known_since(&self, position: u64) -> u64 {
        self.since.max(position.saturating_sub(1 << WINDOW_BITS_MAX))
    }

    /// Takes a recipient on board, which the window must [take](SharedWindow::takes). Gives its slot in
    /// [`members`](SharedWindow::members), which is its own until it leaves or [`leave`](SharedWindow::leave) gives it
    /// another one.
    pub fn board(&mut self, member: M) -> usize {
        self.members.push(member);
        self.members.len() - 1
    }

    /// Appends the frame of one message to `out`, the same bytes for all members (RFC 7692 section 7.2.1).
    pub fn put_message(&mut self, out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
        let before = out.len();
        put_deflated(out, opcode, payload, &mut self.deflater);
        self.statistics.messages += 1;
        self.statistics.payload_bytes += payload.len() as u64;
        self.statistics.frame_bytes += (out.len() - before) as u64;
    }

    /// Appends a text as a part of one deflate stream ([`TAIL`] included), the same bytes for all members, to whom all that
    /// they are sent is one stream.
    pub fn put_part(&mut self, out: &mut Vec<u8>, text: &[u8]) {
        let before = out.len();
        self.deflater.deflate(text, out);
        out.extend_from_slice(&TAIL);
        self.statistics.messages += 1;
        self.statistics.payload_bytes += text.len() as u64;
        self.statistics.frame_bytes += (out.len() - before) as u64;
    }

    /// The recipients on board, each at its slot.
    pub fn members(&self) -> &[M] {
        &self.members
    }

    /// Takes a member off board, at any moment. Gives it, and the member that now has its slot, if one was moved there.
    ///
    /// # Panics
    /// Nobody is at the slot.
    pub fn leave(&mut self, slot: usize) -> (M, Option<&M>) {
        let member = self.members.swap_remove(slot);
        (member, self.members.get(slot))
    }

    /// Ends the window, and gives the recipients that were on board.
    pub fn into_members(self) -> Vec<M> {
        self.members
    }

    /// What the window has done so far.
    pub fn statistics(&self) -> WindowStatistics {
        self.statistics
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deflate::Inflater;
    use crate::frame::{parts, put_stored};

    const TEXT: &[u8] = br#"{"topic":"quote.AAPL","bid":227.63,"ask":227.64}"#;

    fn inflates(inflater: &mut Inflater, frame: &[u8]) -> bool {
        let (_, payload) = parts(frame).expect("a whole frame");
        inflater.inflate_with_context(payload, TEXT.len()).is_ok_and(|inflated| inflated == TEXT)
    }

    #[test]
    fn members_keep_their_slots_until_one_leaves() {
        let mut window = SharedWindow::new(Deflater::new(1, WINDOW_BITS_MAX), 1);
        (0..4).for_each(|member| assert_eq!(window.board(member), member));
        assert_eq!(window.leave(1), (1, Some(&3)));
        assert_eq!(window.members(), [0, 3, 2]);
        assert_eq!(window.leave(2), (2, None));
        assert_eq!(window.into_members(), [0, 3]);
    }

    #[test]
    fn a_recipient_boards_once_it_has_all_that_may_be_referred_to() {
        let mut window = SharedWindow::new(Deflater::new(1, WINDOW_BITS_MAX), 1);
        window.board(0);
        let (mut early, mut late) = (Inflater::new(), Inflater::new());
        let (mut position, arrived) = (1, 1 + TEXT.len() as u64);
        let mut boarded_after = None;
        for messages in 0..1000 {
            if messages > 0 && boarded_after.is_none() && window.takes(arrived, position) {
                window.board(1);
                boarded_after = Some(messages);
            }
            let mut shared = Vec::new();
            window.put_message(&mut shared, Opcode::Text, TEXT);
            assert!(inflates(&mut early, &shared), "message {messages}");
            let mut alone = Vec::new();
            put_stored(&mut alone, Opcode::Text, TEXT);
            let due = if boarded_after.is_some() { &shared } else { &alone };
            assert!(messages == 0 || inflates(&mut late, due), "message {messages}");
            position += TEXT.len() as u64;
        }
        assert_eq!(boarded_after, Some(1 + (1usize << 15).div_ceil(TEXT.len())));
        let statistics = window.statistics();
        assert_eq!((statistics.messages, statistics.payload_bytes), (1000, 1000 * TEXT.len() as u64));
        assert!(statistics.frame_bytes * 4 < statistics.payload_bytes);
    }

    #[test]
    fn a_window_that_begins_anew_refers_to_nothing_before() {
        let mut window = SharedWindow::new(Deflater::new(1, WINDOW_BITS_MAX), 1);
        let frames = [false, false, true].map(|anew| {
            let mut frame = Vec::new();
            if anew {
                window.restart(500);
            }
            window.put_message(&mut frame, Opcode::Text, TEXT);
            frame
        });
        assert!(window.takes(500, 500) && !window.takes(501, 600));
        window.board(0);
        assert_eq!(frames[2], frames[0]);
        assert!(inflates(&mut Inflater::new(), &frames[2]));
        assert!(!inflates(&mut Inflater::new(), &frames[1]), "it refers to what was never received");
    }
}
