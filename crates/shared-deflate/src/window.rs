//! One window for many recipients: a compressor that keeps its context, and the same bytes for all on board.
//!
//! A message is deflated once, however many recipients it has, and small, because it refers to the messages before it.
//! A recipient can read it only if it has received all of those. So recipients board at a cut: there the compressor
//! forgets its window, and what follows refers to nothing from before. Between two cuts nobody boards.
//!
//! A recipient that waits to board is sent messages that stand alone, which are larger. A cut makes the messages after
//! it larger for all on board. So there is a cut only for recipients that wait, and as soon as their waiting has cost
//! as many bytes as the cut costs. This is the rule for renting or buying: together never more than twice what the best
//! cuts would cost.
//!
//! # What a recipient may be sent
//! It must keep context, and a window as large as the compressor's
//! ([`Agreement::keeps_context`](crate::negotiate::Agreement::keeps_context)).
//! - On board: every message of the window since its cut. Uncompressed messages and control frames may stand between
//!   them, for they enter no window (RFC 7692 section 7.2.3.2). Any other compressed message must not: it would move
//!   the recipient's window, and references would miss.
//! - Not on board: whatever stands alone. A recipient that has missed a message of the window must leave; it boards
//!   again at a later cut. What it inflates in between enters its window, and no message after that cut refers to it.

use crate::deflate::Deflater;
use crate::frame::{Opcode, put_deflated};

/// When a window is cut for the recipients that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutPolicy {
    /// What a cut costs one member, in messages: it receives as many more bytes as a recipient that waits for so many.
    pub cost_messages: u32,
    /// Messages for which recipients wait to board at most, whatever the cut costs.
    pub wait_messages_max: u32,
}

impl Default for CutPolicy {
    /// A cost of 4 and a wait of 1024. Measured on recorded market data a cut costs 3 to 5 messages, and up to 8 where
    /// messages of many kinds take turns; the sum of all bytes hardly depends on it in that range.
    fn default() -> CutPolicy {
        CutPolicy { cost_messages: 4, wait_messages_max: 1024 }
    }
}

/// What a window has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowStatistics {
    /// Cuts, the first boarding included.
    pub cuts: u64,
    /// Messages, each once.
    pub messages: u64,
    /// Bytes of their payloads, uncompressed.
    pub payload_bytes: u64,
    /// Bytes of their frames, compressed, headers included.
    pub frame_bytes: u64,
}

/// One compressor, and the recipients on board; `M` is what the caller knows a recipient by.
///
/// ```
/// use shared_deflate::deflate::{Deflater, WINDOW_BITS_MAX};
/// use shared_deflate::frame::Opcode;
/// use shared_deflate::window::{CutPolicy, SharedWindow};
///
/// let mut window = SharedWindow::new(Deflater::new(6, WINDOW_BITS_MAX), CutPolicy::default());
/// let mut cut = window.cut_for(1, 1).expect("nobody is on board whom a cut would cost anything");
/// let slot = cut.board("a client");
/// let mut frame = Vec::new();
/// window.put_message(&mut frame, Opcode::Text, b"for everyone on board");
/// assert_eq!(window.members(), ["a client"]);
/// assert_eq!(window.leave(slot), ("a client", None));
/// ```
pub struct SharedWindow<M> {
    deflater: Deflater,
    policy: CutPolicy,
    /// Messages since the cut for which a recipient waited to board.
    messages_waited: u64,
    /// The same, each message as often as recipients waited for it.
    waits: u64,
    /// Recipients that have been sent everything since the cut, and nothing else that is compressed.
    members: Vec<M>,
    statistics: WindowStatistics,
}

impl<M> SharedWindow<M> {
    /// A window without members. Nothing that the deflater has made before matters: recipients board at a cut.
    pub fn new(deflater: Deflater, policy: CutPolicy) -> SharedWindow<M> {
        SharedWindow {
            deflater,
            policy,
            messages_waited: 0,
            waits: 0,
            members: Vec::new(),
            statistics: WindowStatistics::default(),
        }
    }

    /// Before the next `messages` messages: cuts the window if that is better than to let `waiting` recipients wait for
    /// these messages too. At the cut they board. Call it once for each group of messages that is sent in one go.
    pub fn cut_for(&mut self, waiting: usize, messages: usize) -> Option<Cut<'_, M>> {
        if waiting == 0 {
            return None;
        }
        self.messages_waited += messages as u64;
        self.waits += (waiting * messages) as u64;
        let cost = u64::from(self.policy.cost_messages) * self.members.len() as u64;
        if self.waits < cost && self.messages_waited < u64::from(self.policy.wait_messages_max) {
            return None;
        }
        self.deflater.cut();
        (self.messages_waited, self.waits) = (0, 0);
        self.statistics.cuts += 1;
        Some(Cut { members: &mut self.members })
    }

    /// Appends the frame of one message to `out`, the same bytes for all members (RFC 7692 section 7.2.1).
    pub fn put_message(&mut self, out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
        let before = out.len();
        put_deflated(out, opcode, payload, &mut self.deflater);
        self.statistics.messages += 1;
        self.statistics.payload_bytes += payload.len() as u64;
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

/// A cut of a [`SharedWindow`]: the only place where recipients board.
#[derive(Debug)]
pub struct Cut<'w, M> {
    members: &'w mut Vec<M>,
}

impl<M> Cut<'_, M> {
    /// Takes a recipient on board. Gives its slot in [`SharedWindow::members`], which is its own until it leaves or
    /// [`SharedWindow::leave`] gives it another one.
    pub fn board(&mut self, member: M) -> usize {
        self.members.push(member);
        self.members.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deflate::{Inflater, WINDOW_BITS_MAX};
    use crate::frame::parts;

    fn window(policy: CutPolicy, members: usize) -> SharedWindow<usize> {
        let mut window = SharedWindow::new(Deflater::new(1, WINDOW_BITS_MAX), policy);
        if let Some(mut cut) = window.cut_for(members, 1) {
            (0..members).for_each(|member| assert_eq!(cut.board(member), member));
        }
        window
    }

    #[test]
    fn a_cut_costs_no_more_than_the_waiting_before_it() {
        let policy = CutPolicy { cost_messages: 4, wait_messages_max: 100 };
        for (members, waiting, messages, groups) in [
            // Nobody has anything to lose.
            (0, 1, 1, 1),
            (10, 1, 1, 40),
            (10, 3, 1, 14),
            (10, 40, 1, 1),
            // Messages that are there already need not be waited for.
            (10, 1, 40, 1),
            (10, 1, 13, 4),
            // Not worth it in bytes, but nobody waits for ever.
            (1000, 1, 1, 100),
            (1000, 1, 64, 2),
        ] {
            let mut window = window(policy, members);
            for segment in 0..3 {
                assert!(window.cut_for(0, messages).is_none(), "nobody waits");
                let cut = (1..=1000).find(|_| window.cut_for(waiting, messages).is_some());
                let case = format!("{waiting} wait for {members}, {messages} at once, segment {segment}");
                assert_eq!(cut, Some(groups), "{case}");
            }
        }
    }

    #[test]
    fn members_keep_their_slots_until_one_leaves() {
        let mut window = window(CutPolicy::default(), 4);
        assert_eq!(window.leave(1), (1, Some(&3)));
        assert_eq!(window.members(), [0, 3, 2]);
        assert_eq!(window.leave(2), (2, None));
        assert_eq!(window.into_members(), [0, 3]);
    }

    #[test]
    fn a_recipient_that_boards_at_a_cut_reads_all_that_follows_and_one_that_does_not_cannot() {
        let text = br#"{"topic":"quote.AAPL","bid":227.63,"ask":227.64}"#;
        let mut window = window(CutPolicy { cost_messages: 0, ..CutPolicy::default() }, 1);
        let mut message = || {
            let mut frame = Vec::new();
            window.put_message(&mut frame, Opcode::Text, text);
            frame
        };
        let [first, second] = [message(), message()];
        let cut = window.cut_for(1, 1).map(|mut cut| cut.board(1));
        assert_eq!(cut, Some(1));
        let mut third = Vec::new();
        window.put_message(&mut third, Opcode::Text, text);
        assert_eq!(third, first, "a cut forgets everything");

        let inflate = |inflater: &mut Inflater, frame: &[u8]| {
            let (_, payload) = parts(frame).expect("a whole frame");
            inflater.inflate_with_context(payload, text.len()).is_ok_and(|inflated| inflated == text)
        };
        let mut early = Inflater::new();
        assert!([&first, &second, &third].iter().all(|frame| inflate(&mut early, frame)));
        assert!(inflate(&mut Inflater::new(), &third));
        assert!(!inflate(&mut Inflater::new(), &second), "it refers to what was never received");

        let statistics = window.statistics();
        assert_eq!((statistics.cuts, statistics.messages), (2, 3));
        assert_eq!(statistics.payload_bytes, 3 * text.len() as u64);
        assert_eq!(statistics.frame_bytes, (first.len() + second.len() + third.len()) as u64);
    }
}
