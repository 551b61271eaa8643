//! When a venue has made a message, by its own clock, as the message says.
//!
//! Looked up only where somebody measures it: a rule without one costs nothing, and one with it nothing per message.

use std::time::UNIX_EPOCH;

use crate::json::{Pointer, decode_string, find};

/// Where a message has its time.
#[derive(Clone, Debug, PartialEq)]
pub struct VenueTime {
    pub at: Pointer,
    /// The pointer starts at the element, not at the message.
    pub in_element: bool,
    pub unit: TimeUnit,
}

/// How a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
    /// A text such as `2026-08-01T02:53:53.398143Z`.
    Rfc3339,
}

/// What stands there is no time of this unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTime;

impl VenueTime {
    /// Milliseconds since the Unix epoch; none if the message has no time. `element` is a part of `message`, or all of it.
    pub fn read_ms(&self, message: &[u8], element: &[u8]) -> Result<Option<f64>, NoTime> {
        let text = std::str::from_utf8(if self.in_element { element } else { message }).map_err(|_| NoTime)?;
        match find(text, &self.at) {
            None | Some("null") => Ok(None),
            Some(token) => self.unit.read_ms(token).map(Some).ok_or(NoTime),
        }
    }
}

impl TimeUnit {
    /// Every unit, as profiles name it.
    pub const NAMES: [(&'static str, TimeUnit); 5] = [
        ("s", TimeUnit::Seconds),
        ("ms", TimeUnit::Milliseconds),
        ("us", TimeUnit::Microseconds),
        ("ns", TimeUnit::Nanoseconds),
        ("rfc3339", TimeUnit::Rfc3339),
    ];

    /// Reads a JSON token: a number, digits in a string, or the text of a moment.
    fn read_ms(self, token: &str) -> Option<f64> {
        let text = if token.starts_with('"') { decode_string(token)? } else { token.into() };
        // A double has room for a quarter of a microsecond.
        let number = || text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
        match self {
            TimeUnit::Seconds => Some(number()? * 1e3),
            TimeUnit::Milliseconds => number(),
            TimeUnit::Microseconds => Some(number()? / 1e3),
            TimeUnit::Nanoseconds => Some(number()? / 1e6),
            TimeUnit::Rfc3339 => {
                let moment = humantime::parse_rfc3339(&text).ok()?;
                Some(moment.duration_since(UNIX_EPOCH).ok()?.as_secs_f64() * 1e3)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_in_its_unit_from_a_number_or_a_text() {
        for (unit, token, expected) in [
            (TimeUnit::Seconds, "1618678145", Ok(Some(1_618_678_145_000.0))),
            (TimeUnit::Seconds, "\"1618678145.920470\"", Ok(Some(1_618_678_145_920.47))),
            (TimeUnit::Milliseconds, "1723161255208", Ok(Some(1_723_161_255_208.0))),
            (TimeUnit::Milliseconds, "\"1652459225393\"", Ok(Some(1_652_459_225_393.0))),
            (TimeUnit::Microseconds, "\"1641343691244908\"", Ok(Some(1_641_343_691_244.908))),
            (TimeUnit::Nanoseconds, "1641343691244908000", Ok(Some(1_641_343_691_244.908))),
            (TimeUnit::Rfc3339, "\"2021-04-17T16:43:37.075687Z\"", Ok(Some(1_618_677_817_075.687))),
            (TimeUnit::Rfc3339, "\"2021-04-17T16:43:37Z\"", Ok(Some(1_618_677_817_000.0))),
            (TimeUnit::Milliseconds, "null", Ok(None)),
            (TimeUnit::Milliseconds, "\"soon\"", Err(NoTime)),
            (TimeUnit::Milliseconds, "\"inf\"", Err(NoTime)),
            (TimeUnit::Milliseconds, "0", Err(NoTime)),
            (TimeUnit::Milliseconds, "[1]", Err(NoTime)),
            (TimeUnit::Rfc3339, "1618677817", Err(NoTime)),
            (TimeUnit::Rfc3339, "\"1618677817\"", Err(NoTime)),
        ] {
            let time = VenueTime { at: Pointer::parse("/t").expect("a pointer"), in_element: false, unit };
            let message = format!("{{\"t\":{token}}}");
            let read = time.read_ms(message.as_bytes(), b"");
            match (read, expected) {
                (Ok(Some(found)), Ok(Some(expected))) => {
                    assert!((found - expected).abs() < 0.001, "{token}: {found} is not {expected}");
                }
                (read, expected) => assert_eq!(read, expected, "{token}"),
            }
        }
    }

    #[test]
    fn a_pointer_starts_at_the_message_or_at_the_element() {
        let at = |in_element| VenueTime {
            at: Pointer::parse("/t").expect("a pointer"),
            in_element,
            unit: TimeUnit::Milliseconds,
        };
        let (message, element) = (br#"{"t":1,"data":[{"t":2}]}"#, br#"{"t":2}"#);
        assert_eq!(at(false).read_ms(message, element), Ok(Some(1.0)));
        assert_eq!(at(true).read_ms(message, element), Ok(Some(2.0)));
        assert_eq!(at(true).read_ms(message, b"{}"), Ok(None));
    }
}
