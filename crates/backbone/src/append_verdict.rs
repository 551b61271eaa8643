//! What has become of an append without a clear outcome, decided from what the log says when it is asked.
//!
//! Two traps lie here. A refusal is no proof that an entry is stored: a leader that is cut off refuses by what was
//! proposed to it and never committed. And a place is no identity: a log that has lost its tail gives it to another
//! entry. So only the entry's own chain, read back, counts as a commit, and a writer waits for it before it appends
//! anything else: the log compares places, and a second append in flight would pass once another writer has filled
//! the place of the first.

use feed_log::chain::Chain;
use feed_log::entry::header::EntryHeader;

use crate::kept::KeptEntries;
use crate::log::{LogBounds, LogRange, LogSequence};

/// Entries before the end that are looked at to find a known one: few first, for an entry may have 512 KiB.
const LOOK_BACK: [u64; 3] = [1, 16, 256];

/// An entry whose append was refused or not answered.
pub struct UnclearAppend<'a> {
    /// It can stand only right after this.
    pub expected: LogSequence,
    /// After the entry.
    pub chain: Chain,
    /// After the last entry that the writer knows to be committed.
    pub chain_before: Chain,
    /// Of the writer.
    pub term: u64,
    pub node: u64,
    /// What the writer knows to be committed.
    pub kept: &'a KeptEntries,
}

/// What the log says.
pub enum LogReport<'a> {
    Unavailable,
    Missing,
    Bounds(LogBounds),
    /// What was read, after these bounds, of the range that was to be looked at.
    Entries {
        bounds: LogBounds,
        entries: &'a [FoundEntry],
    },
}

/// An entry in the log.
#[derive(Clone, Copy, Debug)]
pub struct FoundEntry {
    pub sequence: LogSequence,
    /// None of bytes that are no entry.
    pub header: Option<EntryHeader>,
    pub chain: Chain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendVerdict {
    /// Nothing is known yet. Ask again in a while.
    Ask,
    /// There is no log: make one, then ask.
    Create,
    /// Read this, then decide.
    Look(LogRange),
    /// It is stored there; only the reply was lost.
    Committed(LogSequence),
    /// The log is complete up to its end, and the entry is not in it: append the same bytes there.
    Append { expected: LogSequence, is_intruded: bool },
    /// The log has lost committed entries: append those after this one again, byte for byte; all that are kept if it
    /// is none.
    Refill { after: Option<Chain>, expected: LogSequence, is_intruded: bool },
    /// The log has lost more than what is kept. Only a new epoch can go on.
    NewEpoch { expected: LogSequence },
    /// Another writer stands in the log.
    Deposed,
}

impl UnclearAppend<'_> {
    pub fn verdict(&self, report: &LogReport) -> AppendVerdict {
        match report {
            LogReport::Unavailable => AppendVerdict::Ask,
            LogReport::Missing => AppendVerdict::Create,
            LogReport::Bounds(bounds) => self.of_bounds(*bounds),
            LogReport::Entries { bounds, entries } => self.of_entries(*bounds, entries),
        }
    }

    fn of_bounds(&self, bounds: LogBounds) -> AppendVerdict {
        let expected = bounds.last;
        if bounds.is_empty() && expected == self.expected {
            return AppendVerdict::Append { expected, is_intruded: false };
        }
        if bounds.is_empty() {
            return AppendVerdict::Refill { after: None, expected, is_intruded: false };
        }
        let back = expected.0.saturating_sub(self.expected.0) + LOOK_BACK[0];
        self.look(bounds, back.min(LOOK_BACK[2]))
    }

    fn look(&self, bounds: LogBounds, count: u64) -> AppendVerdict {
        AppendVerdict::Look(LogRange { from: bounds.last.back(count - 1).max(bounds.first), to: bounds.last })
    }

    fn of_entries(&self, bounds: LogBounds, entries: &[FoundEntry]) -> AppendVerdict {
        if let Some(own) = entries.iter().find(|found| found.chain == self.chain) {
            return AppendVerdict::Committed(own.sequence);
        }
        if entries.iter().any(|found| self.is_deposed_by(found)) {
            return AppendVerdict::Deposed;
        }
        let expected = bounds.last;
        let (Some(oldest), Some(newest)) = (entries.first(), entries.last()) else { return AppendVerdict::Ask };
        if newest.sequence != expected {
            return AppendVerdict::Ask;
        }
        let known = entries.iter().rev().find(|found| self.kept.contains(found.chain));
        let is_intruded = known.is_none_or(|known| known.sequence != expected);
        match known {
            Some(known) if known.chain == self.chain_before => AppendVerdict::Append { expected, is_intruded },
            Some(known) => AppendVerdict::Refill { after: Some(known.chain), expected, is_intruded },
            None => {
                let seen = expected.0 - oldest.sequence.0 + 1;
                let further = LOOK_BACK.into_iter().find(|count| *count > seen && oldest.sequence > bounds.first);
                further.map_or(AppendVerdict::NewEpoch { expected }, |count| self.look(bounds, count))
            }
        }
    }

    /// By what takes the entry's place in the chain, or was written in a later term. Anything else that the writer
    /// does not know was appended late by a writer of the past: no reader takes it.
    fn is_deposed_by(&self, found: &FoundEntry) -> bool {
        let Some(header) = found.header.filter(|_| !self.kept.contains(found.chain)) else { return false };
        let is_later = header.term > self.term || (header.term == self.term && header.node != self.node);
        is_later || header.chain_before == self.chain_before
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use feed_log::entry::term::{Term, TermReason};
    use feed_log::entry::{Deflate, EntryBody, EntryPlace, LoggedText, PartCount};

    use super::*;
    use crate::kept::KeptEntry;

    /// A log in which term 3 of node 1 has committed five entries at 6 to 10, of which the last four are kept.
    struct Scene {
        kept: KeptEntries,
        committed: Vec<FoundEntry>,
        own: FoundEntry,
    }

    const TERM: u64 = 3;
    const EXPECTED: LogSequence = LogSequence(10);

    fn entry(sequence: u64, term: u64, node: u64, chain_before: Chain, takes_over: bool) -> (FoundEntry, Bytes) {
        let place = EntryPlace { term, node, epoch: 1, first: sequence, chain_before, sent_ms: sequence };
        let body = if takes_over {
            EntryBody::Term(Term {
                reason: TermReason::Takeover,
                previous: term - 1,
                base_offset: sequence,
                base_chain: chain_before,
                configuration: [0; 32],
                node_name: LoggedText::from("b"),
                resigns: false,
            })
        } else {
            EntryBody::Batch(Vec::new())
        };
        let (bytes, chain) = place.encode(&body, Deflate::No, PartCount::default()).expect("it fits");
        let header = EntryHeader::decode(&bytes).ok();
        (FoundEntry { sequence: LogSequence(sequence), header, chain }, bytes)
    }

    fn scene() -> Scene {
        let mut kept = KeptEntries::new(1 << 20);
        let (mut committed, mut chain) = (Vec::new(), Chain::START);
        for sequence in 6..=10 {
            let (found, bytes) = entry(sequence, TERM, 1, chain, false);
            chain = found.chain;
            committed.push(found);
            if sequence > 6 {
                kept.push(KeptEntry { chain, bytes });
            }
        }
        let (own, _) = entry(11, TERM, 1, chain, false);
        Scene { kept, committed, own }
    }

    impl Scene {
        fn verdict(&self, report: &LogReport) -> AppendVerdict {
            let chain_before = self.committed[4].chain;
            let append = UnclearAppend {
                expected: EXPECTED,
                chain: self.own.chain,
                chain_before,
                term: TERM,
                node: 1,
                kept: &self.kept,
            };
            append.verdict(report)
        }

        fn bounds(&self, first: u64, last: u64) -> AppendVerdict {
            self.verdict(&LogReport::Bounds(LogBounds { first: LogSequence(first), last: LogSequence(last) }))
        }

        fn entries(&self, last: u64, entries: &[FoundEntry]) -> AppendVerdict {
            let bounds = LogBounds { first: LogSequence(1), last: LogSequence(last) };
            self.verdict(&LogReport::Entries { bounds, entries })
        }

        fn after_last(&self, sequence: u64, term: u64, takes_over: bool) -> FoundEntry {
            entry(sequence, term, 2, self.committed[4].chain, takes_over).0
        }
    }

    fn look(from: u64, to: u64) -> AppendVerdict {
        AppendVerdict::Look(LogRange { from: LogSequence(from), to: LogSequence(to) })
    }

    #[test]
    fn bounds_say_where_to_look_and_never_that_an_entry_is_stored() {
        let scene = scene();
        assert_eq!(scene.bounds(1, 10), look(10, 10), "a refusal, and it is not there: a leader that is cut off");
        assert_eq!(scene.bounds(1, 11), look(10, 11), "it may be there, or another one");
        assert_eq!(scene.bounds(1, 400), look(145, 400));
        assert_eq!(scene.bounds(1, 8), look(8, 8), "the log is shorter");
        let refill = |last| AppendVerdict::Refill { after: None, expected: LogSequence(last), is_intruded: false };
        assert_eq!(scene.bounds(1, 0), refill(0), "a log that was made again");
        assert_eq!(scene.bounds(6, 5), refill(5), "nothing of it is left");
        let again = AppendVerdict::Append { expected: EXPECTED, is_intruded: false };
        assert_eq!(scene.bounds(11, 10), again, "all of it is too old");
        assert_eq!(scene.verdict(&LogReport::Unavailable), AppendVerdict::Ask);
        assert_eq!(scene.verdict(&LogReport::Missing), AppendVerdict::Create);
    }

    #[test]
    fn a_log_that_ends_where_it_did_takes_the_same_bytes_again() {
        let scene = scene();
        let append = |is_intruded| AppendVerdict::Append { expected: EXPECTED, is_intruded };
        assert_eq!(scene.entries(10, &scene.committed[4..]), append(false));
        // It only has the same length: it has lost its last entry, and something of the past came in.
        let (late, _) = entry(10, TERM - 2, 2, Chain::START, false);
        assert_eq!(scene.entries(10, &[late]), look(1, 10));
        let after = Some(scene.committed[3].chain);
        let refill = AppendVerdict::Refill { after, expected: EXPECTED, is_intruded: true };
        assert_eq!(scene.entries(10, &[scene.committed[3], late]), refill);
    }

    #[test]
    fn only_the_entry_itself_is_a_commit() {
        let scene = scene();
        assert_eq!(scene.entries(11, &[scene.own]), AppendVerdict::Committed(LogSequence(11)));
        // The same place, term and node, and other bytes: a place is no identity.
        let (other, _) = entry(11, TERM, 1, scene.committed[3].chain, false);
        let append = AppendVerdict::Append { expected: LogSequence(11), is_intruded: true };
        assert_eq!(scene.entries(11, &[scene.committed[4], other]), append);
        // A log that was made again has it elsewhere.
        let own = FoundEntry { sequence: LogSequence(6), ..scene.own };
        assert_eq!(scene.entries(6, &[own]), AppendVerdict::Committed(LogSequence(6)));
    }

    #[test]
    fn whoever_stands_in_its_place_has_taken_over() {
        let scene = scene();
        assert_eq!(scene.entries(11, &[scene.after_last(11, 4, true)]), AppendVerdict::Deposed);
        assert_eq!(scene.entries(11, &[scene.after_last(11, TERM, true)]), AppendVerdict::Deposed, "a rival's claim");
        let of_ingester = scene.after_last(11, TERM - 1, false);
        assert_eq!(scene.entries(11, &[of_ingester]), AppendVerdict::Deposed, "the ingester lives: the claim is void");
        // Its successor's entries alone, where the claim itself is too far back.
        let (later, _) = entry(400, 4, 2, Chain::START, false);
        assert_eq!(scene.entries(400, &[later]), AppendVerdict::Deposed);
        // A rival of the same term, in a log with another history.
        let (rival, _) = entry(11, TERM, 2, Chain::START, false);
        assert_eq!(scene.entries(11, &[rival]), AppendVerdict::Deposed);
        // A successor in a log that has lost its tail.
        let (rolled_back, _) = entry(9, 4, 2, scene.committed[2].chain, true);
        assert_eq!(scene.entries(9, &[scene.committed[2], rolled_back]), AppendVerdict::Deposed);
    }

    #[test]
    fn a_pipelined_writer_would_be_fenced_only_by_reading_back() {
        let scene = scene();
        // The first of two was refused, for a successor stands at 11; the second found the log at 11 and was stored.
        let (second, _) = entry(12, TERM, 1, scene.own.chain, false);
        assert_eq!(scene.entries(12, &[scene.after_last(11, 4, true), second]), AppendVerdict::Deposed);
    }

    #[test]
    fn a_log_that_has_lost_its_tail_is_filled_again() {
        let scene = scene();
        let known = scene.committed[2];
        let refill = |expected, is_intruded| AppendVerdict::Refill {
            after: Some(known.chain),
            expected: LogSequence(expected),
            is_intruded,
        };
        assert_eq!(scene.entries(8, &[scene.committed[1], known]), refill(8, false));
        // A log that was made again has the same entries elsewhere.
        let elsewhere = FoundEntry { sequence: LogSequence(2), ..known };
        assert_eq!(scene.entries(2, &[elsewhere]), refill(2, false));
        // Something of the past came in behind.
        let (late, _) = entry(9, TERM - 2, 2, Chain::START, false);
        assert_eq!(scene.entries(9, &[known, late]), refill(9, true));
    }

    #[test]
    fn something_of_the_past_says_nothing_of_what_stands_before_it() {
        let scene = scene();
        let (late, _) = entry(11, TERM - 2, 2, Chain::START, false);
        assert_eq!(scene.entries(11, &[late]), look(1, 11), "the last entry must be seen where it was");
    }

    #[test]
    fn what_is_kept_no_more_cannot_be_filled_in() {
        let scene = scene();
        let oldest = scene.committed[0];
        assert_eq!(scene.entries(6, &[oldest]), look(1, 6), "something known may stand before it");
        let older = |sequence| entry(sequence, TERM, 1, Chain::START, false).0;
        let entries: Vec<FoundEntry> = (1..6).map(older).chain([oldest]).collect();
        assert_eq!(scene.entries(6, &entries), AppendVerdict::NewEpoch { expected: LogSequence(6) });
    }

    #[test]
    fn an_answer_that_lacks_the_end_says_nothing() {
        let scene = scene();
        assert_eq!(scene.entries(11, &[]), AppendVerdict::Ask, "told of, and not to be read");
        assert_eq!(scene.entries(8, &[scene.committed[0], scene.committed[1]]), AppendVerdict::Ask);
    }

    #[test]
    fn bytes_that_are_no_entry_are_passed_over() {
        let scene = scene();
        let noise = FoundEntry { sequence: LogSequence(11), header: None, chain: Chain::after(b"noise") };
        let append = AppendVerdict::Append { expected: LogSequence(11), is_intruded: true };
        assert_eq!(scene.entries(11, &[scene.committed[4], noise]), append);
    }
}
