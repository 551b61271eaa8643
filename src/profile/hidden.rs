//! Texts that must not appear in the log, even if a venue repeats them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::json::put_string;

/// Shorter texts are words rather than keys, and occur by chance.
const BYTES_MIN: usize = 6;
const MASK: &str = "***";

/// Secret values, the longest first, each also in its JSON and URL forms.
#[derive(Clone, Default)]
pub(crate) struct Hidden(Arc<[String]>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hidden({})", self.0.len())
    }
}

impl Hidden {
    pub(crate) fn new(texts: impl IntoIterator<Item = String>) -> Hidden {
        let mut all: Vec<String> = Vec::new();
        for text in texts.into_iter().filter(|text| text.len() >= BYTES_MIN) {
            let mut quoted = String::new();
            put_string(&mut quoted, &text);
            all.push(quoted[1..quoted.len() - 1].to_string());
            all.push(url::form_urlencoded::byte_serialize(text.as_bytes()).collect());
            all.push(text);
        }
        all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.dedup();
        Hidden(all.into())
    }

    /// The text with a mask instead of each secret in it.
    pub(crate) fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut masked = Cow::Borrowed(text);
        for secret in self.0.iter().filter(|secret| text.contains(&***secret)) {
            masked = Cow::Owned(masked.replace(&**secret, MASK));
        }
        masked
    }
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
    }
}
