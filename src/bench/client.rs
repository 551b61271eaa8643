//! One client of the load: counts what arrives, and reads it if the client is followed.
//!
//! Most clients only count: headers are scanned, payloads are dropped. Followed clients read every message.

use crate::words::stamp::Stamp;
use shared_deflate::frame::Opcode;
use shared_deflate::scan::FrameScanner;

use super::follower::Follower;
use super::tally::ClientTotals;

/// Start of every server message, and of no frame.
pub const NOTICE: &[u8] = b"{\"op\":\"";
const SKIPPED: &[u8] = b"{\"op\":\"sk";
const ERROR: &[u8] = b"{\"op\":\"er";

/// What clients read in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageFields {
    /// Whether messages may be server messages instead of frames: in fanline's envelopes.
    pub notices: bool,
    /// Whether every client receives every offset: in fanline's envelopes with the pattern `>`.
    pub dense: bool,
    /// Whether every message of a topic has the next `seq`: in fanline's envelopes of the simulated market's messages.
    pub sequenced: bool,
    pub age: AgeSource,
}

/// How the age of a message is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgeSource {
    /// From the timestamp that the bench's feed adds, in nanoseconds of one clock.
    Timestamp,
    /// From `ts` of the envelope, in milliseconds: from the server's receive time to the client's.
    Ts,
    Unknown,
}

/// The reading end of one client's stream.
#[derive(Debug)]
pub struct LoadClient {
    scanner: FrameScanner,
    follower: Option<Box<Follower>>,
    /// Frames since the last `restart`.
    pub deliveries: u64,
}

/// What a client must do after its bytes were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Duties {
    /// Pings to answer. fanline's pings have no payload, so the pongs have none.
    pub pongs: u64,
    /// The server has closed the connection, or its bytes cannot be read.
    pub ended: bool,
}

impl LoadClient {
    /// A client that only counts.
    pub fn counting() -> LoadClient {
        LoadClient { scanner: FrameScanner::default(), follower: None, deliveries: 0 }
    }

    /// A client whose messages are read.
    pub fn followed(follower: Follower) -> LoadClient {
        LoadClient { follower: Some(Box::new(follower)), ..LoadClient::counting() }
    }

    /// Whether `take` needs the time.
    pub fn is_followed(&self) -> bool {
        self.follower.is_some()
    }

    /// Counts from here on.
    pub fn restart(&mut self) {
        self.deliveries = 0;
    }

    /// Takes received bytes; `now` is when they were received.
    pub fn take(&mut self, bytes: &[u8], now: Stamp, reading: MessageFields, tally: &mut ClientTotals) -> Duties {
        let (mut deliveries, mut duties) = (0, Duties::default());
        tally.bytes += bytes.len() as u64;
        let scanned = self.scanner.scan(bytes, |header, start| match header.opcode() {
            Some(Opcode::Text | Opcode::Binary)
                if reading.notices && !header.is_compressed() && start.starts_with(NOTICE) =>
            {
                tally.notices += 1;
                tally.skips += u64::from(start.starts_with(SKIPPED));
                tally.refusals += u64::from(start.starts_with(ERROR));
            }
            Some(Opcode::Text | Opcode::Binary) => deliveries += 1,
            Some(Opcode::Close) => duties.ended = true,
            Some(Opcode::Ping) => duties.pongs += 1,
            _ => {}
        });
        tally.pings += duties.pongs;
        self.deliveries += deliveries;
        tally.deliveries += deliveries;
        duties.ended |= scanned.is_err();
        if let Some(follower) = &mut self.follower {
            duties.ended |= follower.take(bytes, now, reading, tally).is_none();
        }
        duties
    }
}

#[cfg(test)]
mod tests {
    use super::super::timestamp;
    use super::*;
    use shared_deflate::deflate::Deflater;
    use shared_deflate::frame::{put_close, put_deflated, put_frame};

    const READING: MessageFields =
        MessageFields { notices: true, dense: true, sequenced: false, age: AgeSource::Timestamp };
    const NOW: Stamp = Stamp { wall_ms: 1_000, mono_ns: 5_000_000 };

    fn client(followed: bool) -> LoadClient {
        if followed { LoadClient::followed(Follower::default()) } else { LoadClient::counting() }
    }

    fn envelope(offset: u64, sent_ns: u64) -> Vec<u8> {
        let mut message = br#"{"a":1}"#.to_vec();
        timestamp::put(&mut message, sent_ns);
        [format!(r#"{{"topic":"t","offset":{offset},"ts":998,"data":"#).as_bytes(), &message, b"}"].concat()
    }

    /// A stream of text messages.
    fn stream(messages: &[&[u8]]) -> Vec<u8> {
        let mut stream = Vec::new();
        messages.iter().for_each(|message| put_frame(&mut stream, Opcode::Text, message));
        stream
    }

    fn take(
        client: &mut LoadClient,
        stream: &[u8],
        chunk_bytes: usize,
        reading: MessageFields,
    ) -> (ClientTotals, Duties) {
        let (mut tally, mut all) = (ClientTotals::default(), Duties::default());
        for chunk in stream.chunks(chunk_bytes) {
            let duties = client.take(chunk, NOW, reading, &mut tally);
            all = Duties { pongs: all.pongs + duties.pongs, ended: all.ended || duties.ended };
        }
        (tally, all)
    }

    #[test]
    fn frames_are_deliveries_and_server_messages_are_not() {
        let subscribed = br#"{"op":"subscribed","topics":[">"],"offset":4}"#;
        let skipped = br#"{"op":"skipped","from":8,"to":20,"reason":"slow"}"#;
        let [value, first, second, late, live] = [3, 5, 6, 20, 21].map(|offset| envelope(offset, 4_000_000));
        let stream = stream(&[subscribed, &value, &first, &second, skipped, &late, &live]);
        for (followed, chunk_bytes) in [(true, 1), (true, 1 << 20), (false, 7), (false, 1 << 20)] {
            let mut client = client(followed);
            let (tally, duties) = take(&mut client, &stream, chunk_bytes, READING);
            assert_eq!((tally.deliveries, client.deliveries, tally.notices, tally.skips), (5, 5, 2, 1));
            assert_eq!((tally.bytes, duties), (stream.len() as u64, Duties::default()));
            assert_eq!((tally.followed, tally.gaps), (if followed { 5 } else { 0 }, 0), "reported skips are not gaps");
            assert_eq!(tally.ages.len(), tally.followed);
        }
    }

    #[test]
    fn a_missing_offset_is_a_gap_where_all_are_due() {
        let stream = stream(&[&envelope(7, 1), &envelope(8, 1), &envelope(11, 1)]);
        for (dense, gaps) in [(true, 2), (false, 0)] {
            let (tally, _) = take(&mut client(true), &stream, 1 << 20, MessageFields { dense, ..READING });
            assert_eq!(tally.gaps, gaps);
        }
    }

    #[test]
    fn ages_are_taken_from_the_timestamp_or_from_ts() {
        let stream = stream(&[&envelope(1, 3_000_000)]);
        for (age, expected) in
            [(AgeSource::Timestamp, Some(2_000_000)), (AgeSource::Ts, Some(2_000_000)), (AgeSource::Unknown, None)]
        {
            let (tally, _) = take(&mut client(true), &stream, 1 << 20, MessageFields { age, ..READING });
            let found = (!tally.ages.is_empty()).then(|| tally.ages.max());
            assert!(found.zip(expected).is_none_or(|(found, expected): (u64, u64)| found.abs_diff(expected) < 4_000));
            assert_eq!(found.is_some(), expected.is_some(), "{age:?}");
        }
    }

    #[test]
    fn deflated_messages_are_read_with_their_window() {
        let mut deflater = Deflater::new(6, 15);
        let mut stream = Vec::new();
        for offset in 1..=50 {
            if offset % 20 == 0 {
                deflater.cut();
            }
            put_deflated(&mut stream, Opcode::Text, &envelope(offset, 1_000_000), &mut deflater);
        }
        let (tally, duties) = take(&mut client(true), &stream, 100, READING);
        assert_eq!((tally.deliveries, tally.ages.len(), tally.gaps, duties.ended), (50, 50, 0, false));
    }

    #[test]
    fn pings_are_duties_and_the_end_is_seen() {
        let mut stream = Vec::new();
        put_frame(&mut stream, Opcode::Ping, b"");
        put_frame(&mut stream, Opcode::Ping, b"");
        let (_, duties) = take(&mut client(true), &stream, 3, READING);
        assert_eq!(duties, Duties { pongs: 2, ended: false });
        stream.clear();
        put_close(&mut stream, 1001, "going away");
        assert!(take(&mut client(false), &stream, 3, READING).1.ended);
        assert!(take(&mut client(false), &[0x81, 0x85, 1, 2], 3, READING).1.ended, "masked");
        let endless = [0x82, 127, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1];
        assert!(take(&mut client(true), &endless, 3, READING).1.ended, "too big to be followed");
        let broken = [&[0xC1, 4][..], b"\xFF\xFF\xFF\xFF"].concat();
        assert!(take(&mut client(true), &broken, 6, READING).1.ended, "no DEFLATE data");
    }
}
