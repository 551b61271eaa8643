//! The follower: reads every message of one client, for its age, for gaps, and to compare its text with what was sent.
//!
//! It inflates with the window of the messages before, as the client's library would, so a stream that is wrong anywhere is
//! noticed at the next message. It holds at most one message of `MESSAGE_BYTES_MAX`, and an entry for each topic.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::words::stamp::Stamp;
use shared_deflate::deflate::Inflater;
use shared_deflate::frame::Opcode;
use shared_deflate::scan::FrameHeader;

use super::client::{AgeSource, MessageFields, NOTICE};
use super::tally::ClientTotals;
use super::text_ledger::{TextLedger, TextVerdict};
use super::timestamp;

/// A larger message ends a followed client.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Reads whole messages.
#[derive(Debug, Default)]
pub struct Follower {
    pending: Vec<u8>,
    inflater: Inflater,
    /// Offsets up to here were received, or need not be.
    reached: Option<u64>,
    /// The newest message of each topic since the client subscribed to it.
    newest: HashMap<Box<[u8]>, Place>,
    texts: Option<Arc<TextLedger>>,
}

/// Place of a message in its topic and in the stream.
#[derive(Clone, Copy, Debug)]
struct Place {
    seq: u64,
    offset: u64,
}

/// The parts of an envelope of a whole JSON value, as docs/PROTOCOL.md has it.
#[derive(Debug, PartialEq)]
struct Parts<'m> {
    topic: &'m [u8],
    offset: u64,
    data: &'m [u8],
}

/// `unsubscribed`.
#[derive(Deserialize)]
struct UnsubscribedAnswer<'m> {
    #[serde(borrow)]
    topics: Vec<&'m str>,
}

impl Follower {
    /// With `texts` every message is compared.
    pub fn new(texts: Option<Arc<TextLedger>>) -> Follower {
        Follower { texts, ..Follower::default() }
    }

    /// Takes received bytes. None if the stream cannot be read.
    pub fn take(&mut self, bytes: &[u8], now: Stamp, reading: MessageFields, tally: &mut ClientTotals) -> Option<()> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(header) = FrameHeader::read(&pending[start..]).ok()? {
            let payload_bytes =
                usize::try_from(header.payload_bytes).ok().filter(|bytes| *bytes <= MESSAGE_BYTES_MAX)?;
            let first = start + header.header_bytes;
            let Some(payload) = pending.get(first..first + payload_bytes) else { break };
            start = first + payload_bytes;
            self.read(&header, payload, now, reading, tally)?;
        }
        // A client in step usually has no rest, and then holds no memory.
        if start < pending.len() {
            pending.drain(..start);
            self.pending = pending;
        }
        Some(())
    }

    fn read(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
        now: Stamp,
        reading: MessageFields,
        tally: &mut ClientTotals,
    ) -> Option<()> {
        if !matches!(header.opcode(), Some(Opcode::Text | Opcode::Binary)) {
            return Some(());
        }
        let inflated;
        let message = if header.is_compressed() {
            inflated = self.inflater.inflate_with_context(payload, MESSAGE_BYTES_MAX).ok()?;
            &inflated[..]
        } else {
            payload
        };
        if reading.notices && message.starts_with(NOTICE) {
            self.notice(message);
            return Some(());
        }
        tally.followed += 1;
        tally.followed_bytes += (header.header_bytes + payload.len()) as u64;
        tally.followed_plain_bytes += (header_bytes(message.len()) + message.len()) as u64;
        self.message(message, now, reading, tally);
        Some(())
    }

    fn notice(&mut self, notice: &[u8]) {
        // Values up to that offset follow `subscribed` and `skipped`, then the stream.
        let name = match notice[NOTICE.len()..].first_chunk() {
            Some(b"ski") => {
                self.newest.clear();
                "to"
            }
            Some(b"sub") => "offset",
            Some(b"uns") => {
                // What is not in force has no newest message: subscribed again, the topic may be at any.
                let in_force =
                    serde_json::from_slice::<UnsubscribedAnswer>(notice).map_or(Vec::new(), |answer| answer.topics);
                self.newest.retain(|topic, _| in_force.iter().any(|in_force| in_force.as_bytes() == &**topic));
                return;
            }
            _ => return,
        };
        self.reached = timestamp::member(notice, name).max(self.reached);
    }

    fn message(&mut self, message: &[u8], now: Stamp, reading: MessageFields, tally: &mut ClientTotals) {
        if reading.dense
            && let Some(offset) = timestamp::member(message, "offset")
        {
            let reached = self.reached.unwrap_or(offset);
            tally.gaps += offset.saturating_sub(reached + 1);
            self.reached = Some(reached.max(offset));
        }
        let parts =
            if reading.notices && (reading.sequenced || self.texts.is_some()) { Parts::of(message) } else { None };
        if let Some(texts) = &self.texts {
            let text = if reading.notices { parts.as_ref().map(|parts| parts.data) } else { Some(message) };
            match text.map_or(TextVerdict::Wrong, |text| texts.compare(text)) {
                TextVerdict::Same => tally.compared += 1,
                TextVerdict::Wrong => tally.wrong += 1,
                TextVerdict::Unknown => {}
            }
        }
        if let Some(parts) = parts.filter(|_| reading.sequenced)
            && let Some(seq) = timestamp::member(parts.data, "seq")
            && !self.follow(parts.topic, Place { seq, offset: parts.offset }, tally)
        {
            // The value with which a topic begins is as old as the topic's last message.
            return;
        }
        let age_ns = match reading.age {
            AgeSource::Timestamp => timestamp::find(message).map(|sent_ns| now.mono_ns.saturating_sub(sent_ns)),
            AgeSource::Ts => timestamp::member(message, "ts").map(|ts| now.wall_ms.saturating_sub(ts) * 1_000_000),
            AgeSource::Unknown => None,
        };
        if let Some(age_ns) = age_ns {
            tally.ages.saturating_record(age_ns.max(1));
        }
    }

    /// Counts what is missing before a message of its topic; one that is not new is a gap too. False if it is the first.
    fn follow(&mut self, topic: &[u8], place: Place, tally: &mut ClientTotals) -> bool {
        match self.newest.get_mut(topic) {
            Some(newest) => {
                let is_new = place.seq > newest.seq && place.offset > newest.offset;
                tally.gaps += if is_new { place.seq - newest.seq - 1 } else { 1 };
                *newest = place;
                true
            }
            None => {
                self.newest.insert(topic.into(), place);
                false
            }
        }
    }
}

impl<'m> Parts<'m> {
    /// None if the message is not exactly of this form, or its data are of another topic.
    fn of(message: &'m [u8]) -> Option<Parts<'m>> {
        let rest = message.strip_prefix(br#"{"topic":""#)?;
        let (topic, rest) = rest.split_at(rest.iter().position(|byte| *byte == b'"')?);
        let (offset, rest) = digits(rest.strip_prefix(br#"","offset":"#)?)?;
        let (_, rest) = digits(rest.strip_prefix(br#","ts":"#)?)?;
        let data = rest.strip_prefix(br#","data":"#)?.strip_suffix(b"}")?;
        let of_data = data.strip_prefix(br#"{"topic":""#)?.strip_prefix(topic)?;
        of_data.starts_with(b"\"").then_some(Parts { topic, offset, data })
    }
}

/// A number at the start, and what follows it.
fn digits(text: &[u8]) -> Option<(u64, &[u8])> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(count);
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

/// Header of a server's WireFrame (RFC 6455 section 5.2).
fn header_bytes(payload_bytes: usize) -> usize {
    match payload_bytes {
        0..126 => 2,
        126..65_536 => 4,
        _ => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared_deflate::deflate::Deflater;
    use shared_deflate::frame::{put_deflated, put_frame};

    const READING: MessageFields =
        MessageFields { notices: true, dense: false, sequenced: true, age: AgeSource::Timestamp };

    fn data(topic: &str, seq: u64) -> Vec<u8> {
        let mut data = format!(r#"{{"topic":"{topic}","seq":{seq}}}"#).into_bytes();
        timestamp::put(&mut data, seq);
        data
    }

    fn envelope(topic: &str, offset: u64, data: &[u8]) -> Vec<u8> {
        [format!(r#"{{"topic":"{topic}","offset":{offset},"ts":998,"data":"#).as_bytes(), data, b"}"].concat()
    }

    fn read(follower: &mut Follower, stream: &[u8], reading: MessageFields) -> ClientTotals {
        let mut tally = ClientTotals::default();
        follower.take(stream, Stamp::default(), reading, &mut tally).expect("a stream that can be read");
        tally
    }

    #[test]
    fn an_envelope_is_taken_apart_only_if_it_is_one() {
        let good = envelope("quote.A", 12, &data("quote.A", 3));
        let parts = Parts { topic: b"quote.A", offset: 12, data: &data("quote.A", 3) };
        assert_eq!(Parts::of(&good), Some(parts));
        for wrong in [&good[1..], &good[..40], &envelope("quote.B", 12, &data("quote.A", 3)), b"", b"{}"] {
            assert_eq!(Parts::of(wrong), None, "{}", String::from_utf8_lossy(wrong));
        }
    }

    #[test]
    fn a_missing_or_repeated_message_of_a_topic_is_a_gap() {
        for (seqs, gaps) in [(&[5, 6, 7][..], 0), (&[5, 7], 1), (&[5, 9], 3), (&[5, 6, 6], 1), (&[5, 4, 5], 1)] {
            let mut stream = Vec::new();
            for (at, seq) in seqs.iter().enumerate() {
                for topic in ["quote.A", "trade.A"] {
                    let seq = if topic == "trade.A" { at as u64 + 1 } else { *seq };
                    let message = envelope(topic, at as u64 + 1, &data(topic, seq));
                    put_frame(&mut stream, Opcode::Text, &message);
                }
            }
            let tally = read(&mut Follower::default(), &stream, READING);
            assert_eq!((tally.gaps, tally.ages.len()), (gaps, 2 * (seqs.len() as u64 - 1)), "{seqs:?}");
            let not_followed = MessageFields { sequenced: false, ..READING };
            assert_eq!(read(&mut Follower::default(), &stream, not_followed).gaps, 0);
        }
    }

    #[test]
    fn a_topic_begins_anew_after_it_was_left_and_after_skips() {
        for (notice, gaps) in [
            (r#"{"op":"unsubscribed","topics":["trade.A"],"offset":9}"#, 0),
            (r#"{"op":"unsubscribed","topics":["trade.A","quote.A"],"offset":9}"#, 7),
            (r#"{"op":"skipped","from":3,"to":9,"reason":"slow"}"#, 0),
            (r#"{"op":"subscribed","topics":["quote.A"],"offset":9}"#, 7),
        ] {
            let mut stream = Vec::new();
            put_frame(&mut stream, Opcode::Text, &envelope("quote.A", 1, &data("quote.A", 2)));
            put_frame(&mut stream, Opcode::Text, notice.as_bytes());
            put_frame(&mut stream, Opcode::Text, &envelope("quote.A", 10, &data("quote.A", 10)));
            assert_eq!(read(&mut Follower::default(), &stream, READING).gaps, gaps, "{notice}");
        }
    }

    #[test]
    fn a_wrong_text_is_noticed_in_either_format_and_compression() {
        let ledger = Arc::new(TextLedger::default());
        let sent: Vec<Vec<u8>> = (1..=20).map(|seq| data("quote.A", seq)).collect();
        ledger.enter(sent.iter().map(Vec::as_slice));
        for (in_envelope, deflate, fault) in [
            (true, true, None),
            (true, false, Some(7)),
            (false, true, Some(7)),
            (false, false, None),
            (true, true, Some(7)),
        ] {
            let (mut stream, mut deflater) = (Vec::new(), Deflater::new(6, 15));
            for (at, text) in sent.iter().enumerate() {
                let mut message = if in_envelope { envelope("quote.A", at as u64 + 1, text) } else { text.clone() };
                if fault == Some(at) {
                    let last = message.len() - if in_envelope { 3 } else { 2 };
                    message[last] ^= 1;
                }
                if deflate {
                    put_deflated(&mut stream, Opcode::Text, &message, &mut deflater);
                } else {
                    put_frame(&mut stream, Opcode::Text, &message);
                }
            }
            let reading = MessageFields { notices: in_envelope, ..READING };
            let tally = read(&mut Follower::new(Some(ledger.clone())), &stream, reading);
            let wrong = u64::from(fault.is_some());
            assert_eq!((tally.compared, tally.wrong), (20 - wrong, wrong), "{in_envelope} {deflate}");
            assert_eq!(tally.followed_bytes, stream.len() as u64);
            assert_eq!(deflate, tally.followed_plain_bytes > tally.followed_bytes);
        }
    }
}
