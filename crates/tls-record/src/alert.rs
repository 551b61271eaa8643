//! Alerts (RFC 8446 section 6): what ends a connection, told by one side to the other.

/// An alert that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertDescription {
    CloseNotify,
    UnexpectedMessage,
    BadRecordMac,
    RecordOverflow,
    DecodeError,
}

impl AlertDescription {
    /// Level and description, as they are sent.
    pub(crate) fn bytes(self) -> [u8; 2] {
        const WARNING: u8 = 1;
        const FATAL: u8 = 2;
        match self {
            AlertDescription::CloseNotify => [WARNING, CLOSE_NOTIFY],
            AlertDescription::UnexpectedMessage => [FATAL, 10],
            AlertDescription::BadRecordMac => [FATAL, 20],
            AlertDescription::RecordOverflow => [FATAL, 22],
            AlertDescription::DecodeError => [FATAL, 50],
        }
    }
}

const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;

/// What a received alert means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alert {
    /// Nothing more follows.
    Closed,
    /// It changes nothing.
    Warning,
    /// The connection is over.
    Fatal(u8),
    Malformed,
}

/// Reads the content of an alert record. Only TLS 1.2 has warnings besides `user_canceled`.
pub(crate) fn read(content: &[u8], has_warnings: bool) -> Alert {
    let &[level, description] = content else { return Alert::Malformed };
    match (level, description) {
        (_, CLOSE_NOTIFY) => Alert::Closed,
        (1, USER_CANCELED) => Alert::Warning,
        (1, _) if has_warnings => Alert::Warning,
        (1 | 2, _) => Alert::Fatal(description),
        _ => Alert::Malformed,
    }
}
