//! Why bytes are not an entry, or something cannot be one.

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("expected {needed} more bytes at byte {at} of an entry, found {found}; the entry is cut off")]
    Truncated { at: usize, needed: usize, found: usize },
    #[error("expected an entry of format {expected}, found format {found}; it was written by another version")]
    Format { expected: u8, found: u8 },
    #[error("expected a known {what} at byte {at} of an entry, found {found}; it is damaged, or of a later version")]
    Unknown { what: &'static str, at: usize, found: u8 },
    #[error("expected UTF-8 at byte {at} of an entry, found something else; it is damaged")]
    NotText { at: usize },
    #[error("expected the number of a topic below {known} in an entry, found {found}; it is damaged")]
    TopicNumber { found: u16, known: u16 },
    #[error("expected {expected} numbered items in an entry, found {found}; it is damaged")]
    Count { expected: u16, found: usize },
    #[error("expected the end of an entry at byte {at}, found {bytes} more; it is damaged")]
    Trailing { at: usize, bytes: usize },
    #[error("expected a deflated body of at most {max} bytes in an entry, found one that is damaged or larger")]
    Deflated { max: usize },
    #[error("expected a {what} that fits into an entry, found {bytes} bytes; send less at once")]
    TooLong { what: &'static str, bytes: usize },
    #[error("expected part {expected} of a large entry, found part {found} of {parts}; read them again from the first")]
    Part { expected: u16, found: u16, parts: u16 },
    #[error("expected parts of at most {max} bytes together, found more; the entry is damaged")]
    Parts { max: usize },
}
