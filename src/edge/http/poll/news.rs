//! What is new since a cursor, as an answer: every frame after it from the ring, or the latest values where the ring no
//! longer holds them.
//!
//! An answer about the same span is the same for all, and ends where it says: whatever a cache gives to a client, the
//! client goes on from there.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use crate::bus::frame::{Frame, FrameKind};
use crate::bus::log::snapshot::{OnStep, TopicChoice};
use crate::bus::reader::{FrameLookup, Reader};
use crate::edge::http::body::{BodyBound, Draft};
use crate::edge::http::topics::{AnswerSource, AnswerValues};
use crate::words::ids::{Cursor, Epoch, Offset, TopicId};

/// Offsets that one answer looks at: 65,536 at about 100 ns are 7 ms; the next answer goes on.
const LOOK_MAX: u64 = 1 << 16;
/// An answer that is full ends at a multiple of this, so that clients that are far behind ask for the same soon.
const STEP: u64 = 64;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::edge) struct NewsSpan {
    /// Of the log that the client was answered about.
    pub epoch: Epoch,
    /// The client has everything up to here; none if it has nothing.
    pub since: Option<Offset>,
    /// The answer looks no further.
    pub until: Offset,
    /// Frames and topic statuses from the ring at most.
    pub max: usize,
    /// Why the client starts anew, if it does.
    pub anew: Option<Anew>,
}

impl NewsSpan {
    /// The same in another epoch, which has begun since.
    fn begun_anew(self) -> NewsSpan {
        NewsSpan {
            since: None,
            until: Offset::START,
            anew: self.since.map_or(self.anew, |_| Some(Anew::Epoch)),
            ..self
        }
    }
}

/// Why a cursor does not lead on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::edge) enum Anew {
    /// It is of another epoch.
    Epoch,
    /// It is of the live log, and the client sees a delayed view.
    Delayed,
}

impl Anew {
    fn label(self) -> &'static str {
        match self {
            Anew::Epoch => "epoch",
            Anew::Delayed => "delayed",
        }
    }
}

/// As the message `skipped`.
#[derive(Serialize)]
struct SkippedLine {
    from: u64,
    to: u64,
    reason: &'static str,
}

/// Writes the answer.
pub(in crate::edge) fn put_news(
    draft: &mut Draft,
    source: &AnswerSource<'_>,
    (choice, span): (&TopicChoice<'_>, NewsSpan),
    on_step: OnStep<'_>,
) -> Result<(), BodyBound> {
    let reader = source.reader;
    let span = if span.epoch == reader.epoch() { span } else { span.begun_anew() };
    let replayed = span.since.and_then(|since| replay(reader, choice, (since, span.until, span.max), on_step));
    let lost = span.since.filter(|_| replayed.is_none());
    let (values, caught_up) =
        replayed.unwrap_or_else(|| (AnswerValues::kept(reader, choice, lost.unwrap_or_default(), on_step), true));
    values.put(draft, source, on_step)?;
    let skipped = match (lost, span.anew) {
        (Some(since), _) => Some((since.next(), "expired")),
        (None, Some(anew)) => Some((Offset::START, anew.label())),
        (None, None) => None,
    };
    draft.facts.skips = skipped.is_some();
    if let Some((from, reason)) = skipped {
        let line = SkippedLine { from: from.0, to: values.offset.0, reason };
        draft.open.extend_from_slice(b",\"skipped\":");
        serde_json::to_writer(&mut draft.open, &line).expect("a plain struct always serialises into memory");
    }
    let next = Cursor { epoch: reader.epoch(), offset: values.offset };
    draft.open.extend_from_slice(format!(",\"next\":\"{next}\",\"caught_up\":{caught_up}}}").as_bytes());
    Ok(())
}

/// The frames after a cursor, and whether that is all up to `until`. None if the ring no longer holds them.
fn replay(
    reader: &Reader,
    choice: &TopicChoice<'_>,
    (since, until, max): (Offset, Offset, usize),
    on_step: OnStep<'_>,
) -> Option<(AnswerValues, bool)> {
    let mut values = AnswerValues { offset: since, frames: Vec::new(), statuses: Vec::new(), whole: false };
    let mut chosen: HashMap<TopicId, bool> = HashMap::new();
    // Where the answer could end at a step: the offset, and how many there were of each kind.
    let mut step = None;
    let last = until.min(Offset(since.0.saturating_add(LOOK_MAX) / STEP * STEP));
    while values.offset < last {
        let next = values.offset.next();
        let FrameLookup::Hot(frame) = reader.frame(next) else { return None };
        on_step(0);
        let is_chosen = !matches!(frame.kind, FrameKind::Expired(_))
            && *chosen.entry(frame.topic.id).or_insert_with(|| choice.holds(&frame.topic.name, on_step));
        if is_chosen && values.count() >= max {
            let (offset, frames, statuses) =
                step.unwrap_or((values.offset, values.frames.len(), values.statuses.len()));
            values.offset = offset;
            values.frames.truncate(frames);
            values.statuses.truncate(statuses);
            return Some((values, false));
        }
        if is_chosen {
            push(&mut values, frame);
        }
        values.offset = next;
        if next.0.is_multiple_of(STEP) {
            step = Some((next, values.frames.len(), values.statuses.len()));
        }
    }
    let is_all = values.offset >= until;
    Some((values, is_all))
}

fn push(values: &mut AnswerValues, frame: Arc<Frame>) {
    if frame.is_status() { &mut values.statuses } else { &mut values.frames }.push(frame);
}
