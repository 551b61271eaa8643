//! The way of a message: classified, arbitrated, assembled, published.
//!
//! Each arrow is one call, all on one task, so there is one order of publication:
//! ```text
//! frame -> FrameDecoder -> Classifier (of its connection) -> Arbiter (only while connections overlap) -> Assembler ->
//! Output
//! ```
//! A message about its connection goes to that connection and ends there.

use std::sync::Arc;
use std::time::Duration;

use crate::bus::demand::interest::Interest;
use crate::bus::publisher::Publisher;
use crate::profile::connection::Resume;
use crate::profile::hidden::Hidden;
use crate::profile::rule::MessageClass;
use crate::profile::rules::treatment::StaleAfter;
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;

use crate::intake::arbitrate::arbiter::Arbiter;
use crate::intake::assemble::Assembler;
use crate::intake::classify::{Classified, FeedFrame, FeedMessage, FoundUpdates};
use crate::intake::connection::Connection;
use crate::intake::cursor::ResumeCursor;
use crate::intake::kept_messages::KeptMessages;
use crate::intake::message_log::MessageLog;
use crate::intake::output::Output;
use crate::intake::update::{ConnectionId, Generation, Release};
use crate::intake::venue_age::VenueAge;

/// The assembler looks at a tenth of the topics each time.
const ASSEMBLER_TICK_NS: u64 = 100_000_000;
/// Topics whose numbers and cadence are remembered; the publisher's own limit is usually lower.
const TOPICS_MAX: usize = 1_000_000;

pub(super) struct Pipeline {
    /// An unpacked frame, and the findings of a message: reused each time.
    unpacked: Vec<u8>,
    found: FoundUpdates,
    arbiter: Arbiter,
    /// Several connections carry the same.
    overlaps: bool,
    assembler: Assembler,
    /// When the assembler is due next: ten times a second.
    assembler_tick_ns: u64,
    cursor: ResumeCursor,
    messages: MessageLog,
    kept: Option<KeptMessages>,
    venue_age: VenueAge,
    /// A topic without a message for this long is forgotten; none: never.
    expire_after: Option<Duration>,
    pub(super) output: Output,
}

/// Settings that hold for as long as the process runs.
pub(super) struct PipelineSettings<'a> {
    /// Name of the profile.
    pub profile: &'a str,
    pub stale_after: StaleAfter,
    pub expire_after: Option<Duration>,
    pub legs: usize,
    pub resume: Option<&'a Resume>,
    pub hidden: Hidden,
    pub kept: Option<KeptMessages>,
}

impl Pipeline {
    pub(super) fn new(
        (publisher, interest): (Publisher, Option<Arc<Interest>>),
        settings: PipelineSettings<'_>,
        meters: &Meters,
    ) -> Pipeline {
        Pipeline {
            unpacked: Vec::new(),
            found: FoundUpdates::default(),
            arbiter: Arbiter::new(settings.legs, meters),
            overlaps: false,
            assembler: Assembler::new(settings.stale_after, TOPICS_MAX),
            assembler_tick_ns: 0,
            cursor: ResumeCursor::new(settings.resume),
            messages: MessageLog::new(settings.profile, settings.hidden.clone(), meters),
            kept: settings.kept,
            venue_age: VenueAge::new(meters),
            expire_after: settings.expire_after,
            output: Output::new(publisher, interest, settings.hidden, meters),
        }
    }

    pub(super) fn into_publisher(self) -> Publisher {
        self.output.into_publisher()
    }

    /// One frame of a connection, all the way to the publisher.
    pub(super) fn receive(&mut self, connection: &mut Connection, frame: FeedFrame<'_>, received: Stamp) {
        let mut unpacked = std::mem::take(&mut self.unpacked);
        for message in connection.classifier.decoder().decode(frame, &mut unpacked) {
            if let Some(classified) = connection.classifier.classify(&message, received, &mut self.found) {
                self.pass(connection, &message, &classified, received);
            }
            self.receive_waited(connection);
        }
        self.unpacked = unpacked;
    }

    /// The messages of a connection whose wait is over.
    pub(super) fn receive_waited(&mut self, connection: &mut Connection) {
        while let Some(waited) = connection.classifier.next_waited(&mut self.found) {
            self.pass(connection, &FeedMessage::Text(&waited.text), &waited.classified, waited.received);
        }
    }

    /// The updates of a message to the publisher; the rest of it to its connection.
    fn pass(&mut self, from: &mut Connection, message: &FeedMessage<'_>, classified: &Classified, received: Stamp) {
        let Pipeline { found, arbiter, overlaps, assembler, output, venue_age, .. } = self;
        let (source, classifier, mut established) = from.parts();
        if let Some(kept) = &self.kept {
            let first = found.updates(message.bytes(), classifier, received).next();
            kept.keep(source, message, (classified, first.as_ref()), received);
        }
        for update in found.updates(message.bytes(), classifier, received) {
            venue_age.look(&update, source.generation);
            if established.as_mut().is_some_and(|established| established.updated(&update)) {
                output.topic_gap(update.topic, None, received);
            }
            if *overlaps {
                arbiter.track((update.topic, received), || assembler.newest(update.topic));
                arbiter.take(source, &update, &mut |update, release| assembler.take(update, release, output));
            } else {
                assembler.take(&update, Release::Of(source.generation), output);
            }
        }
        self.messages.count(classified, message, received, &mut self.output.counts);
        let Some(established) = established else { return };
        if let Some((topic, status)) =
            classified.status.as_ref().and_then(|status| Some((status.topic.as_ref()?, status)))
        {
            self.output.upstream_status(classified.class, topic, status.number, received);
        }
        if let (MessageClass::Data, FeedMessage::Text(text)) = (classified.class, message) {
            self.cursor.pass(text, received);
        }
        established.learn(classified, message, received);
    }

    /// From now on several connections carry the same, or no longer.
    pub(super) fn overlap(&mut self, overlaps: bool) {
        if self.overlaps && !overlaps {
            let end = Stamp { wall_ms: 0, mono_ns: u64::MAX };
            let Pipeline { assembler, output, .. } = self;
            self.arbiter.tick(end, &mut |update, release| assembler.take(update, release, output));
            self.arbiter.clear();
        }
        self.overlaps = overlaps;
    }

    /// Runs the deadlines. Everything that arrived before `polled` was received; only waits for later messages are
    /// given up.
    pub(super) fn tick(&mut self, now: Stamp, polled: Stamp) {
        let Pipeline { assembler, output, .. } = self;
        self.arbiter.tick(polled, &mut |update, release| assembler.take(update, release, output));
        if self.assembler_tick_ns <= now.mono_ns {
            self.assembler_tick_ns = now.mono_ns + ASSEMBLER_TICK_NS;
            assembler.tick(now, output);
            for topic in self.expire_after.map(|silent| output.expire(silent, now)).unwrap_or_default() {
                assembler.forget(&topic);
                self.arbiter.forget_topic(&topic);
            }
        }
        self.output.write_log(now);
    }

    pub(super) fn deadline_ns(&self) -> Option<u64> {
        let ticks = self.assembler.is_checking() || self.expire_after.is_some();
        let assembler = ticks.then_some(self.assembler_tick_ns);
        [self.arbiter.deadline_ns(), assembler, self.output.deadline_ns()].into_iter().flatten().min()
    }

    /// A connection's stream continues over its successor, except in these topics.
    pub(super) fn hand_over(&mut self, generations: (Generation, Generation), except: &[String]) {
        self.assembler.hand_over(generations, except);
    }

    /// A connection is gone or silent. Returns the topics that it owned: others must bring snapshots of them.
    pub(super) fn connection_lost(&mut self, id: ConnectionId) -> Vec<String> {
        self.arbiter.connection_lost(id)
    }

    /// A connection no longer carries this topic. Returns whether it owned the topic: then another must bring a
    /// snapshot.
    pub(super) fn topic_left(&mut self, topic: &str, id: ConnectionId) -> bool {
        self.arbiter.topic_left(topic, id)
    }

    /// A topic is no longer subscribed: its state grows old.
    pub(super) fn lapse(&mut self, topic: &str, now: Stamp) {
        self.output.lapse(topic, now);
        self.assembler.lapses(topic);
    }

    /// Without a connection, silences of topics are not checked.
    pub(super) fn paused(&mut self, paused: bool) {
        self.assembler.paused(paused);
    }

    /// From now on this rule decides when topics are stale.
    pub(super) fn check_topics(&mut self, stale_after: StaleAfter) {
        self.assembler.check_by(stale_after);
    }

    /// From now on by these rules. A cursor is of the profile that said where it stands.
    pub(super) fn change(&mut self, stale_after: StaleAfter, resume: Option<&Resume>) {
        self.check_topics(stale_after);
        self.cursor = ResumeCursor::new(resume);
    }

    /// Cursor of the next connection; none: from the beginning.
    pub(super) fn resume_at(&self) -> Option<String> {
        self.cursor.resume_at()
    }
}
