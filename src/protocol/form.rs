//! Forms: how the payloads of a dialect go out. What they are is the dialect's; here is only what encodings know of them.

use crate::protocol::encoding::Envelope;

/// Forms of one dialect: each has a place among the encodings of a frame.
pub const FORMS_MAX: usize = 4;

/// Number of a form of the dialect, below `FORMS_MAX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FormId(pub u8);

/// How the payloads of a dialect go out.
pub trait Forms: Send + Sync {
    /// Appends the payload of an envelope in this form.
    fn put(&self, form: FormId, envelope: &Envelope<'_>, out: &mut Vec<u8>);
}
