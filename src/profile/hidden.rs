//! Texts that must not appear in the log, even if a venue repeats them.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use crate::json::put_string;

/// Shorter texts are words rather than keys, and occur by chance.
const BYTES_MIN: usize = 6;
const MASK: &str = "***";
/// Texts of answers that are remembered, newest last: more than 256 connections have in force.
const LEARNT_MAX: usize = 1024;

/// Secret values, the longest first, each also in its JSON and URL forms.
#[derive(Clone, Default)]
pub(crate) struct Hidden {
    known: Arc<[String]>,
    /// Told by the venue while running. Locked for a moment, by who asks the venue and who logs.
    learnt: Arc<Mutex<VecDeque<String>>>,
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hidden({})", self.known.len())
    }
}

impl Hidden {
    pub(crate) fn new(texts: impl IntoIterator<Item = String>) -> Hidden {
        let mut all: Vec<String> = texts.into_iter().flat_map(forms).collect();
        all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.dedup();
        Hidden { known: all.into(), learnt: Arc::default() }
    }

    /// From now on this text is hidden too, for all that have a clone.
    pub(crate) fn learn(&self, text: &str) {
        let mut learnt = self.learnt.lock().expect("no holder panics");
        for form in forms(text.to_string()) {
            learnt.retain(|known| *known != form);
            learnt.push_back(form);
        }
        while learnt.len() > LEARNT_MAX {
            learnt.pop_front();
        }
    }

    /// From now on the texts of the other one are hidden too.
    pub(crate) fn learn_from(&self, other: &Hidden) {
        let learnt = other.learnt.lock().expect("no holder panics").clone();
        let texts = other.known.iter().chain(&learnt);
        let mut own = self.learnt.lock().expect("no holder panics");
        for text in texts.filter(|text| !self.known.contains(text)) {
            own.retain(|known| known != text);
            own.push_back(text.clone());
        }
        while own.len() > LEARNT_MAX {
            own.pop_front();
        }
    }

    /// The text with a mask instead of each secret in it.
    pub(crate) fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut masked = Cow::Borrowed(text);
        let learnt = self.learnt.lock().expect("no holder panics");
        for secret in self.known.iter().chain(learnt.iter()).filter(|secret| text.contains(&***secret)) {
            masked = Cow::Owned(masked.replace(&**secret, MASK));
        }
        masked
    }
}

/// A text in every form that it is sent in.
fn forms(text: String) -> Vec<String> {
    if text.len() < BYTES_MIN {
        return Vec::new();
    }
    let mut quoted = String::new();
    put_string(&mut quoted, &text);
    let queried = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    vec![quoted[1..quoted.len() - 1].to_string(), queried, text]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_in_every_form_that_it_is_sent_in() {
        let hidden = Hidden::new(["sk-live-7\"f3a9c".to_string(), "sk-live".to_string(), "k".to_string()]);
        for (text, masked) in [
            ("invalid key sk-live-7\"f3a9c!", "invalid key ***!"),
            (r#"{"key":"sk-live-7\"f3a9c"}"#, r#"{"key":"***"}"#),
            ("/ws?token=sk-live-7%22f3a9c&k", "/ws?token=***&k"),
            ("sk-live alone", "*** alone"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(hidden.mask(text), masked);
        }
        hidden.clone().learn("tok en-1");
        assert_eq!(hidden.mask("?t=tok+en-1 and tok en-1"), "?t=*** and ***");
    }
}
