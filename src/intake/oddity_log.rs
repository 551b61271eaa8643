//! Oddities of topics and items, in the log and the meters: one line of a kind per 10 s.

use metrics::Counter;

use crate::intake::probe_counts::ProbeCounts;
use crate::intake::update::Oddity;
use crate::words::metrics as names;
use crate::words::metrics::Meters;
use crate::words::rate_limited_log::NameLog;
use crate::words::stamp::Stamp;

pub(super) struct OddityLog {
    old: NameLog,
    restarted: NameLog,
    no_snapshot: NameLog,
    /// Changes of the newest of these.
    changes: u64,
    malformed: NameLog,
    /// The newest of these.
    misfit: String,
    too_large: NameLog,
    wrong_checksum: NameLog,
    unanswered: NameLog,
    /// Answers that name nothing that was requested.
    unclaimed: NameLog,
    refused: NameLog,
    /// Reason of the newest refusal.
    refused_why: String,
    meters: OddityMeters,
}

struct OddityMeters {
    dropped_old: Counter,
    no_snapshot: Counter,
    malformed: Counter,
    too_large: Counter,
    wrong_checksum: Counter,
}

impl OddityLog {
    pub(super) fn new(meters: &Meters) -> OddityLog {
        let unfolded = |reason: &str| meters.counter(&names::UPSTREAM_UNFOLDED, &[("reason", reason)]);
        OddityLog {
            old: NameLog::default(),
            restarted: NameLog::default(),
            no_snapshot: NameLog::default(),
            changes: 0,
            malformed: NameLog::default(),
            misfit: String::new(),
            too_large: NameLog::default(),
            wrong_checksum: NameLog::default(),
            unanswered: NameLog::default(),
            unclaimed: NameLog::default(),
            refused: NameLog::default(),
            refused_why: String::new(),
            meters: OddityMeters {
                dropped_old: meters.counter(&names::FRAMES_REFUSED, &[("reason", "old")]),
                no_snapshot: unfolded("no_snapshot"),
                malformed: unfolded("malformed"),
                too_large: unfolded("too_large"),
                wrong_checksum: unfolded("checksum"),
            },
        }
    }

    /// Adds an oddity of a topic's messages.
    pub(super) fn add(&mut self, topic: &str, oddity: Oddity, received: Stamp, counts: &mut ProbeCounts) {
        let meters = &self.meters;
        let (log, counter) = match oddity {
            Oddity::Old => (&mut self.old, Some(&meters.dropped_old)),
            Oddity::Restart => (&mut self.restarted, None),
            Oddity::NoSnapshot { changes } => {
                self.changes = changes;
                counts.trouble(format!("`{topic}`: 0 snapshots, {changes} changes"));
                (&mut self.no_snapshot, Some(&meters.no_snapshot))
            }
            Oddity::Malformed(misfit) => {
                counts.trouble(format!("`{topic}`: not folded: {misfit}"));
                self.misfit = misfit.to_string();
                (&mut self.malformed, Some(&meters.malformed))
            }
            Oddity::TooLarge => (&mut self.too_large, Some(&meters.too_large)),
            Oddity::WrongChecksum => {
                counts.trouble(format!("`{topic}`: the feed's checksum is not that of the book"));
                (&mut self.wrong_checksum, Some(&meters.wrong_checksum))
            }
        };
        log.add(topic);
        counter.iter().for_each(|counter| counter.increment(1));
        self.write(received);
    }

    /// An item was refused.
    pub(super) fn add_refused(&mut self, item: &str, why: &str, now: Stamp) {
        self.refused.add(item);
        self.refused_why = why.to_string();
        self.write(now);
    }

    /// An item was neither granted nor refused.
    pub(super) fn add_unanswered(&mut self, item: &str, now: Stamp) {
        self.unanswered.add(item);
        self.write(now);
    }

    /// An answer grants nothing that was requested.
    pub(super) fn add_unclaimed(&mut self, answer: &str, now: Stamp) {
        self.unclaimed.add(answer);
        self.write(now);
    }

    /// Writes the lines that are due.
    pub(super) fn write(&mut self, now: Stamp) {
        if let Some((topics, count)) = self.refused.line(now) {
            tracing::warn!(count, "upstream: refused: {topics}: {}", self.refused_why);
        }
        if let Some((items, count)) = self.unanswered.line(now) {
            tracing::warn!(count, "upstream: the feed has not answered the subscription to {items}");
        }
        if let Some((answers, count)) = self.unclaimed.line(now) {
            tracing::warn!(
                count,
                "upstream: answers name no item that was requested: {answers}; check `ack.key` of the profile"
            );
        }
        if let Some((topics, count)) = self.old.line(now) {
            tracing::warn!(count, "upstream: dropped, because their numbers are older than the newest: {topics}");
        }
        if let Some((topics, count)) = self.restarted.line(now) {
            tracing::warn!(count, "upstream: only old numbers arrived, so counting restarted: {topics}");
        }
        if let Some((topics, count)) = self.no_snapshot.line(now) {
            let changes = self.changes;
            tracing::warn!(
                count,
                "upstream: 0 snapshots, {changes} changes: {topics}: clients that join get no value; \
                 check `snapshot_when` of the profile, and whether the feed sends snapshots"
            );
        }
        if let Some((topics, count)) = self.malformed.line(now) {
            tracing::warn!(
                count,
                "upstream: not folded, because messages do not fit the profile: {topics}: {}",
                self.misfit
            );
        }
        if let Some((topics, count)) = self.wrong_checksum.line(now) {
            tracing::warn!(
                count,
                "upstream: the feed's checksums are not those of these books, which are requested again: {topics}; \
                 if it goes on, check `checksum` and `depth` of the profile's `book`"
            );
        }
        if let Some((topics, count)) = self.too_large.line(now) {
            tracing::warn!(count, "upstream: not folded, because the value became too large: {topics}");
        }
    }

    /// When a line is due.
    pub(super) fn deadline_ns(&self) -> Option<u64> {
        let logs = [
            &self.unanswered,
            &self.unclaimed,
            &self.refused,
            &self.old,
            &self.restarted,
            &self.no_snapshot,
            &self.malformed,
            &self.too_large,
            &self.wrong_checksum,
        ];
        logs.into_iter().filter_map(NameLog::deadline_ns).min()
    }
}
