//! Sequence numbers in messages, and the rules about them.

/// A number as messages have it: from -2^63 to 2^64 - 1.
pub type Number = i128;

/// Digits of the largest number.
const DIGITS_MAX: usize = 20;

/// Reads a number: digits, or a JSON number without a fraction, such as `1.0`. None: it is something else.
pub fn read_number(text: &str) -> Option<Number> {
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.into());
    }
    let number = text.parse::<u64>().map(Number::from).ok().or_else(|| read_integral(text))?;
    (Number::from(i64::MIN)..=Number::from(u64::MAX)).contains(&number).then_some(number)
}

/// `1.0`, `1.50e1`.
fn read_integral(text: &str) -> Option<Number> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let exponent: i32 = exponent.parse().ok()?;
    let zeros = usize::try_from(exponent).ok()?.checked_sub(fraction.len())?;
    let digits = whole.len() + fraction.len();
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || digits + zeros > DIGITS_MAX {
        return None;
    }
    format!("{whole}{fraction}{:0<zeros$}", "").parse().ok()
}

/// Which number follows which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// `last` is one more than the `last` before.
    Inc,
    /// `first` is one more than the `last` before.
    Range,
    /// `prev` is the `last` before.
    Prev,
    /// `last` is not less than the `last` before; numbers may be left out.
    Monotonic,
}

/// The remedy for a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapRemedy {
    /// Report it.
    Mark,
    /// Report it, and request a new snapshot of the topic.
    Resubscribe,
    /// Report it, and ask for a snapshot over HTTP.
    Fetch,
    /// Report it, and reconnect.
    Reconnect,
    /// Nothing, not even a report.
    Ignore,
    /// Late messages are dropped; gaps are not reported.
    DropOld,
}

/// How numbers follow each other, and what a gap leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceRule {
    pub follow: Continuity,
    pub remedy: GapRemedy,
}

/// The numbers of one message; the rule decides which are needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    pub first: Option<Number>,
    pub prev: Option<Number>,
    pub last: Option<Number>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beyond_the_signed_ones_and_whole_ones_with_a_point_are_read() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-7", Some(-7)),
            ("9223372036854775807", Some(Number::from(i64::MAX))),
            ("9223372036854775808", Some(1 << 63)),
            ("18446744073709551615", Some(Number::from(u64::MAX))),
            ("18446744073709551616", None),
            ("-9223372036854775809", None),
            ("1.0", Some(1)),
            ("-12.000", Some(-12)),
            ("1e3", Some(1000)),
            ("1.25E+2", Some(125)),
            ("1.8446744073709551615e19", Some(Number::from(u64::MAX))),
            ("1e20", None),
            ("1e999999999", None),
            ("1.5", None),
            ("1.5.0", None),
            ("1.+5e1", None),
            ("0x10", None),
            ("", None),
            ("seven", None),
        ] {
            assert_eq!(read_number(text), expected, "{text}");
        }
    }
}
