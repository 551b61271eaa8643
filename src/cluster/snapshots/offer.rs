//! What a server says that is asked for a snapshot.

use backbone::follower::snapshot::SnapshotPlace;
use backbone::log::LogSequence;
use backbone::position::LogPosition;
use bytes::Bytes;
use feed_log::chain::Chain;
use feed_log::entry::EntryPlace;
use feed_log::entry::LoggedText;
use feed_log::entry::item::LoggedState;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bus::feed_state::FeedState;
use crate::cluster::logged_state::{feed_state, logged_state};

/// A snapshot that is ready to be taken in pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOffer {
    /// Of this one among those of the server.
    pub number: u64,
    pub place: SnapshotPlace,
    pub feed: FeedState,
    pub bytes: usize,
    pub sha256: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfferAnswer {
    Offered(Box<SnapshotOffer>),
    /// It is being made, or another one is still taken: this server is to be asked again.
    Wait,
    /// This server has none to give.
    Nothing,
}

#[derive(Serialize, Deserialize)]
struct AnswerForm {
    node: u64,
    answer: AnswerKindForm,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AnswerKindForm {
    Offered(Box<OfferForm>),
    Wait,
    Nothing,
}

#[derive(Serialize, Deserialize)]
struct OfferForm {
    number: u64,
    bytes: usize,
    sha256: String,
    offset: u64,
    read_from: u64,
    sequence: u64,
    term: u64,
    ingester: u64,
    epoch: u64,
    next_offset: u64,
    chain: String,
    is_resigned: bool,
    feed: FeedForm,
}

#[derive(Serialize, Deserialize)]
struct FeedForm {
    label: String,
    reason: String,
    since_ms: u64,
    message: String,
}

impl SnapshotOffer {
    /// Where its topics stand: what its first entry names.
    pub fn entry_place(place: &SnapshotPlace) -> EntryPlace {
        let LogPosition { term, node, epoch, chain, .. } = place.position;
        EntryPlace { term, node, epoch, first: place.offset.saturating_add(1), chain_before: chain, sent_ms: 0 }
    }

    pub fn fits(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.bytes && hash(bytes) == self.sha256
    }
}

pub fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub fn write_answer(node: u64, answer: &OfferAnswer) -> Bytes {
    let answer = match answer {
        OfferAnswer::Offered(offer) => AnswerKindForm::Offered(Box::new(OfferForm::of(offer))),
        OfferAnswer::Wait => AnswerKindForm::Wait,
        OfferAnswer::Nothing => AnswerKindForm::Nothing,
    };
    serde_json::to_vec(&AnswerForm { node, answer }).expect("a plain struct always serialises into memory").into()
}

/// The node and what it says; None if it is no such answer.
pub fn read_answer(bytes: &[u8]) -> Option<(u64, OfferAnswer)> {
    let AnswerForm { node, answer } = serde_json::from_slice(bytes).ok()?;
    let answer = match answer {
        AnswerKindForm::Offered(form) => OfferAnswer::Offered(Box::new(form.offer()?)),
        AnswerKindForm::Wait => OfferAnswer::Wait,
        AnswerKindForm::Nothing => OfferAnswer::Nothing,
    };
    Some((node, answer))
}

/// Asks for what follows `from` of the snapshot with this number.
pub fn write_piece_request(number: u64, from: usize) -> Bytes {
    format!("{number} {from}").into()
}

/// The number of the snapshot, and where in it.
pub fn read_piece_request(bytes: &[u8]) -> Option<(u64, usize)> {
    let (number, from) = std::str::from_utf8(bytes).ok()?.split_once(' ')?;
    Some((number.parse().ok()?, from.parse().ok()?))
}

impl OfferForm {
    fn of(offer: &SnapshotOffer) -> OfferForm {
        let SnapshotOffer { number, place, feed, bytes, sha256 } = offer;
        let LogPosition { sequence, term, node, epoch, next_offset, chain, is_resigned } = place.position;
        let LoggedState { label, reason, since_ms, message } = logged_state(feed);
        let text = |text: &LoggedText| text.as_str().to_owned();
        OfferForm {
            number: *number,
            bytes: *bytes,
            sha256: hex::encode(sha256),
            offset: place.offset,
            read_from: place.read_from.0,
            sequence: sequence.0,
            term,
            ingester: node,
            epoch,
            next_offset,
            chain: chain.to_string(),
            is_resigned,
            feed: FeedForm { label: text(&label), reason: text(&reason), since_ms, message: text(&message) },
        }
    }

    fn offer(self) -> Option<SnapshotOffer> {
        let (mut chain, mut sha256) = ([0; Chain::BYTES], [0; 32]);
        hex::decode_to_slice(self.chain, &mut chain).ok()?;
        hex::decode_to_slice(self.sha256, &mut sha256).ok()?;
        let position = LogPosition {
            sequence: LogSequence(self.sequence),
            term: self.term,
            node: self.ingester,
            epoch: self.epoch,
            next_offset: self.next_offset,
            chain: Chain(chain),
            is_resigned: self.is_resigned,
        };
        let FeedForm { label, reason, since_ms, message } = self.feed;
        let text = |text: String| LoggedText::from(&*text);
        let state = LoggedState { label: text(label), reason: text(reason), since_ms, message: text(message) };
        Some(SnapshotOffer {
            number: self.number,
            place: SnapshotPlace { position, offset: self.offset, read_from: LogSequence(self.read_from) },
            feed: feed_state(&state),
            bytes: self.bytes,
            sha256,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_read_as_it_was_written() {
        let position = LogPosition {
            sequence: LogSequence(7),
            term: 3,
            node: u64::MAX,
            epoch: 1 << 60,
            next_offset: 12,
            chain: Chain([9; Chain::BYTES]),
            is_resigned: true,
        };
        let place = SnapshotPlace { position, offset: 15, read_from: LogSequence(2) };
        let offer = SnapshotOffer { number: 5, place, feed: FeedState::Live, bytes: 3, sha256: hash(b"abc") };
        for answer in [OfferAnswer::Offered(Box::new(offer.clone())), OfferAnswer::Wait, OfferAnswer::Nothing] {
            assert_eq!(read_answer(&write_answer(8, &answer)), Some((8, answer)));
        }
        assert!(offer.fits(b"abc") && !offer.fits(b"abd") && !offer.fits(b"abcd"));
        assert_eq!(SnapshotOffer::entry_place(&place).first, 16);
        assert_eq!(read_piece_request(&write_piece_request(5, 1 << 20)), Some((5, 1 << 20)));
        for noise in [&b""[..], b"5", b"5 x", b"{}", b"\xff \xff", br#"{"node":1,"answer":{"offered":{}}}"#] {
            assert_eq!((read_answer(noise), read_piece_request(noise)), (None, None));
        }
    }
}
