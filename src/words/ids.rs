//! Numbers that must not be mistaken for one another: offsets, epochs, cursors and topic ids.

use std::fmt;
use std::str::FromStr;

/// Dense 64-bit number of a frame, given by the publisher; the first frame of an epoch is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

impl Offset {
    /// Before the first frame: the cursor of a session that has seen nothing.
    pub const START: Offset = Offset(0);

    pub fn next(self) -> Offset {
        Offset(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies one unbroken run of offsets. Written as 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Position of a topic in the tables of publisher and shards: dense, from 0. The position of a forgotten topic is reused
/// once the ring holds nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u32);

impl TopicId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A client's resume position, written `EPOCH:OFFSET`: the last frame it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub epoch: Epoch,
    pub offset: Offset,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

/// Why a text is not a cursor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a cursor `EPOCH:OFFSET` (16 hexadecimal digits, a colon, a decimal number), found `{found}`; \
     leave `since` out to start from the current values"
)]
pub struct CursorError {
    pub found: String,
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let parse = || {
            let (epoch, offset) = text.split_once(':')?;
            let hex = epoch.len() == 16 && epoch.bytes().all(|b| b.is_ascii_hexdigit());
            let decimal = !offset.is_empty() && offset.bytes().all(|b| b.is_ascii_digit());
            if !hex || !decimal {
                return None;
            }
            Some(Cursor { epoch: Epoch(u64::from_str_radix(epoch, 16).ok()?), offset: Offset(offset.parse().ok()?) })
        };
        parse().ok_or_else(|| CursorError { found: text.chars().flat_map(char::escape_debug).take(64).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_writing_and_reading() {
        let cursor = Cursor { epoch: Epoch(0x00ab_cdef), offset: Offset(1234) };
        assert_eq!(cursor.to_string(), "0000000000abcdef:1234");
        assert_eq!("0000000000abcdef:1234".parse(), Ok(cursor));
    }

    #[test]
    fn what_is_no_cursor_is_refused_and_named() {
        for bad in ["", ":", "12", "abc:1", "0000000000abcdef:", "0000000000abcdef:-1", "0000000000abcdef:+1"] {
            let error = bad.parse::<Cursor>().expect_err(bad);
            assert!(error.to_string().contains(&format!("`{bad}`")), "{error}");
        }
    }
}
