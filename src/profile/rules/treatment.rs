//! Treatment of the updates that a rule finds: what clients that join need of them, and when their topic is stale.

use std::sync::Arc;
use std::time::Duration;

use crate::profile::rules::fold::FoldRule;
use crate::profile::rules::numbers::SequenceRule;
use crate::profile::rules::venue_time::VenueTime;

/// Messages that `mode = "tail"` keeps at most.
pub const TAIL_MAX: usize = 1000;

/// Treatment of the updates that one rule finds.
#[derive(Clone, Debug, Default)]
pub struct Treatment {
    pub rule: RuleSite,
    pub mode: Mode,
    pub sequence: Option<SequenceRule>,
    /// Publish the element instead of the whole message.
    pub emit_element: bool,
    /// Publish `{"topic":…,"data":…}` around it, because the topic cannot be read from it.
    pub wrap: bool,
    /// Where a message says when the venue has made it.
    pub time: Option<VenueTime>,
}

/// A rule as its author knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSite {
    pub name: Arc<str>,
    /// Its line in the profile, from 1.
    pub line: usize,
}

/// What a client that joins needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Mode {
    /// The newest.
    #[default]
    Replace,
    /// This many of the newest.
    Tail(usize),
    /// Nothing.
    Nothing,
    /// The last snapshot and the changes to it.
    Changes(Box<Changes>),
}

/// How snapshots and their changes are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes {
    pub limit: DeltaLimit,
    /// How deltas are folded into whole values; none: clients that join receive them one by one.
    pub fold: Option<FoldRule>,
    /// Whether deltas wait for a snapshot over HTTP.
    pub waits: bool,
}

/// Bounds of the deltas since a snapshot or the last whole value made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaLimit {
    pub count: u64,
    pub bytes: usize,
    pub over: DeltaOverflow,
}

/// The remedy beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeltaOverflow {
    /// A new snapshot is requested.
    Resubscribe,
    /// It is reported.
    Mark,
}

impl Default for DeltaLimit {
    /// 5000 changes: a minute of the busiest recorded book, 2593 in 31 s. 4 MiB: 800 bytes for each.
    fn default() -> DeltaLimit {
        DeltaLimit { count: 5000, bytes: 4 << 20, over: DeltaOverflow::Resubscribe }
    }
}

impl Mode {
    /// Whether values are built up from a snapshot and changes.
    /// Bounds of the deltas that are kept.
    pub fn delta_limit(&self) -> DeltaLimit {
        match self {
            Mode::Changes(changes) => changes.limit,
            Mode::Replace | Mode::Tail(_) | Mode::Nothing => DeltaLimit::default(),
        }
    }

    pub fn builds_up(&self) -> bool {
        matches!(self, Mode::Changes(_))
    }
}

/// When a topic is stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StaleAfter {
    /// Never.
    Never,
    /// By its own cadence.
    #[default]
    Auto,
    /// After this silence, every topic.
    Fixed(Duration),
}
