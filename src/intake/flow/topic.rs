//! What is remembered of one topic: its newest number, its habit, and what its changes have come to.

use std::sync::Arc;

use crate::bus::keeping::{GapReason, Keeping, Note};
use crate::wire::encode::Payload;

use super::fold::{Fold, FoldScratch, Unfit};
use super::habit::Habit;
use super::mode::{Changes, Mode, Over};
use super::sequence::{Follow, Number, Remedy, Sequence, Verdict};
use super::splice::Sheet;
use super::wrap::payload;
use super::{Oddity, Outflow, Piece};

/// Memory of one topic. What few topics need lies behind a pointer.
pub(super) struct Topic {
    pub name: Arc<str>,
    /// The connection that its last piece came from, if that was one alone.
    connection: Option<u32>,
    sequence: Sequence,
    pub habit: Habit,
    story: Option<Box<Story>>,
    /// While changes come and there was no snapshot yet.
    unbegun: Option<Box<Unbegun>>,
}

/// 10 s: a snapshot that has not come by then is not on its way.
const UNBEGUN_NS: u64 = 10_000_000_000;

/// Changes that there is nothing to apply to.
#[derive(Default)]
struct Unbegun {
    changes: u64,
    /// When it is to be told, for the first time or again.
    tell_ns: u64,
    /// Clients were told.
    told: bool,
}

/// What came since the last snapshot.
#[derive(Default)]
struct Story {
    /// Changes since the last snapshot or whole value.
    count: u64,
    bytes: usize,
    /// Bytes of the last snapshot or whole value.
    whole_bytes: usize,
    fold: Option<Fold>,
    /// A new snapshot was asked for.
    asked: bool,
    /// That there are more changes than are kept was seen.
    over: bool,
}

/// What is to be done with a piece, as its numbers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    Publish,
    /// It is older than what was published.
    Late,
    Drop,
}

/// What a topic needs of the flow to fold.
pub(super) struct Bench<'a> {
    pub scratch: &'a mut FoldScratch,
    /// Bytes of all folds, and how many there may be.
    pub folded_bytes: &'a mut usize,
    pub folded_bytes_max: usize,
}

impl Topic {
    pub fn new(name: Arc<str>, connection: Option<u32>) -> Topic {
        Topic { name, connection, sequence: Sequence::default(), habit: Habit::default(), story: None, unbegun: None }
    }

    /// Bytes of its fold.
    pub fn folded_bytes(&self) -> usize {
        let fold = self.story.as_ref().and_then(|story| story.fold.as_ref());
        fold.map_or(0, |fold| fold.bytes())
    }

    pub fn newest(&self) -> Option<Number> {
        self.sequence.newest()
    }

    /// It is known that the next piece begins the numbers anew.
    pub fn begin_anew(&mut self) {
        self.sequence.begin_anew();
    }

    /// The connection `old` has become `new`, and nothing is missing in between.
    pub fn goes_on(&mut self, old: u32, new: u32) {
        if self.connection == Some(old) {
            self.connection = Some(new);
        }
    }

    /// Looks at the numbers of a piece, and tells what is missing before it.
    pub fn check(
        &mut self,
        piece: &Piece<'_>,
        connection: Option<u32>,
        bench: &mut Bench<'_>,
        out: &mut dyn Outflow,
    ) -> Course {
        let before = std::mem::replace(&mut self.connection, connection);
        let reconnected = before.zip(connection).is_some_and(|(before, now)| before != now);
        if piece.snapshot {
            self.sequence.reset(piece.numbers);
            return Course::Publish;
        }
        let rule = piece.treatment.sequence;
        let numbered = rule.zip(piece.numbers);
        let verdict = numbered.map(|(rule, numbers)| self.sequence.step(rule.follow, numbers, piece.received.mono_ns));
        let proven = numbered.is_some_and(|(rule, numbers)| rule.follow.proves(numbers));
        if reconnected && !(proven && verdict == Some(Verdict::Next)) {
            self.sequence.reset(piece.numbers);
            if hangs_together(piece) {
                self.tell_gap(GapReason::Reconnect, None, piece, bench, out);
                if let Some(story) = &mut self.story {
                    story.asked = false;
                }
            }
            return Course::Publish;
        }
        let remedy = rule.map_or(Remedy::Ignore, |rule| rule.remedy);
        match (verdict, remedy) {
            (Some(Verdict::Gap { missed }), Remedy::Mark | Remedy::Resubscribe | Remedy::Reconnect) => {
                self.tell_gap(GapReason::Sequence, missed, piece, bench, out);
                if remedy != Remedy::Mark {
                    out.remedy(piece.topic, remedy);
                }
                Course::Publish
            }
            (Some(Verdict::Old), Remedy::DropOld) => {
                out.oddity(piece.topic, Oddity::Old, piece.received);
                Course::Drop
            }
            (Some(Verdict::Anew), _) => {
                out.oddity(piece.topic, Oddity::Anew, piece.received);
                if remedy != Remedy::Ignore && hangs_together(piece) {
                    self.tell_gap(GapReason::Sequence, None, piece, bench, out);
                    if matches!(remedy, Remedy::Resubscribe | Remedy::Reconnect) {
                        out.remedy(piece.topic, remedy);
                    }
                }
                Course::Publish
            }
            (Some(Verdict::Old), _) => Course::Late,
            _ => Course::Publish,
        }
    }

    /// A whole value that was folded over a gap would hide it, so the fold ends with it.
    fn tell_gap(
        &mut self,
        reason: GapReason,
        missed: Option<u64>,
        piece: &Piece<'_>,
        bench: &mut Bench<'_>,
        out: &mut dyn Outflow,
    ) {
        if let Some(story) = &mut self.story {
            story.unfold(bench);
        }
        out.note(piece.topic, Note::Gap { reason, missed }, piece.received);
    }

    /// What newcomers get of a piece of a topic with snapshots and changes.
    pub fn keep(
        &mut self,
        changes: &Changes,
        (piece, course): (&Piece<'_>, Course),
        bench: &mut Bench<'_>,
        out: &mut dyn Outflow,
    ) -> Keeping {
        if piece.snapshot {
            self.unbegun = None;
            let story = self.story.get_or_insert_default();
            story.unfold(bench);
            **story = Story { whole_bytes: piece.published().len(), ..Story::default() };
            if let Err(unfit) = story.begin(changes, piece, bench) {
                out.oddity(piece.topic, unfit.into(), piece.received);
            }
            return Keeping::Start;
        }
        // Without a snapshot newcomers get nothing, so that there is nothing to bound.
        let Some(story) = &mut self.story else {
            self.unbegun.get_or_insert_default().wait(changes, piece, out);
            return Keeping::Change { whole: None };
        };
        story.count += 1;
        story.bytes += piece.published().len();
        // What is late was overtaken by what is folded already.
        if course == Course::Publish
            && let Err(unfit) = story.fold_in(changes, piece, bench)
        {
            out.oddity(piece.topic, unfit.into(), piece.received);
            if unfit == Unfit::Malformed {
                story.ask(piece, out);
            }
        }
        if let Some(whole) = story.whole(changes, piece) {
            return Keeping::Change { whole: Some(whole) };
        }
        let limit = changes.limit;
        if (story.count > limit.count || story.bytes > limit.bytes) && !std::mem::replace(&mut story.over, true) {
            match limit.over {
                Over::Resubscribe => story.ask(piece, out),
                Over::Mark => {
                    out.note(piece.topic, Note::Gap { reason: GapReason::Overflow, missed: None }, piece.received);
                }
            }
        }
        Keeping::Change { whole: None }
    }
}

impl Unbegun {
    /// One more change has come. When that has gone on for too long it is told: clients once, the operator again and again.
    fn wait(&mut self, changes: &Changes, piece: &Piece<'_>, out: &mut dyn Outflow) {
        let now_ns = piece.received.mono_ns;
        self.changes += 1;
        if self.changes == 1 {
            self.tell_ns = now_ns + UNBEGUN_NS;
        }
        if now_ns < self.tell_ns {
            return;
        }
        self.tell_ns = now_ns + UNBEGUN_NS;
        if !std::mem::replace(&mut self.told, true) {
            out.note(piece.topic, Note::Gap { reason: GapReason::NoSnapshot, missed: None }, piece.received);
        }
        out.oddity(piece.topic, Oddity::NoSnapshot { changes: self.changes }, piece.received);
        // Changes that are not folded may be all that there is.
        if changes.fold.is_some() {
            out.remedy(piece.topic, Remedy::Resubscribe);
        }
    }
}

impl From<Unfit> for Oddity {
    fn from(unfit: Unfit) -> Oddity {
        match unfit {
            Unfit::Malformed => Oddity::Malformed,
            Unfit::TooLarge => Oddity::TooLarge,
        }
    }
}

impl Story {
    /// Asks for a new snapshot, once until it comes.
    fn ask(&mut self, piece: &Piece<'_>, out: &mut dyn Outflow) {
        if !std::mem::replace(&mut self.asked, true) {
            out.remedy(piece.topic, Remedy::Resubscribe);
        }
    }

    /// Begins to fold, if the snapshot is as the profile says and there is room. Another snapshot would be no better.
    fn begin(&mut self, changes: &Changes, piece: &Piece<'_>, bench: &mut Bench<'_>) -> Result<(), Unfit> {
        let Some(rule) = &changes.fold else { return Ok(()) };
        let sheet = Sheet::of(piece).ok_or(Unfit::Malformed)?;
        let fold = Fold::begin(rule, &sheet, bench.scratch)?;
        self.fold = bench.admit(fold);
        Ok(())
    }

    fn fold_in(&mut self, changes: &Changes, piece: &Piece<'_>, bench: &mut Bench<'_>) -> Result<(), Unfit> {
        let (Some(rule), Some(fold)) = (&changes.fold, self.fold.take()) else { return Ok(()) };
        *bench.folded_bytes -= fold.bytes();
        let sheet = Sheet::of(piece).ok_or(Unfit::Malformed)?;
        let fold = fold.change(rule, &sheet, bench.scratch)?;
        self.fold = bench.admit(fold);
        Ok(())
    }

    fn unfold(&mut self, bench: &mut Bench<'_>) {
        *bench.folded_bytes -= self.fold.take().map_or(0, |fold| fold.bytes());
    }

    /// A whole value, where it is time for one: for an object each time; for a book when the changes have become longer
    /// than it is, so that rendering costs no more than they did.
    fn whole(&mut self, changes: &Changes, piece: &Piece<'_>) -> Option<Payload> {
        let (rule, fold) = (changes.fold.as_ref()?, self.fold.as_ref()?);
        let due = self.bytes > self.whole_bytes
            || self.count >= changes.limit.count
            || self.bytes >= changes.limit.bytes
            || rule.is_object();
        if !due {
            return None;
        }
        let mut text = Vec::with_capacity(fold.bytes());
        fold.render(&mut text);
        (self.count, self.bytes, self.whole_bytes, self.over) = (0, 0, text.len(), false);
        Some(payload(piece, text.into()))
    }
}

impl Bench<'_> {
    /// Counts a fold; none: there is no room for it.
    fn admit(&mut self, fold: Fold) -> Option<Fold> {
        let bytes = self.folded_bytes.saturating_add(fold.bytes());
        if bytes > self.folded_bytes_max {
            return None;
        }
        *self.folded_bytes = bytes;
        Some(fold)
    }
}

/// Whether each message of a topic needs the one before it.
fn hangs_together(piece: &Piece<'_>) -> bool {
    let chained = |remedy| matches!(remedy, Remedy::Mark | Remedy::Resubscribe | Remedy::Reconnect);
    match piece.treatment.mode {
        Mode::Changes(_) => true,
        Mode::Nothing => {
            piece.treatment.sequence.is_some_and(|rule| rule.follow != Follow::Monotonic && chained(rule.remedy))
        }
        Mode::Replace | Mode::Tail(_) => false,
    }
}
