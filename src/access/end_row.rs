//! How a session ended, or a connection that became none: a row of the journal of ends.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::words::goodbye::Goodbye;

/// Patterns of a session that a row has at most, and bytes of each.
pub const END_PATTERNS_MAX: usize = 4;
const PATTERN_BYTES_MAX: usize = 64;
/// Of a sentence about one end.
const DETAIL_BYTES_MAX: usize = 240;

/// One end. Moments are in milliseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndRow {
    /// None: a connection that never was a session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Such as `websocket`; of a refused connection what it got to, such as `tls`.
    pub transport: Cow<'static, str>,
    /// When the session was adopted; of refused connections when the first of them was refused.
    pub opened_ms: u64,
    /// When its end was decided; of refused connections the last of them.
    pub ended_ms: u64,
    /// The label of the metric: a goodbye, or the code of a refusal.
    pub reason: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_code: Option<u16>,
    /// What happened, in a sentence.
    pub detail: Cow<'static, str>,
    /// What to do about it; empty where `detail` says so.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub remedy: Cow<'static, str>,
    /// Refused connections of one network for one reason, which share a row for as long as they come.
    pub times: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standing: Option<EndStanding>,
}

/// How a session stood towards the stream when it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndStanding {
    /// Some of its patterns, shortened, and how many it had.
    pub patterns: Vec<Box<str>>,
    pub patterns_count: usize,
    /// Its pace; none for every frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<u64>,
    /// The last offset that was written for it.
    pub sent_offset: u64,
    /// Offsets that it was behind the shard.
    pub lag: u64,
    /// Bytes that its socket had not taken.
    pub unsent_bytes: usize,
    /// Times it received `skipped`.
    pub skips: u32,
}

impl EndRow {
    /// The end of a session for this reason, with what a client or a limit has to do with it.
    pub fn of_session(session: u64, goodbye: Goodbye, sentence: &str) -> EndRow {
        EndRow {
            session: Some(session),
            reason: goodbye.label().into(),
            close_code: goodbye.close_code(),
            detail: if sentence == goodbye.sentence() { goodbye.sentence().into() } else { shortened(sentence) },
            remedy: goodbye.remedy().into(),
            times: 1,
            ..EndRow::default()
        }
    }

    /// A connection that was refused or dropped before it was a session.
    pub fn of_refusal(transport: &'static str, reason: &'static str, address: Option<IpAddr>, detail: &str) -> EndRow {
        let detail = shortened(detail);
        EndRow { address, transport: transport.into(), reason: reason.into(), detail, times: 1, ..EndRow::default() }
    }

    /// Bytes that it takes in memory.
    pub(super) fn weight(&self) -> usize {
        let boxed = |text: &Option<Box<str>>| text.as_deref().map_or(0, str::len);
        let owned = |text: &Cow<'static, str>| if let Cow::Owned(text) = text { text.capacity() } else { 0 };
        let names = boxed(&self.sub) + boxed(&self.iss) + boxed(&self.tier);
        let words = [&self.transport, &self.reason, &self.detail, &self.remedy].into_iter().map(owned).sum::<usize>();
        let patterns = self.standing.iter().flat_map(|standing| &standing.patterns);
        size_of::<EndRow>() + names + words + patterns.map(|text| size_of::<Box<str>>() + text.len()).sum::<usize>()
    }
}

impl EndStanding {
    /// The patterns of a session, of which there are `count`.
    pub fn subscribed_to<'t>(patterns: impl Iterator<Item = &'t str>, count: usize) -> EndStanding {
        let patterns = patterns.take(END_PATTERNS_MAX).map(|text| cut(text, PATTERN_BYTES_MAX).into()).collect();
        EndStanding { patterns, patterns_count: count, ..EndStanding::default() }
    }
}

fn shortened(sentence: &str) -> Cow<'static, str> {
    Cow::Owned(cut(sentence, DETAIL_BYTES_MAX).to_owned())
}

/// The beginning of a text, whole characters of it.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_client_says_and_subscribes_to_a_row_is_small() {
        let long = "ü".repeat(100_000);
        let patterns = vec![long.as_str(); 10_000];
        let row = EndRow {
            standing: Some(EndStanding::subscribed_to(patterns.iter().copied(), patterns.len())),
            ..EndRow::of_session(7, Goodbye::ProtocolError, &long)
        };
        assert!(row.weight() < 1024, "{}", row.weight());
        let standing = row.standing.as_ref().expect("it was a session");
        assert_eq!((standing.patterns.len(), standing.patterns_count), (END_PATTERNS_MAX, 10_000));
    }

    #[test]
    fn a_row_of_another_version_is_read() {
        let row: EndRow = serde_json::from_str(r#"{"session":7,"mood":"good","standing":{"lag":3}}"#).expect("a row");
        assert_eq!((row.session, row.standing.map(|standing| standing.lag)), (Some(7), Some(3)));
    }
}
