//! What is retained of one topic for clients that join later: its newest values, or a snapshot and the deltas since.
//!
//! A value type: publisher, shards and edge each feed their own with the topic's frames in the order of their offsets,
//! and so arrive at the same. Invariants:
//!  - what is kept lies in the order of offsets;
//!  - a kept delta lies behind the snapshot that it belongs to, and nothing between the two is missing;
//!  - a frame that has a whole form is kept as the first or not at all.
//!
//! It deliberately does not decide which client receives what of it: that is `delivery/catch_up/mod.rs`.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::bus::frame::{Frame, FrameKind};
use crate::bus::topic_status::{GapReason, TopicStatus, TopicStatusKind};
use crate::words::ids::Offset;

/// Deltas that are kept after a snapshot: an order book with one snapshot a minute has about 300 deltas a second. A
/// simulation must reach this bound, too.
pub const DELTAS_MAX: usize = if cfg!(test) { 12 } else { 20_000 };
/// 16 MiB: payload bytes of these deltas, 800 for each.
pub const DELTAS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Two pointers for a topic of which one value is kept, which most are.
#[derive(Clone, Debug)]
pub struct Retained {
    /// The topic's newest frame, whatever it is.
    newest: Arc<Frame>,
    /// None where `newest` is all that there is.
    rest: Option<Box<RetainedFrames>>,
}

#[derive(Clone, Debug, Default)]
struct RetainedFrames {
    /// Values; or what stands for the whole value, the deltas since and the gaps in them. Then perhaps a mark. If there
    /// were too many deltas, a gap stands in the place of them all.
    kept: VecDeque<Arc<Frame>>,
    /// Deltas since the snapshot, and their payload bytes.
    deltas: usize,
    deltas_bytes: usize,
    /// A gap is among what is kept.
    holds_gap: bool,
    /// Changes without a whole value, or messages that are not kept, were among the frames.
    had_events: bool,
    /// The newest transient frame, for paced lanes.
    transient: Option<Arc<Frame>>,
}

impl Retained {
    pub fn new(first: Arc<Frame>) -> Retained {
        let mut retained = Retained { newest: first.clone(), rest: None };
        if !stands_alone(&first) && !is_transient(&first) {
            let mut rest = Box::<RetainedFrames>::default();
            rest.take(first);
            retained.rest = Some(rest);
        }
        retained
    }

    /// As another server retains it: what is kept, the newest transient frame, and the newest frame of all. None if
    /// nothing can be retained so.
    pub(super) fn restored(
        newest: Arc<Frame>,
        kept: VecDeque<Arc<Frame>>,
        transient: Option<Arc<Frame>>,
        had_events: bool,
    ) -> Option<Retained> {
        if !can_be_kept(&kept) {
            return None;
        }
        let is_alone = match kept.front() {
            Some(first) => {
                kept.len() == 1 && first.offset == newest.offset && stands_alone(first) && transient.is_none()
            }
            None => is_transient(&newest),
        };
        if is_alone {
            return Some(Retained { newest, rest: None });
        }
        let deltas = kept.iter().filter(|frame| matches!(frame.kind, FrameKind::Delta { whole: None }));
        let (deltas, deltas_bytes) =
            deltas.fold((0, 0), |(count, bytes), delta| (count + 1, bytes + delta.payload.bytes.len()));
        let holds_gap = kept.iter().any(|frame| is_gap(frame));
        let rest = RetainedFrames { kept, deltas, deltas_bytes, holds_gap, had_events, transient };
        Some(Retained { newest, rest: Some(Box::new(rest)) })
    }

    /// The newest transient frame, where it is retained besides the newest frame; and whether messages were among the
    /// frames that are not kept.
    pub(super) fn besides(&self) -> (Option<&Arc<Frame>>, bool) {
        let rest = self.rest.as_ref();
        (rest.and_then(|rest| rest.transient.as_ref()), rest.is_some_and(|rest| rest.had_events))
    }

    /// Takes the topic's next frame.
    pub fn take(&mut self, frame: Arc<Frame>) {
        let alike = |is: fn(&Frame) -> bool| is(&frame) && is(&self.newest);
        if self.rest.is_none() && (alike(stands_alone) || alike(is_transient)) {
            self.newest = frame;
            return;
        }
        let before = std::mem::replace(&mut self.newest, frame.clone());
        let rest = self.rest.get_or_insert_with(|| {
            let mut rest = Box::<RetainedFrames>::default();
            rest.take(before);
            rest
        });
        rest.take(frame);
        if rest.transient.is_none() && rest.kept.len() == 1 && stands_alone(&self.newest) {
            self.rest = None;
        }
    }

    /// The topic's newest frame, kept or not: data or a status.
    pub fn newest(&self) -> &Arc<Frame> {
        &self.newest
    }

    /// What a client that joins receives of the frames after an offset, oldest first.
    pub fn kept_after(&self, after: Offset) -> impl Iterator<Item = &Arc<Frame>> {
        let alone = self.rest.is_none() && stands_alone(&self.newest) && self.newest.offset > after;
        let kept = self.rest.iter().flat_map(move |rest| rest.kept.range(rest.index_after(after)..));
        alone.then_some(&self.newest).into_iter().chain(kept)
    }

    /// The kept frame with this offset.
    pub fn find(&self, offset: Offset) -> Option<&Arc<Frame>> {
        let before = Offset(offset.0.checked_sub(1)?);
        self.kept_after(before).next().filter(|frame| frame.offset == offset)
    }

    /// What a paced lane receives of the frames after an offset: of values the newest alone, of transient frames the
    /// newest alone, of deltas all. In no order.
    pub fn news_after(&self, after: Offset) -> impl Iterator<Item = &Arc<Frame>> {
        let transient = match &self.rest {
            Some(rest) => rest.transient.as_ref(),
            None => Some(&self.newest).filter(|newest| is_transient(newest)),
        };
        let newest_value = self.rest.as_ref().and_then(|rest| rest.newest_value());
        let kept = self.kept_after(after).filter(move |frame| newest_value.is_none_or(|newest| frame.offset >= newest));
        kept.chain(transient.filter(|transient| transient.offset > after))
    }

    /// Whether one frame is all that is kept, so that a copy is two pointers.
    pub fn is_single(&self) -> bool {
        self.rest.is_none()
    }

    /// Whether a snapshot, or what stands for it, is kept, so that deltas can follow.
    pub fn holds_deltas(&self) -> bool {
        let first = self.base();
        first.is_some_and(|first| matches!(first.kind, FrameKind::Snapshot | FrameKind::Delta { .. }))
    }

    /// Each of its messages counts: they are events or changes, and not values of which the newest is enough.
    pub fn is_of_events(&self) -> bool {
        match self.base() {
            Some(base) => matches!(base.kind, FrameKind::Value { keep } if keep > 1),
            // Changes without a whole value, or messages that are not kept.
            None => !self.newest.is_status() || self.rest.as_ref().is_some_and(|rest| rest.had_events),
        }
    }

    /// A gap is among what is kept: whoever joins lacks something, until the next snapshot.
    pub fn holds_gap(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.holds_gap)
    }

    /// What stands for everything that the frames before it built; deltas and gaps before it are superseded.
    pub fn base(&self) -> Option<&Arc<Frame>> {
        match &self.rest {
            Some(rest) => rest.base(),
            None => Some(&self.newest).filter(|newest| stands_alone(newest)),
        }
    }
}

impl RetainedFrames {
    fn take(&mut self, frame: Arc<Frame>) {
        match &frame.kind {
            FrameKind::Value { keep } => {
                self.unmark();
                if !self.holds_values() {
                    self.clear();
                }
                while self.kept.len() >= usize::from(*keep) {
                    self.kept.pop_front();
                }
                self.kept.push_back(frame);
            }
            FrameKind::Snapshot | FrameKind::Delta { whole: Some(_) } => {
                self.clear();
                self.kept.push_back(frame);
            }
            FrameKind::Delta { whole: None } if self.has_overflowed() => self.overflow(&frame),
            FrameKind::Delta { whole: None } => {
                if self.holds_deltas() {
                    self.append(frame);
                } else {
                    self.had_events = true;
                }
            }
            FrameKind::Transient => (self.transient, self.had_events) = (Some(frame), true),
            FrameKind::Status(TopicStatusKind::Gap) => {
                if self.holds_deltas() || self.has_overflowed() {
                    self.keep_gap(frame);
                }
            }
            FrameKind::Status(TopicStatusKind::Stale | TopicStatusKind::Refused) => {
                self.unmark();
                self.kept.push_back(frame);
            }
            // A client that received `stale`, and nothing since, needs it.
            FrameKind::Status(TopicStatusKind::Live) => {
                if self.unmark().is_some() {
                    self.kept.push_back(frame);
                }
            }
            // It ends what is retained, and so is no part of it.
            FrameKind::Expired(_) => {}
        }
    }

    /// Keeps a delta behind the snapshot that it belongs to.
    fn append(&mut self, frame: Arc<Frame>) {
        self.deltas += 1;
        self.deltas_bytes += frame.payload.bytes.len();
        if self.deltas > DELTAS_MAX || self.deltas_bytes > DELTAS_BYTES_MAX {
            return self.overflow(&frame);
        }
        self.unmark();
        self.kept.push_back(frame);
    }

    /// Keeps a gap; of several between two deltas the newest, so that there are no more of them than deltas.
    fn keep_gap(&mut self, frame: Arc<Frame>) {
        let mark = self.unmark();
        if self.kept.len() > 1 && self.kept.back().is_some_and(|last| is_gap(last)) {
            self.kept.pop_back();
        }
        self.kept.extend(mark);
        self.kept.push_back(frame);
        self.holds_gap = true;
    }

    /// Forgets the snapshot and its deltas. The gap that is kept instead stands at the newest delta, so that clients that
    /// have all the others get it, too.
    fn overflow(&mut self, newest: &Frame) {
        let gap = TopicStatus::Gap { reason: GapReason::Overflow, missed: None };
        self.clear();
        self.kept.push_back(Arc::new(Frame::status(newest.offset, newest.topic.clone(), newest.received, &gap)));
        self.holds_gap = true;
    }

    fn clear(&mut self) {
        self.kept = VecDeque::new();
        (self.deltas, self.deltas_bytes, self.holds_gap) = (0, 0, false);
    }

    /// Takes the mark out, if there is one. Only gaps lie behind it.
    fn unmark(&mut self) -> Option<Arc<Frame>> {
        let gaps = self.kept.iter().rev().take_while(|frame| is_gap(frame)).count();
        let index = (self.kept.len() - gaps).checked_sub(1).filter(|index| is_mark(&self.kept[*index]))?;
        self.kept.remove(index)
    }

    fn base(&self) -> Option<&Arc<Frame>> {
        self.kept.front().filter(|first| !is_mark(first))
    }

    fn holds_values(&self) -> bool {
        self.base().is_some_and(|base| matches!(base.kind, FrameKind::Value { .. }))
    }

    /// A snapshot, or what stands for it, is kept.
    fn holds_deltas(&self) -> bool {
        self.base().is_some_and(|base| matches!(base.kind, FrameKind::Snapshot | FrameKind::Delta { .. }))
    }

    fn has_overflowed(&self) -> bool {
        self.base().is_some_and(|base| is_gap(base))
    }

    fn newest_value(&self) -> Option<Offset> {
        let values = self.holds_values().then(|| self.kept.iter().rev().find(|frame| !frame.is_status()));
        values.flatten().map(|value| value.offset)
    }

    fn index_after(&self, after: Offset) -> usize {
        self.kept.partition_point(|frame| frame.offset <= after)
    }
}

/// Whether frames can be what is kept of a topic, by the invariants above.
fn can_be_kept(kept: &VecDeque<Arc<Frame>>) -> bool {
    let follows = |is: fn(&Frame) -> bool| kept.iter().skip(1).all(|frame| is(frame) || is_mark(frame));
    let is_change = |frame: &Frame| matches!(frame.kind, FrameKind::Delta { whole: None }) || is_gap(frame);
    let are_alike = kept.front().is_none_or(|first| match first.kind {
        FrameKind::Value { .. } => follows(|frame| matches!(frame.kind, FrameKind::Value { .. })),
        FrameKind::Snapshot | FrameKind::Delta { whole: Some(_) } => follows(is_change),
        FrameKind::Status(TopicStatusKind::Gap) => follows(is_gap),
        FrameKind::Status(_) => kept.len() == 1,
        FrameKind::Delta { whole: None } | FrameKind::Transient | FrameKind::Expired(_) => false,
    });
    are_alike && kept.iter().is_sorted_by(|before, after| before.offset < after.offset)
}

/// A client that joins needs nothing else.
fn stands_alone(frame: &Frame) -> bool {
    matches!(frame.kind, FrameKind::Value { keep: 1 } | FrameKind::Snapshot | FrameKind::Delta { whole: Some(_) })
}

fn is_transient(frame: &Frame) -> bool {
    matches!(frame.kind, FrameKind::Transient)
}

fn is_gap(frame: &Frame) -> bool {
    matches!(frame.kind, FrameKind::Status(TopicStatusKind::Gap))
}

/// The state of the topic, until a kept frame shows it.
fn is_mark(frame: &Frame) -> bool {
    matches!(frame.kind, FrameKind::Status(TopicStatusKind::Stale | TopicStatusKind::Live | TopicStatusKind::Refused))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::frame::Topic;
    use crate::bus::retention::Retention;
    use crate::protocol::encoding::{Payload, PayloadKind};
    use crate::words::ids::TopicId;
    use crate::words::stamp::Stamp;

    /// One letter for each kind of frame.
    fn frame(letter: char, offset: u64, topic: &Arc<Topic>) -> Arc<Frame> {
        let payload = || Payload { bytes: bytes::Bytes::from_static(b"1"), kind: PayloadKind::Json };
        let (offset, topic) = (Offset(offset), topic.clone());
        let data = |retention| Frame::new(offset, topic.clone(), Stamp::default(), payload(), retention);
        let status = |status| Frame::status(offset, topic.clone(), Stamp::default(), &status);
        Arc::new(match letter {
            'v' => data(Retention::NEWEST),
            'k' => data(Retention::Value { keep: 3 }),
            's' => data(Retention::Snapshot),
            'c' => data(Retention::Delta { whole: None }),
            'w' => data(Retention::Delta { whole: Some(payload()) }),
            'm' => data(Retention::Transient),
            'g' => status(TopicStatus::Gap { reason: GapReason::Sequence, missed: None }),
            'q' => status(TopicStatus::Stale { since_ms: 0, message: String::new() }),
            'r' => status(TopicStatus::Refused { message: String::new() }),
            'l' => status(TopicStatus::Live),
            other => panic!("{other} is no frame"),
        })
    }

    fn retained(letters: &str, keep: Option<u16>) -> Retained {
        let topic = Arc::new(Topic { id: TopicId(0), name: "t".into(), keep });
        let mut frames = (1..).zip(letters.chars()).map(|(offset, letter)| frame(letter, offset, &topic));
        let mut retained = Retained::new(frames.next().expect("a first frame"));
        frames.for_each(|frame| retained.take(frame));
        retained
    }

    fn offsets<'f>(frames: impl Iterator<Item = &'f Arc<Frame>>) -> Vec<u64> {
        frames.map(|frame| frame.offset.0).collect()
    }

    #[test]
    fn clients_that_join_get_what_they_need_and_nothing_else() {
        for (letters, kept) in [
            ("v", &[1][..]),
            ("vvv", &[3]),
            ("k", &[1]),
            ("kkkk", &[2, 3, 4]),
            ("kkkv", &[4]),
            ("vk", &[1, 2]),
            ("s", &[1]),
            ("sccc", &[1, 2, 3, 4]),
            ("sccs", &[4]),
            ("sccw", &[4]),
            ("sccwc", &[4, 5]),
            ("www", &[3]),
            ("c", &[]),
            ("cc", &[]),
            ("ccsc", &[3, 4]),
            ("vc", &[1]),
            ("sccv", &[4]),
            ("kks", &[3]),
            ("m", &[]),
            ("mmm", &[]),
            ("vm", &[1]),
            ("mv", &[2]),
            ("smc", &[1, 3]),
            ("g", &[]),
            ("vg", &[1]),
            ("sgcg", &[1, 2, 3, 4]),
            ("sggcgg", &[1, 3, 4, 6]),
            ("sgw", &[3]),
            ("q", &[1]),
            ("vq", &[1, 2]),
            ("vqv", &[3]),
            ("vqq", &[1, 3]),
            ("vqr", &[1, 3]),
            ("kkqk", &[1, 2, 4]),
            ("kkkq", &[1, 2, 3, 4]),
            ("scq", &[1, 2, 3]),
            ("scqc", &[1, 2, 4]),
            ("scqggc", &[1, 2, 5, 6]),
            ("scgqg", &[1, 2, 4, 5]),
            ("scqgq", &[1, 2, 4, 5]),
            ("scqgqgqg", &[1, 2, 7, 8]),
            ("scqw", &[4]),
            ("vl", &[1]),
            ("vql", &[1, 3]),
            ("vqll", &[1, 4]),
            ("vqlv", &[4]),
            ("vqm", &[1, 2]),
            ("ql", &[2]),
            ("qc", &[1]),
        ] {
            assert_eq!(offsets(retained(letters, None).kept_after(Offset::START)), kept, "{letters}");
        }
    }

    #[test]
    fn the_configuration_outranks_the_profile() {
        assert_eq!(offsets(retained("vvvv", Some(2)).kept_after(Offset::START)), [3, 4]);
        assert_eq!(offsets(retained("kkkk", Some(1)).kept_after(Offset::START)), [4]);
        assert_eq!(offsets(retained("sccc", Some(1)).kept_after(Offset::START)), [1, 2, 3, 4], "deltas are not values");
    }

    #[test]
    fn a_client_with_the_beginning_gets_the_rest() {
        let topic = retained("vscccqg", None);
        assert_eq!(offsets(topic.kept_after(Offset(3))), [4, 5, 6, 7]);
        assert_eq!(offsets(topic.kept_after(Offset(7))), [0; 0]);
        assert_eq!(topic.find(Offset(4)).map(|frame| frame.offset), Some(Offset(4)));
        assert!(topic.find(Offset(1)).is_none() && topic.find(Offset(8)).is_none() && topic.find(Offset(0)).is_none());
        assert_eq!(topic.newest().offset, Offset(7));
    }

    #[test]
    fn paced_lanes_get_the_newest_value_all_deltas_and_the_newest_transient_frame() {
        for (letters, after, news) in [
            ("kkk", 0, &[3][..]),
            ("kkk", 3, &[]),
            ("kkqg", 0, &[2, 3]),
            ("kkqg", 2, &[3]),
            ("scc", 0, &[1, 2, 3]),
            ("sccw", 2, &[4]),
            ("scc", 1, &[2, 3]),
            ("mmm", 1, &[3]),
            ("mmm", 3, &[]),
            ("mv", 0, &[2, 1]),
            ("mmq", 0, &[3, 2]),
            ("vvl", 0, &[2]),
        ] {
            assert_eq!(offsets(retained(letters, None).news_after(Offset(after))), news, "{letters} after {after}");
        }
    }

    #[test]
    fn beyond_the_bound_a_gap_stands_for_what_was_forgotten() {
        let full = format!("s{}", "c".repeat(DELTAS_MAX));
        assert_eq!(retained(&full, None).kept_after(Offset::START).count(), DELTAS_MAX + 1);
        for (more, at) in [("c", 1), ("ccc", 3), ("gc", 2), ("cgc", 3), ("cqc", 3)] {
            let topic = retained(&format!("{full}{more}"), None);
            let kept: Vec<_> = topic.kept_after(Offset::START).collect();
            assert_eq!(offsets(kept.iter().copied()), [DELTAS_MAX as u64 + 1 + at], "{more}");
            let told = String::from_utf8_lossy(&kept[0].payload.bytes).into_owned();
            assert!(told.contains(r#""op":"gap""#) && told.contains(r#""reason":"overflow""#), "{told}");
            assert_eq!(topic.base().map(|base| base.offset), Some(kept[0].offset));
        }
        for (more, kept) in [
            ("g", DELTAS_MAX + 2),
            ("cq", 2),
            ("cs", 1),
            ("ccwc", 2),
            ("cv", 1),
            ("cg", 2),
            ("cgg", 2),
            ("cqg", 3),
            ("cggc", 1),
            ("cgs", 1),
        ] {
            let topic = retained(&format!("{full}{more}"), None);
            assert_eq!(topic.kept_after(Offset::START).count(), kept, "{more}");
        }
    }

    #[test]
    fn deltas_are_bounded_in_bytes() {
        let topic = Arc::new(Topic { id: TopicId(0), name: "t".into(), keep: None });
        let mut retained = Retained::new(frame('s', 1, &topic));
        let bytes = bytes::Bytes::from(vec![b'1'; DELTAS_BYTES_MAX / 2]);
        for offset in 2..=4 {
            let payload = Payload { bytes: bytes.clone(), kind: PayloadKind::Json };
            let retention = Retention::Delta { whole: None };
            retained.take(Arc::new(Frame::new(Offset(offset), topic.clone(), Stamp::default(), payload, retention)));
        }
        assert_eq!(offsets(retained.kept_after(Offset::START)), [4]);
        assert!(
            retained.newest().held_bytes() > 0 && is_gap(retained.kept_after(Offset::START).next().expect("a gap"))
        );
    }

    #[test]
    fn a_base_stands_for_what_was_before() {
        for (letters, base) in [
            ("vv", Some(2)),
            ("scc", Some(1)),
            ("scw", Some(3)),
            ("kk", Some(1)),
            ("m", None),
            ("cc", None),
            ("q", None),
        ] {
            assert_eq!(retained(letters, None).base().map(|base| base.offset.0), base, "{letters}");
            assert_eq!(retained(letters, None).holds_deltas(), letters.starts_with('s'), "{letters}");
        }
    }

    #[test]
    fn one_value_costs_two_pointers() {
        assert_eq!(size_of::<Retained>(), 2 * size_of::<usize>());
        for letters in ["v", "vv", "ss", "ww", "mm", "sccs", "vqv", "kkkv"] {
            assert!(retained(letters, None).rest.is_none(), "{letters} needs no more");
        }
    }
}
