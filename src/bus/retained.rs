//! What is kept of one topic for those who come later: its newest values, or a start and the changes since.
//!
//! A value type: publisher, shards and edge each feed their own with the topic's frames in the order of their offsets,
//! and so come to the same. Invariants:
//!  - what is kept lies in the order of offsets;
//!  - a kept change lies behind the start that it belongs to, and nothing between the two is missing;
//!  - a frame that has a whole form is kept as the first or not at all.
//!
//! It deliberately does not decide who gets what of it: that is `delivery/catch_up/path.rs`.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::bus::frame::{Frame, FrameKind};
use crate::bus::retention::{GapReason, TopicStatus, TopicStatusKind};
use crate::words::ids::Offset;

/// Changes that are kept after a start: an order book that is told whole once a minute has some 300 in a second.
/// A simulation must get there, too.
pub const CHANGES_MAX: usize = if cfg!(test) { 12 } else { 20_000 };
/// 16 MiB: payload bytes of these changes, 800 for each.
pub const CHANGES_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Two pointers for a topic of which one value is kept, which most are.
#[derive(Clone, Debug)]
pub struct Retained {
    /// The topic's newest frame, whatever it is.
    newest: Arc<Frame>,
    /// None where `newest` is all that there is.
    rest: Option<Box<ChangesSince>>,
}

#[derive(Clone, Debug, Default)]
struct ChangesSince {
    /// Values; or what stands for the whole value, the changes since and the gaps in them. Then perhaps a mark. If there
    /// were too many changes, a gap stands in the place of them all.
    kept: VecDeque<Arc<Frame>>,
    /// Changes since the start, and their payload bytes.
    changes: usize,
    changes_bytes: usize,
    /// The newest frame that was of the moment only, for paced lanes.
    moment: Option<Arc<Frame>>,
}

impl Retained {
    pub fn new(first: Arc<Frame>) -> Retained {
        let mut story = Retained { newest: first.clone(), rest: None };
        if !stands_alone(&first) && !is_moment(&first) {
            let mut rest = Box::<ChangesSince>::default();
            rest.take(first);
            story.rest = Some(rest);
        }
        story
    }

    /// Takes the topic's next frame.
    pub fn take(&mut self, frame: Arc<Frame>) {
        let alike = |is: fn(&Frame) -> bool| is(&frame) && is(&self.newest);
        if self.rest.is_none() && (alike(stands_alone) || alike(is_moment)) {
            self.newest = frame;
            return;
        }
        let before = std::mem::replace(&mut self.newest, frame.clone());
        let rest = self.rest.get_or_insert_with(|| {
            let mut rest = Box::<ChangesSince>::default();
            rest.take(before);
            rest
        });
        rest.take(frame);
        if rest.moment.is_none() && rest.kept.len() == 1 && stands_alone(&self.newest) {
            self.rest = None;
        }
    }

    /// The topic's newest frame, kept or not: data or a note.
    pub fn newest(&self) -> &Arc<Frame> {
        &self.newest
    }

    /// What a newcomer gets of the frames after an offset, oldest first.
    pub fn kept_after(&self, after: Offset) -> impl Iterator<Item = &Arc<Frame>> {
        let alone = self.rest.is_none() && stands_alone(&self.newest) && self.newest.offset > after;
        let kept = self.rest.iter().flat_map(move |rest| rest.kept.range(rest.seat_after(after)..));
        alone.then_some(&self.newest).into_iter().chain(kept)
    }

    /// The kept frame with this offset.
    pub fn find(&self, offset: Offset) -> Option<&Arc<Frame>> {
        let before = Offset(offset.0.checked_sub(1)?);
        self.kept_after(before).next().filter(|frame| frame.offset == offset)
    }

    /// What a lane gets that is told of the topic from time to time, of the frames after an offset: of values the newest
    /// alone, of moments the newest alone, of changes all. In no order.
    pub fn news_after(&self, after: Offset) -> impl Iterator<Item = &Arc<Frame>> {
        let moment = match &self.rest {
            Some(rest) => rest.moment.as_ref(),
            None => Some(&self.newest).filter(|newest| is_moment(newest)),
        };
        let newest_value = self.rest.as_ref().and_then(|rest| rest.newest_value());
        let kept = self.kept_after(after).filter(move |frame| newest_value.is_none_or(|newest| frame.offset >= newest));
        kept.chain(moment.filter(|moment| moment.offset > after))
    }

    /// Whether a start, or what stands for it, is kept, so that changes can follow.
    pub fn holds_changes(&self) -> bool {
        let first = self.base();
        first.is_some_and(|first| matches!(first.role, FrameKind::Snapshot | FrameKind::Delta { .. }))
    }

    /// What stands for everything that the frames before it made; changes and gaps before it are superseded.
    pub fn base(&self) -> Option<&Arc<Frame>> {
        match &self.rest {
            Some(rest) => rest.base(),
            None => Some(&self.newest).filter(|newest| stands_alone(newest)),
        }
    }
}

impl ChangesSince {
    fn take(&mut self, frame: Arc<Frame>) {
        match &frame.role {
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
                if self.holds_changes() {
                    self.append(frame);
                }
            }
            FrameKind::Transient => self.moment = Some(frame),
            FrameKind::Status(TopicStatusKind::Gap) => {
                if self.holds_changes() {
                    self.note_gap(frame);
                }
            }
            FrameKind::Status(TopicStatusKind::Stale | TopicStatusKind::Refused) => {
                self.unmark();
                self.kept.push_back(frame);
            }
            // Who was told that the topic is stale, and of whom nothing kept since tells otherwise, needs it.
            FrameKind::Status(TopicStatusKind::Live) => {
                if self.unmark().is_some() {
                    self.kept.push_back(frame);
                }
            }
            // It ends a story, and so is part of none.
            FrameKind::Expired(_) => {}
        }
    }

    /// Keeps a change behind the start that it belongs to.
    fn append(&mut self, frame: Arc<Frame>) {
        self.changes += 1;
        self.changes_bytes += frame.payload.bytes.len();
        if self.changes > CHANGES_MAX || self.changes_bytes > CHANGES_BYTES_MAX {
            return self.overflow(&frame);
        }
        self.unmark();
        self.kept.push_back(frame);
    }

    /// Keeps a gap; of several between two changes the newest, so that there are no more of them than changes.
    fn note_gap(&mut self, frame: Arc<Frame>) {
        let mark = self.unmark();
        if self.kept.back().is_some_and(|last| is_gap(last)) {
            self.kept.pop_back();
        }
        self.kept.extend(mark);
        self.kept.push_back(frame);
    }

    /// Forgets the start and its changes. The gap that is kept instead stands at the newest change, so that also those
    /// are told who have got all the others.
    fn overflow(&mut self, newest: &Frame) {
        let gap = TopicStatus::Gap { reason: GapReason::Overflow, missed: None };
        self.clear();
        self.kept.push_back(Arc::new(Frame::note(newest.offset, newest.topic.clone(), newest.received, &gap)));
    }

    fn clear(&mut self) {
        self.kept = VecDeque::new();
        (self.changes, self.changes_bytes) = (0, 0);
    }

    /// Takes the mark out, if there is one. Only gaps lie behind it.
    fn unmark(&mut self) -> Option<Arc<Frame>> {
        let gaps = self.kept.iter().rev().take_while(|frame| is_gap(frame)).count();
        let seat = (self.kept.len() - gaps).checked_sub(1).filter(|seat| is_mark(&self.kept[*seat]))?;
        self.kept.remove(seat)
    }

    fn base(&self) -> Option<&Arc<Frame>> {
        self.kept.front().filter(|first| !is_mark(first))
    }

    fn holds_values(&self) -> bool {
        self.base().is_some_and(|base| matches!(base.role, FrameKind::Value { .. }))
    }

    /// A start, or what stands for it, is kept.
    fn holds_changes(&self) -> bool {
        self.base().is_some_and(|base| matches!(base.role, FrameKind::Snapshot | FrameKind::Delta { .. }))
    }

    fn has_overflowed(&self) -> bool {
        self.base().is_some_and(|base| is_gap(base))
    }

    fn newest_value(&self) -> Option<Offset> {
        let values = self.holds_values().then(|| self.kept.iter().rev().find(|frame| !frame.is_note()));
        values.flatten().map(|value| value.offset)
    }

    fn seat_after(&self, after: Offset) -> usize {
        self.kept.partition_point(|frame| frame.offset <= after)
    }
}

/// A newcomer needs nothing else.
fn stands_alone(frame: &Frame) -> bool {
    matches!(frame.role, FrameKind::Value { keep: 1 } | FrameKind::Snapshot | FrameKind::Delta { whole: Some(_) })
}

fn is_moment(frame: &Frame) -> bool {
    matches!(frame.role, FrameKind::Transient)
}

fn is_gap(frame: &Frame) -> bool {
    matches!(frame.role, FrameKind::Status(TopicStatusKind::Gap))
}

/// It says how the topic is doing, until a kept frame shows it.
fn is_mark(frame: &Frame) -> bool {
    matches!(frame.role, FrameKind::Status(TopicStatusKind::Stale | TopicStatusKind::Live | TopicStatusKind::Refused))
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
        let data = |keeping| Frame::new(offset, topic.clone(), Stamp::default(), payload(), keeping);
        let note = |note| Frame::note(offset, topic.clone(), Stamp::default(), &note);
        Arc::new(match letter {
            'v' => data(Retention::NEWEST),
            'k' => data(Retention::Value { keep: 3 }),
            's' => data(Retention::Snapshot),
            'c' => data(Retention::Delta { whole: None }),
            'w' => data(Retention::Delta { whole: Some(payload()) }),
            'm' => data(Retention::Transient),
            'g' => note(TopicStatus::Gap { reason: GapReason::Sequence, missed: None }),
            'q' => note(TopicStatus::Stale { since_ms: 0, message: String::new() }),
            'r' => note(TopicStatus::Refused { message: String::new() }),
            'l' => note(TopicStatus::Live),
            other => panic!("{other} is no frame"),
        })
    }

    fn story(letters: &str, keep: Option<u16>) -> Retained {
        let topic = Arc::new(Topic { id: TopicId(0), name: "t".into(), keep });
        let mut frames = (1..).zip(letters.chars()).map(|(offset, letter)| frame(letter, offset, &topic));
        let mut story = Retained::new(frames.next().expect("a first frame"));
        frames.for_each(|frame| story.take(frame));
        story
    }

    fn offsets<'f>(frames: impl Iterator<Item = &'f Arc<Frame>>) -> Vec<u64> {
        frames.map(|frame| frame.offset.0).collect()
    }

    #[test]
    fn newcomers_get_what_they_need_and_nothing_else() {
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
            assert_eq!(offsets(story(letters, None).kept_after(Offset::START)), kept, "{letters}");
        }
    }

    #[test]
    fn the_configuration_outranks_the_profile() {
        assert_eq!(offsets(story("vvvv", Some(2)).kept_after(Offset::START)), [3, 4]);
        assert_eq!(offsets(story("kkkk", Some(1)).kept_after(Offset::START)), [4]);
        assert_eq!(offsets(story("sccc", Some(1)).kept_after(Offset::START)), [1, 2, 3, 4], "changes are not values");
    }

    #[test]
    fn who_has_the_beginning_gets_the_rest() {
        let story = story("vscccqg", None);
        assert_eq!(offsets(story.kept_after(Offset(3))), [4, 5, 6, 7]);
        assert_eq!(offsets(story.kept_after(Offset(7))), [0; 0]);
        assert_eq!(story.find(Offset(4)).map(|frame| frame.offset), Some(Offset(4)));
        assert!(story.find(Offset(1)).is_none() && story.find(Offset(8)).is_none() && story.find(Offset(0)).is_none());
        assert_eq!(story.newest().offset, Offset(7));
    }

    #[test]
    fn paced_lanes_get_the_newest_value_all_changes_and_the_newest_moment() {
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
            assert_eq!(offsets(story(letters, None).news_after(Offset(after))), news, "{letters} after {after}");
        }
    }

    #[test]
    fn beyond_its_bound_a_story_says_that_it_forgot() {
        let full = format!("s{}", "c".repeat(CHANGES_MAX));
        assert_eq!(story(&full, None).kept_after(Offset::START).count(), CHANGES_MAX + 1);
        for (more, at) in [("c", 1), ("ccc", 3), ("gc", 2), ("cgc", 3), ("cqc", 3)] {
            let story = story(&format!("{full}{more}"), None);
            let kept: Vec<_> = story.kept_after(Offset::START).collect();
            assert_eq!(offsets(kept.iter().copied()), [CHANGES_MAX as u64 + 1 + at], "{more}");
            let told = String::from_utf8_lossy(&kept[0].payload.bytes).into_owned();
            assert!(told.contains(r#""op":"gap""#) && told.contains(r#""reason":"overflow""#), "{told}");
            assert_eq!(story.base().map(|base| base.offset), Some(kept[0].offset));
        }
        for (more, kept) in [("g", CHANGES_MAX + 2), ("cq", 2), ("cs", 1), ("ccwc", 2), ("cv", 1)] {
            let story = story(&format!("{full}{more}"), None);
            assert_eq!(story.kept_after(Offset::START).count(), kept, "{more}");
        }
    }

    #[test]
    fn changes_are_bounded_in_bytes() {
        let topic = Arc::new(Topic { id: TopicId(0), name: "t".into(), keep: None });
        let mut story = Retained::new(frame('s', 1, &topic));
        let bytes = bytes::Bytes::from(vec![b'1'; CHANGES_BYTES_MAX / 2]);
        for offset in 2..=4 {
            let payload = Payload { bytes: bytes.clone(), kind: PayloadKind::Json };
            let keeping = Retention::Delta { whole: None };
            story.take(Arc::new(Frame::new(Offset(offset), topic.clone(), Stamp::default(), payload, keeping)));
        }
        assert_eq!(offsets(story.kept_after(Offset::START)), [4]);
        assert!(story.newest().held_bytes() > 0 && is_gap(story.kept_after(Offset::START).next().expect("a gap")));
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
            assert_eq!(story(letters, None).base().map(|base| base.offset.0), base, "{letters}");
            assert_eq!(story(letters, None).holds_changes(), letters.starts_with('s'), "{letters}");
        }
    }

    #[test]
    fn one_value_costs_two_pointers() {
        assert_eq!(size_of::<Retained>(), 2 * size_of::<usize>());
        for letters in ["v", "vv", "ss", "ww", "mm", "sccs", "vqv", "kkkv"] {
            assert!(story(letters, None).rest.is_none(), "{letters} needs no more");
        }
    }
}
