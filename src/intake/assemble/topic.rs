//! State of one topic: its newest number, its cadence, and its folded value.

use std::sync::Arc;

use crate::bus::retention::Retention;
use crate::bus::topic_status::{GapReason, TopicStatus};
use crate::json::Document;
use crate::profile::rules::numbers::{Continuity, GapRemedy, Number};
use crate::profile::rules::treatment::{Changes, DeltaOverflow, Mode};
use crate::protocol::encoding::{Payload, PayloadKind};

use crate::intake::assemble::cadence::Cadence;
use crate::intake::assemble::fold::{Fold, FoldScratch, Unfit};
use crate::intake::assemble::payload::payload;
use crate::intake::assemble::sequence::{GapVerdict, Sequence, proves};
use crate::intake::update::{Generation, Oddity, Update, UpdateSink};

/// State of one topic. Rare parts are behind a pointer.
pub(super) struct TopicState {
    pub name: Arc<str>,
    /// The generation of the connection of its last update, if there was only one.
    generation: Option<Generation>,
    sequence: Sequence,
    pub cadence: Cadence,
    log: Option<Box<ChangeLog>>,
    /// While deltas arrive before any snapshot.
    orphans: Option<Box<OrphanDeltas>>,
}

/// 10 s: a snapshot that has not arrived by then is not on its way.
const NO_SNAPSHOT_NS: u64 = 10_000_000_000;

/// Deltas without a snapshot to apply to.
#[derive(Default)]
struct OrphanDeltas {
    changes: u64,
    /// When the next report is due.
    report_ns: u64,
    /// It was reported to clients.
    reported: bool,
}

/// Deltas since the last snapshot.
#[derive(Default)]
struct ChangeLog {
    /// Number of deltas since the last snapshot or whole value.
    count: u64,
    bytes: usize,
    /// Bytes of the last snapshot or whole value.
    whole_bytes: usize,
    fold: Option<Fold>,
    /// A new snapshot was requested.
    asked: bool,
    /// An excess of deltas was noticed.
    over: bool,
}

/// The disposition of an update, by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    Publish,
    /// It is older than the published one.
    Late,
    Drop,
}

/// Parts of the assembler that a topic needs to fold.
pub(super) struct FoldBudget<'a> {
    pub scratch: &'a mut FoldScratch,
    /// Bytes of all folds, and how many there may be.
    pub folded_bytes: &'a mut usize,
    pub folded_bytes_max: usize,
}

impl TopicState {
    pub(super) fn new(name: Arc<str>, generation: Option<Generation>) -> TopicState {
        TopicState {
            name,
            generation,
            sequence: Sequence::default(),
            cadence: Cadence::default(),
            log: None,
            orphans: None,
        }
    }

    /// Bytes of its fold.
    pub(super) fn folded_bytes(&self) -> usize {
        let fold = self.log.as_ref().and_then(|log| log.fold.as_ref());
        fold.map_or(0, |fold| fold.bytes())
    }

    pub(super) fn newest(&self) -> Option<Number> {
        self.sequence.newest()
    }

    /// The next update restarts the numbers.
    pub(super) fn restart(&mut self) {
        self.sequence.restart();
    }

    /// Generation `new` continues `old`, and nothing is missing in between.
    pub(super) fn hand_over(&mut self, old: Generation, new: Generation) {
        if self.generation == Some(old) {
            self.generation = Some(new);
        }
    }

    /// Checks the numbers of an update, and reports a gap before it.
    pub(super) fn check(
        &mut self,
        update: &Update<'_>,
        generation: Option<Generation>,
        budget: &mut FoldBudget<'_>,
        out: &mut dyn UpdateSink,
    ) -> Disposition {
        let before = std::mem::replace(&mut self.generation, generation);
        let reconnected = before.zip(generation).is_some_and(|(before, now)| before != now);
        if update.snapshot {
            self.sequence.reset(update.numbers);
            return Disposition::Publish;
        }
        let rule = update.treatment.sequence;
        let numbered = rule.zip(update.numbers);
        let verdict = numbered.map(|(rule, numbers)| self.sequence.step(rule.follow, numbers, update.received.mono_ns));
        let proven = numbered.is_some_and(|(rule, numbers)| proves(rule.follow, numbers));
        if reconnected && !(proven && verdict == Some(GapVerdict::Next)) {
            self.sequence.reset(update.numbers);
            if is_chained(update) {
                self.report_gap(GapReason::Reconnect, None, update, budget, out);
                if let Some(log) = &mut self.log {
                    log.asked = false;
                }
            }
            return Disposition::Publish;
        }
        let remedy = rule.map_or(GapRemedy::Ignore, |rule| rule.remedy);
        match (verdict, remedy) {
            (Some(GapVerdict::Gap { missed }), GapRemedy::Mark | GapRemedy::Resubscribe | GapRemedy::Reconnect) => {
                self.report_gap(GapReason::Sequence, missed, update, budget, out);
                if remedy != GapRemedy::Mark {
                    out.remedy(update.topic, remedy);
                }
                Disposition::Publish
            }
            (Some(GapVerdict::Old), GapRemedy::DropOld) => {
                out.oddity(update.topic, Oddity::Old, update.received);
                Disposition::Drop
            }
            (Some(GapVerdict::Restart), _) => {
                out.oddity(update.topic, Oddity::Restart, update.received);
                if remedy != GapRemedy::Ignore && is_chained(update) {
                    self.report_gap(GapReason::Sequence, None, update, budget, out);
                    if matches!(remedy, GapRemedy::Resubscribe | GapRemedy::Reconnect) {
                        out.remedy(update.topic, remedy);
                    }
                }
                Disposition::Publish
            }
            (Some(GapVerdict::Old), _) => Disposition::Late,
            _ => Disposition::Publish,
        }
    }

    /// A whole value folded over a gap would hide it, so the fold ends here.
    fn report_gap(
        &mut self,
        reason: GapReason,
        missed: Option<u64>,
        update: &Update<'_>,
        budget: &mut FoldBudget<'_>,
        out: &mut dyn UpdateSink,
    ) {
        if let Some(log) = &mut self.log {
            log.unfold(budget);
        }
        out.status(update.topic, TopicStatus::Gap { reason, missed }, update.received);
    }

    /// Retention of an update of a topic with snapshots and deltas.
    pub(super) fn keep(
        &mut self,
        changes: &Changes,
        (update, disposition): (&Update<'_>, Disposition),
        budget: &mut FoldBudget<'_>,
        out: &mut dyn UpdateSink,
    ) -> Retention {
        if update.snapshot {
            self.orphans = None;
            let log = self.log.get_or_insert_default();
            log.unfold(budget);
            **log = ChangeLog { whole_bytes: update.published().len(), ..ChangeLog::default() };
            if let Err(unfit) = log.begin(changes, update, budget) {
                log.unfit(unfit, update, out);
            }
            return Retention::Snapshot;
        }
        // Without a snapshot clients that join receive nothing, so there is nothing to bound.
        let Some(log) = &mut self.log else {
            self.orphans.get_or_insert_default().wait(changes, update, out);
            return Retention::Delta { whole: None };
        };
        log.count += 1;
        log.bytes += update.published().len();
        // A late delta was overtaken by those already folded.
        if disposition == Disposition::Publish
            && let Err(unfit) = log.fold_in(changes, update, budget)
        {
            let is_malformed = matches!(unfit, Unfit::Malformed(_));
            log.unfit(unfit, update, out);
            if is_malformed {
                log.request_snapshot(update, out);
            }
        }
        if let Some(whole) = log.whole(changes, update) {
            return Retention::Delta { whole: Some(whole) };
        }
        let limit = changes.limit;
        if (log.count > limit.count || log.bytes > limit.bytes) && !std::mem::replace(&mut log.over, true) {
            match limit.over {
                DeltaOverflow::Resubscribe => log.request_snapshot(update, out),
                DeltaOverflow::Mark => {
                    out.status(
                        update.topic,
                        TopicStatus::Gap { reason: GapReason::Overflow, missed: None },
                        update.received,
                    );
                }
            }
        }
        Retention::Delta { whole: None }
    }
}

impl OrphanDeltas {
    /// Another delta has arrived without a snapshot. If this goes on for too long it is reported: to clients once, to
    /// the operator repeatedly.
    fn wait(&mut self, changes: &Changes, update: &Update<'_>, out: &mut dyn UpdateSink) {
        let now_ns = update.received.mono_ns;
        self.changes += 1;
        if self.changes == 1 {
            self.report_ns = now_ns + NO_SNAPSHOT_NS;
        }
        if now_ns < self.report_ns {
            return;
        }
        self.report_ns = now_ns + NO_SNAPSHOT_NS;
        if !std::mem::replace(&mut self.reported, true) {
            out.status(update.topic, TopicStatus::Gap { reason: GapReason::NoSnapshot, missed: None }, update.received);
        }
        out.oddity(update.topic, Oddity::NoSnapshot { changes: self.changes }, update.received);
        // Deltas that are not folded may be all that is kept.
        if changes.fold.is_some() {
            out.remedy(update.topic, GapRemedy::Resubscribe);
        }
    }
}

impl From<Unfit> for Oddity {
    fn from(unfit: Unfit) -> Oddity {
        match unfit {
            Unfit::Malformed(misfit) => Oddity::Malformed(misfit),
            Unfit::TooLarge => Oddity::TooLarge,
            Unfit::WrongChecksum => Oddity::WrongChecksum,
        }
    }
}

impl ChangeLog {
    /// An update could not be folded. With a wrong checksum something is missing, and what is kept is wrong.
    fn unfit(&mut self, unfit: Unfit, update: &Update<'_>, out: &mut dyn UpdateSink) {
        let is_wrong = unfit == Unfit::WrongChecksum;
        out.oddity(update.topic, unfit.into(), update.received);
        if is_wrong {
            let gap = TopicStatus::Gap { reason: GapReason::Checksum, missed: None };
            out.status(update.topic, gap, update.received);
            self.request_snapshot(update, out);
        }
    }

    /// Requests a new snapshot, once until it arrives.
    fn request_snapshot(&mut self, update: &Update<'_>, out: &mut dyn UpdateSink) {
        if !std::mem::replace(&mut self.asked, true) {
            out.remedy(update.topic, GapRemedy::Resubscribe);
        }
    }

    /// Begins to fold, if the snapshot matches the profile and there is room. Another snapshot would be no better.
    fn begin(&mut self, changes: &Changes, update: &Update<'_>, budget: &mut FoldBudget<'_>) -> Result<(), Unfit> {
        let Some(rule) = &changes.fold else { return Ok(()) };
        let document = document(update)?;
        let fold = Fold::begin(rule, &document, budget.scratch)?;
        self.fold = budget.admit(fold);
        Ok(())
    }

    fn fold_in(&mut self, changes: &Changes, update: &Update<'_>, budget: &mut FoldBudget<'_>) -> Result<(), Unfit> {
        let (Some(rule), Some(fold)) = (&changes.fold, self.fold.take()) else { return Ok(()) };
        *budget.folded_bytes -= fold.bytes();
        let document = document(update)?;
        let fold = fold.change(rule, &document, budget.scratch)?;
        self.fold = budget.admit(fold);
        Ok(())
    }

    fn unfold(&mut self, budget: &mut FoldBudget<'_>) {
        *budget.folded_bytes -= self.fold.take().map_or(0, |fold| fold.bytes());
    }

    /// A whole value, if one is due: for an object each time; for a book when the deltas have become longer than the
    /// book, so that rendering costs no more than they did.
    fn whole(&mut self, changes: &Changes, update: &Update<'_>) -> Option<Payload> {
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
        Some(payload(update, text.into()))
    }
}

impl FoldBudget<'_> {
    /// Counts a fold; none: no room.
    fn admit(&mut self, fold: Fold) -> Option<Fold> {
        let bytes = self.folded_bytes.saturating_add(fold.bytes());
        if bytes > self.folded_bytes_max {
            return None;
        }
        *self.folded_bytes = bytes;
        Some(fold)
    }
}

/// The published text of an update, and its element in it. The error: it is not JSON, so that nothing can be found in it.
fn document<'a>(update: &Update<'a>) -> Result<Document<'a>, Unfit> {
    let bytes = update.published();
    let element = if update.treatment.emit_element { 0..bytes.len() } else { update.element.clone() };
    let text = std::str::from_utf8(bytes).ok().filter(|_| update.kind == PayloadKind::Json);
    let text = text.filter(|text| text.get(element.clone()).is_some());
    text.map(|text| Document { text, element }).ok_or_else(Unfit::no_json)
}

/// Whether each message of a topic needs the one before it.
fn is_chained(update: &Update<'_>) -> bool {
    let chained = |remedy| matches!(remedy, GapRemedy::Mark | GapRemedy::Resubscribe | GapRemedy::Reconnect);
    match update.treatment.mode {
        Mode::Changes(_) => true,
        Mode::Nothing => {
            update.treatment.sequence.is_some_and(|rule| rule.follow != Continuity::Monotonic && chained(rule.remedy))
        }
        Mode::Replace | Mode::Tail(_) => false,
    }
}
