//! The header `Retry-After` (RFC 9110 section 10.2.3), in every form that venues use.

use std::time::{Duration, SystemTime};

use crate::words::stamp::Stamp;

/// A larger number of seconds, 31 years, is a time: seconds since 1970, as some venues send them.
const MOMENT_S_MIN: f64 = 1e9;
/// A still larger one is a time in milliseconds.
const MOMENT_MS_MIN: f64 = 1e12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryAfter {
    In(Duration),
    /// In milliseconds since the Unix epoch.
    At(u64),
}

impl RetryAfter {
    /// `date` is the header `Date` of the same answer: with it, a wrong clock, here or there, does not matter.
    pub(crate) fn read(value: &str, date: Option<&str>) -> Option<RetryAfter> {
        let value = value.trim();
        if let Ok(number) = value.parse::<f64>() {
            return RetryAfter::of_number(number);
        }
        let moment = httpdate::parse_http_date(value).ok()?;
        match date.and_then(|date| httpdate::parse_http_date(date.trim()).ok()) {
            Some(sent) => Some(RetryAfter::In(moment.duration_since(sent).unwrap_or_default())),
            None => Some(RetryAfter::At(since_1970_ms(moment))),
        }
    }

    fn of_number(number: f64) -> Option<RetryAfter> {
        if number >= MOMENT_MS_MIN {
            return Some(RetryAfter::At(number as u64));
        }
        if number >= MOMENT_S_MIN {
            return Some(RetryAfter::At((number * 1000.0) as u64));
        }
        Duration::try_from_secs_f64(number).ok().map(RetryAfter::In)
    }

    /// The wait from now on.
    pub(crate) fn wait(self, now: Stamp) -> Duration {
        match self {
            RetryAfter::In(wait) => wait,
            RetryAfter::At(wall_ms) => Duration::from_millis(wall_ms.saturating_sub(now.wall_ms)),
        }
    }
}

fn since_1970_ms(moment: SystemTime) -> u64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_in_use_is_understood() {
        const DATE: Option<&str> = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        // Four seconds before the dates below; a wait is the same at any time.
        let now = Stamp { wall_ms: 784_111_773_000, mono_ns: 0 };
        for (value, date, seconds) in [
            ("4", None, Some(4.0)),
            (" 4.0 ", None, Some(4.0)),
            ("0", None, Some(0.0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", None, Some(4.0)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None, Some(4.0)),
            ("Sun Nov  6 08:49:37 1994", None, Some(4.0)),
            // By the venue's own clock it is half a minute.
            ("Sun, 06 Nov 1994 08:50:07 GMT", DATE, Some(30.0)),
            ("Sun, 06 Nov 1994 08:49:30 GMT", DATE, Some(0.0)),
            ("soon", None, None),
            ("-1", None, None),
            ("NaN", None, None),
        ] {
            let wait = RetryAfter::read(value, date).map(|after| after.wait(now).as_secs_f64());
            assert_eq!(wait, seconds, "{value} at {date:?}");
        }
        let now = Stamp { wall_ms: 1_767_225_600_000, mono_ns: 0 };
        for value in ["1767225610", "1767225610000"] {
            let wait = RetryAfter::read(value, None).map(|after| after.wait(now));
            assert_eq!(wait, Some(Duration::from_secs(10)), "{value}");
        }
    }
}
