//! What a session keeps of its client's messages, for answers to later ones: a nickname, for example.

use crate::profile::downstream::conversation::SaidRequest;

/// Values by the number of their names in the profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptValues(Vec<Option<Box<str>>>);

impl KeptValues {
    /// Keeps what the message's rule names. A longer value than answers repeat is not kept.
    pub fn keep(&mut self, request: &SaidRequest<'_>) {
        for (name, value) in request.kept() {
            if self.0.len() <= name {
                self.0.resize(name + 1, None);
            }
            self.0[name] = Some(value.into());
        }
    }

    pub(super) fn get(&self, name: usize) -> Option<&str> {
        self.0.get(name)?.as_deref()
    }
}
