//! The delay line of one view: takes every frame of the live log, holds it until it is old enough, and publishes it in
//! the view.
//!
//! What it holds is bounded in bytes. Frames that memory has no room for go to the disk, if there is a spool (`spool`).
//! At the bound of both frames are conflated by topic in slices of a second (`slice`), and the readers of the view skip:
//! late, or dropped and told, never early. A line that the live ring overruns continues with what is kept there of each
//! topic, as a slice as well.
//!
//! A view with one delay has the epoch and the offsets of the live log. One with several delays publishes each frame when
//! the delay of its topic is over, so the order is another one, and epoch and offsets are its own.

use std::sync::Arc;
use std::time::Duration;

use crate::access::rights::ViewDelay;
use crate::bus::delay::due::DueItem;
use crate::bus::delay::line_meters::LineMeters;
use crate::bus::delay::queue::DelayQueue;
use crate::bus::delay::slice::DelaySlice;
use crate::bus::delay::spool::failure::FailureLog;
use crate::bus::delay::spool::limits::SpoolLimits;
use crate::bus::delay::spool::segment::SpoolUsage;
use crate::bus::delay::spool::worker::{SpoolTerms, SpoolWorker};
use crate::bus::delay::waiting::WaitingFrame;
use crate::bus::feed_state::{FeedState, StaleReason};
use crate::bus::frame::{Frame, FrameKind, Topic};
use crate::bus::history::History;
use crate::bus::log::snapshot::TopicChoice;
use crate::bus::publisher::Publisher;
use crate::bus::publisher::republish::{FrameContent, GivenFrame};
use crate::bus::reader::{FrameLookup, Reader};
use crate::bus::{self, Limits};
use crate::words::ids::{Epoch, Offset};
use crate::words::metrics::Meters;
use crate::words::rate_limited_log::RateLimitedLog;
use crate::words::stamp::Stamp;

/// Frames that one turn publishes: a few milliseconds, so that the line keeps up with the live ring.
const PUBLISHED_MAX: usize = 4096;

/// What a line is opened with.
pub struct LineParts {
    /// Number of the view, for the metrics.
    pub view: u8,
    pub delay: ViewDelay,
    pub live: Reader,
    /// Of a view with offsets of its own.
    pub epoch: Epoch,
    pub limits: Limits,
    pub history: History,
    pub bytes_max: usize,
    /// Without one, everything waits in memory.
    pub spool: Option<SpoolTerms>,
}

/// A view that was opened.
pub struct OpenLine {
    pub line: DelayLine,
    pub reader: Reader,
    /// Each is to run on a thread of its own.
    pub workers: Vec<SpoolWorker>,
}

pub struct DelayLine {
    view: u8,
    delay: ViewDelay,
    live: Reader,
    /// Everything up to here has been taken from the live log.
    cursor: Offset,
    feed_version: u32,
    /// The shortest delay first.
    queues: Vec<DelayQueue>,
    /// By the topic's number in the live log: the topic, and its queue if it is in the view.
    queue_of: Vec<Option<(Arc<Topic>, Option<usize>)>>,
    publisher: Publisher,
    /// Memory that frames may fill before they are conflated.
    room: usize,
    usage: SpoolUsage,
    full_log: RateLimitedLog,
    failure_log: FailureLog,
    meters: LineMeters,
}

impl DelayLine {
    /// The view of another epoch, which begins with what is retained in the live log; that is as old as the epoch.
    pub fn open_epoch(parts: LineParts, meters: &Meters, now: Stamp) -> OpenLine {
        let mut opened = DelayLine::open(parts, meters, now);
        opened.line.take_retained(Offset::START, now);
        opened
    }

    /// An empty view, at the end of the live log. What is there already never enters it.
    pub fn open(parts: LineParts, meters: &Meters, now: Stamp) -> OpenLine {
        let LineParts { view, delay, live, epoch, limits, history, bytes_max, spool } = parts;
        let keeps_offsets = matches!(delay, ViewDelay::Uniform(_));
        let epoch = if keeps_offsets { live.epoch() } else { epoch };
        // Its log is counted by the meters of views.
        let (publisher, reader) = bus::open_with_history(epoch, limits, history, &Meters::unread());
        let (usage, delays) = (SpoolUsage::default(), delays(&delay));
        let spool_limits = SpoolLimits::share(bytes_max, delays.iter().filter(|delay| !delay.is_zero()).count());
        let mut workers = Vec::new();
        let mut open_queue = |delay: Duration| {
            let spool = spool.as_ref().filter(|_| !delay.is_zero()).map(|terms| {
                let (handle, worker) = SpoolWorker::open(terms, usage.clone());
                workers.push(worker);
                (handle, spool_limits)
            });
            DelayQueue::new(delay, spool)
        };
        let queues: Vec<DelayQueue> = delays.into_iter().map(&mut open_queue).collect();
        let (cursor, feed_version) = (live.head(), live.feed_version());
        let mut line = DelayLine {
            view,
            delay,
            live,
            cursor,
            feed_version,
            queues,
            queue_of: Vec::new(),
            publisher,
            room: if spool.is_some() { SpoolLimits::room(bytes_max) } else { bytes_max },
            usage,
            full_log: RateLimitedLog::default(),
            failure_log: FailureLog::default(),
            meters: LineMeters::new(meters, view),
        };
        line.warm_up(now);
        OpenLine { line, reader, workers }
    }

    /// The epoch of the live log.
    pub fn live_epoch(&self) -> Epoch {
        self.live.epoch()
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(DelayQueue::is_empty)
    }

    /// Another line goes on in the place of this one.
    pub fn give_way(self) {
        self.publisher.give_way();
    }

    /// Takes what is new in the live log, and publishes what is old enough. Returns how long there is nothing more to
    /// publish; none if nothing waits.
    pub fn turn(&mut self, now: Stamp) -> Option<Duration> {
        self.step(now, PUBLISHED_MAX)
    }

    /// As [`DelayLine::turn`], with a bound on what is published.
    pub(super) fn step(&mut self, now: Stamp, published_max: usize) -> Option<Duration> {
        self.take_in(now);
        self.tend_spools(now);
        let idle = self.release(now, published_max);
        self.meters.frames.set(self.queues.iter().map(DelayQueue::frames).sum::<usize>() as f64);
        self.meters.bytes.set(self.held_bytes() as f64);
        self.meters.spool_bytes.set(self.usage.bytes() as f64);
        self.meters.head.set(self.publisher.head().0 as f64);
        idle
    }

    /// Memory of what waits.
    pub(super) fn held_bytes(&self) -> usize {
        self.queues.iter().map(DelayQueue::bytes).sum()
    }

    fn keeps_offsets(&self) -> bool {
        matches!(self.delay, ViewDelay::Uniform(_))
    }

    /// Until something can be old enough the view is stale, and says so.
    fn warm_up(&mut self, now: Stamp) {
        let first = &mut self.queues[0];
        if !first.delay.is_zero() {
            let message = format!("values follow {} s after they were received", first.delay.as_secs_f64());
            let reason = StaleReason::DelayWarming;
            self.publisher.announce(FeedState::Stale { reason, since_ms: now.wall_ms, message });
        }
        first.push_feed(self.live.feed(), now);
        if self.keeps_offsets() && self.cursor > Offset::START {
            self.publisher.leap(Vec::new(), self.cursor);
        }
    }

    fn take_in(&mut self, now: Stamp) {
        // Version, state, head, in this order: a change of state comes after the frames that were published before.
        let version = self.live.feed_version();
        let feed = (version != self.feed_version).then(|| self.live.feed());
        let head = self.live.head();
        while self.cursor < head {
            let FrameLookup::Hot(frame) = self.live.frame(self.cursor.next()) else {
                if !self.start_over(now) {
                    return;
                }
                continue;
            };
            self.cursor = frame.offset;
            self.take_frame(&frame);
        }
        if let Some(feed) = feed {
            self.feed_version = version;
            self.queues[0].push_feed(feed, now);
        }
    }

    fn take_frame(&mut self, frame: &Frame) {
        let FrameKind::Expired(topics) = &frame.kind else {
            if let Some(queue) = self.queue(&frame.topic) {
                self.push(queue, WaitingFrame::of(frame));
            }
            return;
        };
        // Each topic is forgotten after what waits of it.
        let mut by_queue: Vec<Vec<Arc<Topic>>> = self.queues.iter().map(|_| Vec::new()).collect();
        for topic in topics {
            if let Some(queue) = self.queue(topic) {
                by_queue[queue].push(topic.clone());
            }
        }
        let keeps_offsets = self.keeps_offsets();
        for (queue, topics) in by_queue.into_iter().enumerate() {
            if keeps_offsets || !topics.is_empty() {
                let content = FrameContent::Expired(topics.into());
                self.push(queue, WaitingFrame { content, ..WaitingFrame::of(frame) });
            }
        }
    }

    fn push(&mut self, queue: usize, frame: WaitingFrame) {
        let is_full = self.held_bytes() + frame.bytes() > self.room;
        if is_full && self.full_log.take(frame.received).is_some() {
            tracing::warn!(
                view = self.view,
                delay_s = self.queues[queue].delay.as_secs_f64(),
                "a delayed view holds as much as it may, so messages are conflated and its clients skip; \
                 raise delay.bytes_max, or let it wait on disk (delay.spool_dir)"
            );
        }
        if self.queues[queue].push(frame, is_full) {
            self.meters.conflated.increment(1);
        }
    }

    fn tend_spools(&mut self, now: Stamp) {
        for queue in &mut self.queues {
            queue.tend_spool();
            for (failure, frames) in queue.take_failures() {
                self.failure_log.write(&failure, frames, self.view, now);
                self.meters.failed(&failure, frames);
            }
        }
    }

    /// The queue of a topic of the live log; none if the topic is not in the view.
    fn queue(&mut self, topic: &Arc<Topic>) -> Option<usize> {
        if self.queues.len() == 1 && self.keeps_offsets() {
            return Some(0);
        }
        let place = topic.id.index();
        if place >= self.queue_of.len() {
            self.queue_of.resize(place + 1, None);
        }
        if let Some((known, queue)) = &self.queue_of[place]
            && Arc::ptr_eq(known, topic)
        {
            return *queue;
        }
        let queue = self.queue_by_name(&topic.name);
        self.queue_of[place] = Some((topic.clone(), queue));
        queue
    }

    fn queue_by_name(&self, topic: &str) -> Option<usize> {
        let delay = self.delay.of_topic(topic)?;
        self.queues.iter().position(|queue| queue.delay == delay)
    }

    /// The live ring has overrun the line: it continues with what is kept there. False if the publisher is a whole ring
    /// ahead again; the next turn tries again.
    fn start_over(&mut self, now: Stamp) -> bool {
        let before = self.cursor;
        if !self.take_retained(before, now) {
            return false;
        }
        let offsets = self.cursor.0 - before.0;
        self.meters.conflated.increment(offsets);
        tracing::warn!(
            offsets,
            "the live ring has overrun a delayed view, whose clients skip; raise ring.frames_max or ring.bytes_max"
        );
        true
    }

    /// Takes what the live log keeps after this offset. False if its publisher is a whole ring ahead again.
    fn take_retained(&mut self, before: Offset, now: Stamp) -> bool {
        let snapshot = self.live.snapshot(&TopicChoice::new(&[]), &mut |_| {});
        if snapshot.overrun {
            return false;
        }
        let until = snapshot.offset;
        let mut living: Vec<Vec<Arc<Topic>>> = self.queues.iter().map(|_| Vec::new()).collect();
        let mut frames: Vec<(usize, Arc<Frame>)> = Vec::new();
        for current in &snapshot.topics {
            let topic = &current.retained.newest().topic;
            let Some(queue) = self.queue(topic) else { continue };
            living[queue].push(topic.clone());
            frames.extend(current.retained.kept_after(before).map(|frame| (queue, frame.clone())));
        }
        frames.sort_by_key(|(_, frame)| frame.offset);
        for (queue, frame) in frames {
            self.queues[queue].change_slice(frame.received, |slice| slice.take(WaitingFrame::of(&frame)));
        }
        for (queue, living) in self.queues.iter_mut().zip(living) {
            queue.change_slice(now, |slice| slice.bridge(until, now, living));
        }
        self.cursor = until;
        true
    }

    fn release(&mut self, now: Stamp, published_max: usize) -> Option<Duration> {
        for _ in 0..published_max {
            let due = self.queues.iter().enumerate().filter_map(|(queue, it)| it.due_ns().map(|due| (due, queue)));
            let (due_ns, queue) = due.min()?;
            if due_ns > now.mono_ns {
                return Some(Duration::from_nanos(due_ns - now.mono_ns));
            }
            match self.queues[queue].pop()? {
                DueItem::Frame(frame) => self.publish(&frame, now),
                DueItem::Slice(slice) => self.publish_slice(queue, slice, now),
                DueItem::Feed(feed) => self.publisher.announce((*feed).clone()),
                DueItem::Lost { topics, until } => self.publish_loss(&topics, until, now),
            }
        }
        Some(Duration::ZERO)
    }

    fn publish(&mut self, frame: &WaitingFrame, now: Stamp) {
        if !self.keeps_offsets() {
            let offset = self.publisher.head().next();
            if self.publisher.republish(frame.given(offset, now)).is_err() {
                self.meters.conflated.increment(1);
            }
            return;
        }
        if self.publisher.republish(frame.given(frame.offset, now)).is_err() {
            // There is no place for its topic, or something before it is not here: readers skip the offset.
            self.meters.conflated.increment(1);
            self.publisher.leap(Vec::new(), frame.offset);
        }
    }

    fn publish_slice(&mut self, queue: usize, slice: DelaySlice, now: Stamp) {
        let (mut until, head) = (slice.until(), self.publisher.head());
        let gone = slice.living().map(|living| self.gone(queue, living)).unwrap_or_default();
        let frames = slice.into_frames();
        let keeps_offsets = self.keeps_offsets();
        if !keeps_offsets {
            until = Offset(head.0 + 1 + frames.len() as u64);
        }
        let place = |(number, frame): (usize, &WaitingFrame)| {
            if keeps_offsets { frame.offset } else { Offset(head.0 + 1 + number as u64) }
        };
        let mut given: Vec<GivenFrame<'_>> = Vec::new();
        if let Some(first) = gone.first() {
            let content = FrameContent::Expired(gone.clone().into());
            given.push(GivenFrame { offset: until, topic: first, received: now, content });
        }
        given.extend(frames.iter().enumerate().map(|it| it.1.given(place(it), now)));
        self.publisher.leap(given, until);
    }

    /// Ends the values of topics of which frames are lost, each at an offset of its own: there was at least one of each.
    fn publish_loss(&mut self, topics: &[Arc<Topic>], until: Offset, now: Stamp) {
        let count = topics.len() as u64;
        let before = if self.keeps_offsets() { Offset(until.0 - count) } else { self.publisher.head() };
        let gap = |(offset, topic)| GivenFrame {
            offset: Offset(offset),
            topic,
            received: now,
            content: FrameContent::Conflated,
        };
        let gaps = (before.0 + 1..).zip(topics).map(gap).collect();
        self.publisher.leap(gaps, Offset(before.0 + count));
    }

    /// Topics of the view with this delay that the live log has forgotten unseen.
    fn gone(&self, queue: usize, living: &[Arc<Topic>]) -> Vec<Arc<Topic>> {
        let mut gone = self.publisher.topics_besides(living);
        gone.retain(|topic| self.queue_by_name(&topic.name) == Some(queue));
        gone
    }
}

/// The delays of a view, the shortest first.
fn delays(delay: &ViewDelay) -> Vec<Duration> {
    let mut delays = match delay {
        ViewDelay::Uniform(delay) => vec![*delay],
        ViewDelay::ByTopic(granted) => granted.iter().map(|granted| granted.delay).collect(),
    };
    delays.sort_unstable();
    delays.dedup();
    delays
}
