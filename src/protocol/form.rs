//! Forms: how the payloads of a dialect go out. What they are is the dialect's; here is only what encodings know of them.

/// Forms of one dialect: each has a place among the encodings of a frame.
pub const FORMS_MAX: usize = 4;

/// Number of a form of the dialect, below `FORMS_MAX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FormId(pub u8);

/// How the payloads of a dialect go out.
pub trait Forms: Send + Sync {
    /// Appends the payload of a topic in this form.
    fn put(&self, form: FormId, topic: &str, payload: &[u8], out: &mut Vec<u8>);
}
