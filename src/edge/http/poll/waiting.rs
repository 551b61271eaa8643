//! Requests that wait for something new, each a parked future, woken by the topics that it names.
//!
//! Time is divided into spans of `poll.gather`. At the end of each one task looks at what has entered the logs since the
//! last, and wakes those concerned; nothing runs while nobody waits. What is answered in a span ends at one offset, so
//! that clients with the same topics go on from the same cursor. Being woken for nothing is harmless: the answer decides.
//!
//! | bound | at the bound |
//! |---|---|
//! | requests that wait, in all and of an address | refused with 429 |
//! | bytes of their different patterns | refused with 429 |
//! | frames and steps of one look | all are woken |

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::Gauge;
use slab::Slab;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::access::rights::ViewId;
use crate::bus::reader::{FrameLookup, Reader};
use crate::bus::views::Views;
use crate::edge::settings::PollLimits;
use crate::words::ids::{Epoch, Offset, TopicId};
use crate::words::patterns::PatternTable;
use crate::words::topic::Pattern;

/// 16 MiB: with a table of patterns about 50 MB.
const PATTERN_BYTES_MAX: usize = 16 << 20;
/// What a pattern takes besides its text, about.
const PATTERN_BYTES: usize = 128;
/// Of one look at a log: at about 100 ns each below 5 ms.
const LOOK_FRAMES: u64 = 1 << 14;
const LOOK_STEPS: usize = 1 << 16;

/// The requests that wait, by what they wait for.
pub(in crate::edge) struct WaitingPolls {
    views: Views,
    limits: PollLimits,
    began: Instant,
    books: Mutex<WaitingBooks>,
    gauge: Gauge,
}

#[derive(Default)]
struct WaitingBooks {
    logs: HashMap<ViewId, WatchedLog>,
    waiting: usize,
    by_address: HashMap<IpAddr, usize>,
    pattern_bytes: usize,
    is_watched: bool,
}

/// One view, and who waits for something of it.
#[derive(Default)]
struct WatchedLog {
    /// None before it was asked for.
    epoch: Option<Epoch>,
    /// The span of time, and where the log was when it was first asked for in it.
    span: Option<(u64, Offset)>,
    looked: Offset,
    feed_version: u32,
    selections: Slab<Selection>,
    by_topics: HashMap<Arc<[Pattern]>, usize>,
    /// By pattern, the selections that have it.
    by_pattern: PatternTable<Vec<usize>>,
}

/// Requests with the same topics.
struct Selection {
    topics: Arc<[Pattern]>,
    waiting: usize,
    news: watch::Sender<()>,
}

/// Why a request may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) enum PollBound {
    All,
    Address,
}

/// One request that waits, until its drop.
pub(in crate::edge) struct WaitingPoll {
    polls: Arc<WaitingPolls>,
    view: ViewId,
    selection: usize,
    network: IpAddr,
    news: watch::Receiver<()>,
}

impl WaitingPolls {
    pub(crate) fn new(views: Views, limits: PollLimits, gauge: Gauge) -> Arc<WaitingPolls> {
        Arc::new(WaitingPolls { views, limits, began: Instant::now(), books: Mutex::default(), gauge })
    }

    /// Where answers of the current span of time end.
    pub(crate) fn until(&self, view: ViewId, reader: &Reader) -> Offset {
        let span = self.span();
        self.books().logs.entry(view).or_default().until(span, reader)
    }

    /// A client at `network` waits for these topics of a view, in order and each once, without any for all. Whatever enters
    /// the log from now on wakes it.
    pub(crate) fn wait(
        self: &Arc<WaitingPolls>,
        (view, reader): (ViewId, &Reader),
        topics: &[Pattern],
        network: IpAddr,
    ) -> Result<WaitingPoll, PollBound> {
        let span = self.span();
        let mut books = self.books();
        if books.waiting >= self.limits.waiting_max {
            return Err(PollBound::All);
        }
        let of_address = books.by_address.get(&network).copied().unwrap_or_default();
        if self.limits.per_address_max.is_some_and(|max| of_address >= max) {
            return Err(PollBound::Address);
        }
        let pattern_bytes = books.pattern_bytes;
        let log = books.logs.entry(view).or_default();
        let selection = match log.by_topics.get(topics) {
            Some(selection) => *selection,
            None if pattern_bytes + bytes_of(topics) > PATTERN_BYTES_MAX => return Err(PollBound::All),
            None => {
                if log.selections.is_empty() {
                    // What answers of this span of time do not have is looked at.
                    (log.looked, log.feed_version) = (log.until(span, reader), reader.feed_version());
                }
                let selection = log.open(topics);
                books.pattern_bytes += bytes_of(topics);
                selection
            }
        };
        let log = books.logs.entry(view).or_default();
        log.selections[selection].waiting += 1;
        let news = log.selections[selection].news.subscribe();
        books.waiting += 1;
        *books.by_address.entry(network).or_default() += 1;
        self.gauge.set(books.waiting as f64);
        if !std::mem::replace(&mut books.is_watched, true) {
            tokio::spawn(self.clone().watch());
        }
        Ok(WaitingPoll { polls: self.clone(), view, selection, network, news })
    }

    /// Looks at the end of each span, as long as somebody waits.
    async fn watch(self: Arc<WaitingPolls>) {
        loop {
            let next = u32::try_from(self.span() + 1).expect("spans of 10 ms or more for years");
            tokio::time::sleep_until(self.began + self.limits.gather * next).await;
            let mut books = self.books();
            if books.waiting == 0 {
                books.is_watched = false;
                return;
            }
            let span = self.span();
            for (view, log) in &mut books.logs {
                if let Some(reader) = self.views.reader(*view) {
                    log.look(span, &reader);
                }
            }
        }
    }

    fn span(&self) -> u64 {
        (self.began.elapsed().as_nanos() / self.limits.gather.max(Duration::from_millis(1)).as_nanos()) as u64
    }

    fn books(&self) -> MutexGuard<'_, WaitingBooks> {
        // Each update is complete before anything can panic.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WaitingPoll {
    /// Returns when something may be new.
    pub(crate) async fn news(&mut self) {
        // The sender is there as long as this is.
        let _ = self.news.changed().await;
    }
}

impl Drop for WaitingPoll {
    fn drop(&mut self) {
        let mut books = self.polls.books();
        books.waiting -= 1;
        self.polls.gauge.set(books.waiting as f64);
        if let Some(of_address) = books.by_address.get_mut(&self.network) {
            *of_address -= 1;
            if *of_address == 0 {
                books.by_address.remove(&self.network);
            }
        }
        let freed = books.logs.get_mut(&self.view).map_or(0, |log| log.leave(self.selection));
        books.pattern_bytes -= freed;
    }
}

impl WatchedLog {
    fn until(&mut self, span: u64, reader: &Reader) -> Offset {
        if self.epoch.replace(reader.epoch()) != Some(reader.epoch()) {
            // What was of the log before says nothing of this one.
            self.span = None;
        }
        match self.span {
            Some((current, head)) if current == span => head,
            _ => {
                let head = reader.head();
                self.span = Some((span, head));
                head
            }
        }
    }

    fn open(&mut self, topics: &[Pattern]) -> usize {
        let topics: Arc<[Pattern]> = topics.into();
        let selection =
            self.selections.insert(Selection { topics: topics.clone(), waiting: 0, news: watch::Sender::new(()) });
        for pattern in &*topics {
            self.by_pattern.entry(pattern).push(selection);
        }
        self.by_topics.insert(topics, selection);
        selection
    }

    /// One request less; gives the bytes of patterns that nobody waits for any more.
    fn leave(&mut self, selection: usize) -> usize {
        self.selections[selection].waiting -= 1;
        if self.selections[selection].waiting > 0 {
            return 0;
        }
        let topics = self.selections.remove(selection).topics;
        self.by_topics.remove(&topics);
        for pattern in &*topics {
            let of_pattern = self.by_pattern.entry(pattern);
            of_pattern.retain(|other| *other != selection);
            if of_pattern.is_empty() {
                self.by_pattern.remove(pattern);
            }
        }
        bytes_of(&topics)
    }

    /// Wakes those for whom something is new up to the end of the span.
    fn look(&mut self, span: u64, reader: &Reader) {
        if self.selections.is_empty() {
            return;
        }
        let is_same_log = self.epoch == Some(reader.epoch());
        let until = self.until(span, reader);
        let feed_version = reader.feed_version();
        let is_feed_new = std::mem::replace(&mut self.feed_version, feed_version) != feed_version;
        let from = std::mem::replace(&mut self.looked, until);
        let concerned = if is_feed_new || !is_same_log { None } else { self.concerned(reader, from, until) };
        match concerned {
            Some(concerned) => concerned.into_iter().for_each(|selection| self.selections[selection].wake()),
            None => self.selections.iter().for_each(|(_, selection)| selection.wake()),
        }
    }

    /// The selections with frames after one offset up to another; none if there is too much to look at.
    fn concerned(&self, reader: &Reader, from: Offset, until: Offset) -> Option<HashSet<usize>> {
        let (mut concerned, mut seen, mut steps) = (HashSet::new(), HashSet::<TopicId>::new(), 0);
        if until.0.saturating_sub(from.0) > LOOK_FRAMES {
            return None;
        }
        for offset in from.0 + 1..=until.0 {
            if concerned.len() == self.selections.len() {
                break;
            }
            let FrameLookup::Hot(frame) = reader.frame(Offset(offset)) else { return None };
            if !seen.insert(frame.topic.id) {
                continue;
            }
            let mut found = steps;
            steps += self.by_pattern.visit(&frame.topic.name, |selections| {
                found += selections.len();
                concerned.extend(selections.iter().copied());
                if found > LOOK_STEPS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            steps = steps.max(found);
            if steps > LOOK_STEPS {
                return None;
            }
        }
        Some(concerned)
    }
}

impl Selection {
    fn wake(&self) {
        self.news.send_replace(());
    }
}

fn bytes_of(topics: &[Pattern]) -> usize {
    topics.iter().map(|pattern| PATTERN_BYTES + 2 * pattern.as_str().len()).sum()
}
