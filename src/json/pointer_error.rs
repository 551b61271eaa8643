//! Why a text is no pointer, and what to write instead.

use crate::json::{FROM_END_MAX, SEGMENTS_MAX, STARS_MAX};

/// Why a text is not a pointer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    #[error("expected a JSON pointer that starts with `/`, found `{text}`; write `{}`", as_pointer(.text))]
    NoSlash { text: String },
    #[error("expected `~0` (for ~) or `~1` (for /) after `~`, found `{text}`")]
    BadEscape { text: String },
    #[error("expected a JSON pointer of at most {SEGMENTS_MAX} segments, found {segments}")]
    TooDeep { segments: usize },
    #[error("expected an index from the end of at most {FROM_END_MAX}, found `{text}`")]
    TooFarBack { text: String },
    #[error("expected at most {STARS_MAX} `*` in a path, found {stars}")]
    TooManyStars { stars: usize },
}

/// What a text that is no pointer was meant to be: `$.data[0].s` and `${/data/0/s}` are `/data/0/s`.
fn as_pointer(text: &str) -> String {
    let inner = text.strip_prefix("${").and_then(|inner| inner.strip_suffix('}')).unwrap_or(text);
    let path = inner.strip_prefix('$').map(|path| path.replace(['.', '['], "/").replace(']', ""));
    format!("/{}", path.as_deref().unwrap_or(inner).trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use crate::json::Pointer;

    #[test]
    fn other_notations_are_put_right() {
        for (text, expected) in [
            ("s", "/s"),
            ("$.topic", "/topic"),
            ("$.data[0].s", "/data/0/s"),
            ("${/data/s}", "/data/s"),
            ("data.s", "/data.s"),
        ] {
            let error = Pointer::parse(text).expect_err(text).to_string();
            assert!(error.ends_with(&format!("found `{text}`; write `{expected}`")), "{error}");
        }
    }
}
