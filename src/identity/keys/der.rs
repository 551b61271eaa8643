//! As much of DER (X.690) as public keys in PEM need: elements of a sequence.

pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OBJECT_ID: u8 = 0x06;

/// The elements of a sequence, one after the other.
pub(super) struct DerReader<'b>(pub &'b [u8]);

impl<'b> DerReader<'b> {
    /// The content of the next element, which must have this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'b [u8]> {
        let (&[found, length], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            0x81 => {
                let (&length, rest) = rest.split_first()?;
                (usize::from(length), rest)
            }
            0x82 => {
                let (&length, rest) = rest.split_first_chunk::<2>()?;
                (usize::from(u16::from_be_bytes(length)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        (found == tag).then_some(content)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }
}

/// An integer that is not negative, without the zeros in front.
pub(super) fn unsigned(integer: &[u8]) -> Option<&[u8]> {
    let first = *integer.first()?;
    (first < 0x80).then(|| &integer[integer.iter().take_while(|byte| **byte == 0).count()..])
}
