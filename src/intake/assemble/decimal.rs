//! Decimal numbers in a text, compared digit by digit: of any length, and without rounding.

use std::cmp::Ordering;

/// A decimal number, as a part of the text it was read from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal<'a> {
    negative: bool,
    /// The value is 0.DIGITS × 10^point.
    point: i64,
    /// From the first digit that is not 0 to the last, possibly with a dot between them; empty for zero.
    digits: &'a str,
}

impl<'a> Decimal<'a> {
    /// Reads a JSON number, or a JSON string that holds one. None: it is something else.
    pub(super) fn parse(token: &'a str) -> Option<Decimal<'a>> {
        let text = token.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(token);
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut both = whole.bytes().chain(fraction.bytes());
        if whole.len() + fraction.len() == 0 || !both.all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let whole = whole.trim_start_matches('0').len();
        let zeros = fraction.len() - fraction.trim_start_matches('0').len();
        let point = if whole > 0 { whole as i64 } else { -(zeros as i64) };
        let digits = mantissa.trim_start_matches(['0', '.']).trim_end_matches(['0', '.']);
        Some(Decimal { negative, point: point + i64::from(exponent), digits })
    }

    pub(super) fn is_zero(self) -> bool {
        self.digits.is_empty()
    }

    /// -1, 0 or 1.
    pub(super) fn sign(self) -> i8 {
        match (self.is_zero(), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }

    pub(super) fn compare(self, other: Decimal<'_>) -> Ordering {
        let size = || {
            let digits = |text: &'a str| text.bytes().filter(|byte| *byte != b'.');
            let others = other.digits.bytes().filter(|byte| *byte != b'.');
            self.point.cmp(&other.point).then_with(|| digits(self.digits).cmp(others))
        };
        self.sign().cmp(&other.sign()).then_with(|| match self.sign() {
            0 => Ordering::Equal,
            1 => size(),
            _ => size().reverse(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_ordered_by_their_value_however_they_are_written() {
        let ordered = [
            "-1e3",
            "-100.01",
            "\"-100\"",
            "-0.5",
            "-0.05",
            "0",
            "1e-7",
            "0.00000011",
            "0.05",
            "0.1",
            "0.15",
            "0.2",
            "1",
            "1.000000000000000000000000000000000001",
            "9.99",
            "10",
            "\"61837.63\"",
            "61837.64",
            "1E+10",
            "123456789012345678901234567890.1",
            "123456789012345678901234567890.2",
        ];
        for (left, a) in ordered.iter().enumerate() {
            for (right, b) in ordered.iter().enumerate() {
                let [first, second] = [a, b].map(|text| Decimal::parse(text).expect(text));
                assert_eq!(first.compare(second), left.cmp(&right), "{a} and {b}");
            }
        }
    }

    #[test]
    fn the_same_value_is_equal_however_it_is_written() {
        for same in [
            ["1", "1.0", "01.000", "10e-1", "0.1e1", "\"1\""],
            ["0", "-0", "0.00000000", "0e5", "\"0.0\"", "000"],
            ["30249.40", "30249.4", "3.02494e4", "302494e-1", "30249.400", "\"30249.4\""],
        ] {
            for (a, b) in same.iter().flat_map(|a| same.iter().map(move |b| (a, b))) {
                let [first, second] = [a, b].map(|text| Decimal::parse(text).expect(text));
                assert_eq!(first.compare(second), Ordering::Equal, "{a} and {b}");
            }
        }
        assert!(Decimal::parse("0.00000000").is_some_and(Decimal::is_zero));
        assert_eq!(
            ["-2", "0.0", "7"].map(|text| Decimal::parse(text).map(Decimal::sign)),
            [Some(-1), Some(0), Some(1)]
        );
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in
            ["", "\"\"", ".", "-", "abc", "1.2.3", "1e", "1e99999999999", "null", "{}", "1 ", "0x10", "\"1", "é"]
        {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
    }
}
