//! What does not fit a rule: a place in a message, and the key of the rule that expects something else there.

use std::borrow::Cow;
use std::fmt;

use crate::json::Type;

/// A part of a message that `book`, `merge` or `seq` of its rule cannot use. Shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The key of the rule, such as `book.sides`.
    pub key: &'static str,
    pub expected: Cow<'static, str>,
    /// A pointer from the message, or with a `.` before it from the element of the rule's `each`. May be empty.
    pub place: String,
    pub found: &'static str,
}

/// A token in words; none: there is none.
pub fn in_words(token: Option<&str>) -> &'static str {
    token.map_or("nothing", |token| Type::of(token).a_name())
}

impl Misfit {
    /// The same, where `place` leads to the value from which its place was told.
    pub fn below(mut self, place: &str) -> Misfit {
        self.place.insert_str(0, place);
        self
    }

    /// The same from the message, where the element is at `element`.
    pub fn in_message(mut self, element: &str) -> Misfit {
        if self.place.starts_with('.') {
            self.place.replace_range(..1, element);
        }
        self
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Misfit { key, expected, place, found } = self;
        match &**place {
            "" => write!(f, "expected {expected}, found {found}; correct `{key}` of the rule"),
            place => write!(f, "expected {expected} at `{place}`, found {found}; correct `{key}` of the rule"),
        }
    }
}
