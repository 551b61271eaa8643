//! What is remembered of one topic: its newest number, its habit, and what its changes have come to.

use std::sync::Arc;

use crate::bus::retention::Retention;
use crate::bus::topic_status::{GapReason, TopicStatus};
use crate::protocol::encoding::Payload;

use crate::intake::assemble::cadence::Cadence;
use crate::intake::assemble::fold::{Fold, FoldScratch, Unfit};
use crate::intake::assemble::mode::{Changes, DeltaOverflow, Mode};
use crate::intake::assemble::payload::payload;
use crate::intake::assemble::sequence::{Continuity, GapRemedy, GapVerdict, Number, Sequence};
use crate::intake::assemble::splice::Document;
use crate::intake::assemble::{Oddity, Update, UpdateSink};

/// Memory of one topic. What few topics need lies behind a pointer.
pub(super) struct TopicState {
    pub name: Arc<str>,
    /// The connection that its last piece came from, if that was one alone.
    connection: Option<u32>,
    sequence: Sequence,
    pub habit: Cadence,
    story: Option<Box<ChangeLog>>,
    /// While changes come and there was no snapshot yet.
    unbegun: Option<Box<OrphanDeltas>>,
}

/// 10 s: a snapshot that has not come by then is not on its way.
const UNBEGUN_NS: u64 = 10_000_000_000;

/// Changes that there is nothing to apply to.
#[derive(Default)]
struct OrphanDeltas {
    changes: u64,
    /// When it is to be told, for the first time or again.
    tell_ns: u64,
    /// Clients were told.
    told: bool,
}

/// What came since the last snapshot.
#[derive(Default)]
struct ChangeLog {
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
pub(super) enum Disposition {
    Publish,
    /// It is older than what was published.
    Late,
    Drop,
}

/// What a topic needs of the flow to fold.
pub(super) struct FoldBudget<'a> {
    pub scratch: &'a mut FoldScratch,
    /// Bytes of all folds, and how many there may be.
    pub folded_bytes: &'a mut usize,
    pub folded_bytes_max: usize,
}

impl TopicState {
    pub fn new(name: Arc<str>, connection: Option<u32>) -> TopicState {
        TopicState {
            name,
            connection,
            sequence: Sequence::default(),
            habit: Cadence::default(),
            story: None,
            unbegun: None,
        }
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
        piece: &Update<'_>,
        connection: Option<u32>,
        bench: &mut FoldBudget<'_>,
        out: &mut dyn UpdateSink,
    ) -> Disposition {
        let before = std::mem::replace(&mut self.connection, connection);
        let reconnected = before.zip(connection).is_some_and(|(before, now)| before != now);
        if piece.snapshot {
            self.sequence.reset(piece.numbers);
            return Disposition::Publish;
        }
        let rule = piece.treatment.sequence;
        let numbered = rule.zip(piece.numbers);
        let verdict = numbered.map(|(rule, numbers)| self.sequence.step(rule.follow, numbers, piece.received.mono_ns));
        let proven = numbered.is_some_and(|(rule, numbers)| rule.follow.proves(numbers));
        if reconnected && !(proven && verdict == Some(GapVerdict::Next)) {
            self.sequence.reset(piece.numbers);
            if hangs_together(piece) {
                self.tell_gap(GapReason::Reconnect, None, piece, bench, out);
                if let Some(story) = &mut self.story {
                    story.asked = false;
                }
            }
            return Disposition::Publish;
        }
        let remedy = rule.map_or(GapRemedy::Ignore, |rule| rule.remedy);
        match (verdict, remedy) {
            (Some(GapVerdict::Gap { missed }), GapRemedy::Mark | GapRemedy::Resubscribe | GapRemedy::Reconnect) => {
                self.tell_gap(GapReason::Sequence, missed, piece, bench, out);
                if remedy != GapRemedy::Mark {
                    out.remedy(piece.topic, remedy);
                }
                Disposition::Publish
            }
            (Some(GapVerdict::Old), GapRemedy::DropOld) => {
                out.oddity(piece.topic, Oddity::Old, piece.received);
                Disposition::Drop
            }
            (Some(GapVerdict::Anew), _) => {
                out.oddity(piece.topic, Oddity::Anew, piece.received);
                if remedy != GapRemedy::Ignore && hangs_together(piece) {
                    self.tell_gap(GapReason::Sequence, None, piece, bench, out);
                    if matches!(remedy, GapRemedy::Resubscribe | GapRemedy::Reconnect) {
                        out.remedy(piece.topic, remedy);
                    }
                }
                Disposition::Publish
            }
            (Some(GapVerdict::Old), _) => Disposition::Late,
            _ => Disposition::Publish,
        }
    }

    /// A whole value that was folded over a gap would hide it, so the fold ends with it.
    fn tell_gap(
        &mut self,
        reason: GapReason,
        missed: Option<u64>,
        piece: &Update<'_>,
        bench: &mut FoldBudget<'_>,
        out: &mut dyn UpdateSink,
    ) {
        if let Some(story) = &mut self.story {
            story.unfold(bench);
        }
        out.note(piece.topic, TopicStatus::Gap { reason, missed }, piece.received);
    }

    /// What newcomers get of a piece of a topic with snapshots and changes.
    pub fn keep(
        &mut self,
        changes: &Changes,
        (piece, course): (&Update<'_>, Disposition),
        bench: &mut FoldBudget<'_>,
        out: &mut dyn UpdateSink,
    ) -> Retention {
        if piece.snapshot {
            self.unbegun = None;
            let story = self.story.get_or_insert_default();
            story.unfold(bench);
            **story = ChangeLog { whole_bytes: piece.published().len(), ..ChangeLog::default() };
            if let Err(unfit) = story.begin(changes, piece, bench) {
                out.oddity(piece.topic, unfit.into(), piece.received);
            }
            return Retention::Snapshot;
        }
        // Without a snapshot newcomers get nothing, so that there is nothing to bound.
        let Some(story) = &mut self.story else {
            self.unbegun.get_or_insert_default().wait(changes, piece, out);
            return Retention::Delta { whole: None };
        };
        story.count += 1;
        story.bytes += piece.published().len();
        // What is late was overtaken by what is folded already.
        if course == Disposition::Publish
            && let Err(unfit) = story.fold_in(changes, piece, bench)
        {
            out.oddity(piece.topic, unfit.into(), piece.received);
            if unfit == Unfit::Malformed {
                story.ask(piece, out);
            }
        }
        if let Some(whole) = story.whole(changes, piece) {
            return Retention::Delta { whole: Some(whole) };
        }
        let limit = changes.limit;
        if (story.count > limit.count || story.bytes > limit.bytes) && !std::mem::replace(&mut story.over, true) {
            match limit.over {
                DeltaOverflow::Resubscribe => story.ask(piece, out),
                DeltaOverflow::Mark => {
                    out.note(
                        piece.topic,
                        TopicStatus::Gap { reason: GapReason::Overflow, missed: None },
                        piece.received,
                    );
                }
            }
        }
        Retention::Delta { whole: None }
    }
}

impl OrphanDeltas {
    /// One more change has come. When that has gone on for too long it is told: clients once, the operator again and again.
    fn wait(&mut self, changes: &Changes, piece: &Update<'_>, out: &mut dyn UpdateSink) {
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
            out.note(piece.topic, TopicStatus::Gap { reason: GapReason::NoSnapshot, missed: None }, piece.received);
        }
        out.oddity(piece.topic, Oddity::NoSnapshot { changes: self.changes }, piece.received);
        // Changes that are not folded may be all that there is.
        if changes.fold.is_some() {
            out.remedy(piece.topic, GapRemedy::Resubscribe);
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

impl ChangeLog {
    /// Asks for a new snapshot, once until it comes.
    fn ask(&mut self, piece: &Update<'_>, out: &mut dyn UpdateSink) {
        if !std::mem::replace(&mut self.asked, true) {
            out.remedy(piece.topic, GapRemedy::Resubscribe);
        }
    }

    /// Begins to fold, if the snapshot is as the profile says and there is room. Another snapshot would be no better.
    fn begin(&mut self, changes: &Changes, piece: &Update<'_>, bench: &mut FoldBudget<'_>) -> Result<(), Unfit> {
        let Some(rule) = &changes.fold else { return Ok(()) };
        let sheet = Document::of(piece).ok_or(Unfit::Malformed)?;
        let fold = Fold::begin(rule, &sheet, bench.scratch)?;
        self.fold = bench.admit(fold);
        Ok(())
    }

    fn fold_in(&mut self, changes: &Changes, piece: &Update<'_>, bench: &mut FoldBudget<'_>) -> Result<(), Unfit> {
        let (Some(rule), Some(fold)) = (&changes.fold, self.fold.take()) else { return Ok(()) };
        *bench.folded_bytes -= fold.bytes();
        let sheet = Document::of(piece).ok_or(Unfit::Malformed)?;
        let fold = fold.change(rule, &sheet, bench.scratch)?;
        self.fold = bench.admit(fold);
        Ok(())
    }

    fn unfold(&mut self, bench: &mut FoldBudget<'_>) {
        *bench.folded_bytes -= self.fold.take().map_or(0, |fold| fold.bytes());
    }

    /// A whole value, where it is time for one: for an object each time; for a book when the changes have become longer
    /// than it is, so that rendering costs no more than they did.
    fn whole(&mut self, changes: &Changes, piece: &Update<'_>) -> Option<Payload> {
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

impl FoldBudget<'_> {
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
fn hangs_together(piece: &Update<'_>) -> bool {
    let chained = |remedy| matches!(remedy, GapRemedy::Mark | GapRemedy::Resubscribe | GapRemedy::Reconnect);
    match piece.treatment.mode {
        Mode::Changes(_) => true,
        Mode::Nothing => {
            piece.treatment.sequence.is_some_and(|rule| rule.follow != Continuity::Monotonic && chained(rule.remedy))
        }
        Mode::Replace | Mode::Tail(_) => false,
    }
}
