//! Decoding of frames before any rule sees them: `[decode]`.

use crate::profile::keys::DECODE;
use crate::profile::optional;
use crate::profile::section::{ProfileEntry, ProfileError};

/// How frames become messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decode {
    pub binary: Binary,
    /// Each line of a frame is a message.
    pub lines: bool,
    pub format: MessageFormat,
}

/// Contents of a binary frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Binary {
    /// Nothing of use.
    Reject,
    #[default]
    Utf8,
    /// RFC 1952.
    Gzip,
    /// RFC 1950.
    Zlib,
    /// RFC 8878, without dictionaries.
    Zstd,
}

/// Format of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MessageFormat {
    #[default]
    Json,
    /// RFC 1459 with message tags of IRCv3.
    Irc,
}

impl Decode {
    /// Whether a line break ends a message.
    pub(crate) fn is_of_lines(&self) -> bool {
        self.lines || self.format == MessageFormat::Irc
    }

    pub(crate) fn read(entry: &ProfileEntry<'_>) -> Result<Decode, ProfileError> {
        let section = entry.section(DECODE)?;
        let binary = [
            ("reject", Binary::Reject),
            ("utf8", Binary::Utf8),
            ("gzip", Binary::Gzip),
            ("zlib", Binary::Zlib),
            ("zstd", Binary::Zstd),
        ];
        let format = [("json", MessageFormat::Json), ("irc", MessageFormat::Irc)];
        Ok(Decode {
            binary: optional(section.get("binary"), |entry| entry.choice(&binary))?.unwrap_or_default(),
            lines: optional(section.get("split"), |entry| entry.choice(&[("none", false), ("lines", true)]))?
                .unwrap_or_default(),
            format: optional(section.get("format"), |entry| entry.choice(&format))?.unwrap_or_default(),
        })
    }
}
