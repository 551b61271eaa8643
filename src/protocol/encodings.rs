//! The encodings of one frame, each made at most once; beside them its tokens: its text as each client that has the messages
//! before it can be sent it, but for the distances (`shared_deflate::token`).

use std::sync::OnceLock;

use crate::protocol::encoding::{Encoded, Encoding, Format, References};
use crate::protocol::form::FORMS_MAX;
use shared_deflate::token::Tokens;

/// Encodings of WebSocket, which come first, and those of streams after them.
const OF_WEBSOCKET: usize = 4;
const OF_STREAMS: usize = 3;
/// Formats that are compressed.
const OF_TOKENS: usize = 2;

/// The encodings of one frame, each made at most once. Written by whichever thread needs one first, while others that
/// need the same wait for it; read by all.
#[derive(Debug, Default)]
pub struct Encodings {
    of_websocket: [OnceLock<Encoded>; OF_WEBSOCKET],
    /// Few frames have them.
    others: OnceLock<Box<OtherEncodings>>,
    /// By `Format::index`, and in it by `References as usize`; none for a text that tokens cannot express. Forms have none.
    tokens: [OnceLock<Option<Box<Tokens>>>; OF_TOKENS * References::COUNT],
}

/// Encodings that few frames have.
#[derive(Debug, Default)]
struct OtherEncodings {
    of_streams: [OnceLock<Encoded>; OF_STREAMS],
    of_forms: OnceLock<Box<[OnceLock<Encoded>; FORMS_MAX]>>,
}

impl Encodings {
    pub fn get_or_make(&self, encoding: Encoding, make: impl FnOnce() -> Encoded) -> &Encoded {
        let index = encoding.index();
        let others = || self.others.get_or_init(Box::default);
        let place = match (encoding.format, index.checked_sub(OF_WEBSOCKET)) {
            (Format::Form(form), _) => &others().of_forms.get_or_init(Box::default)[usize::from(form.0)],
            (_, Some(index)) => &others().of_streams[index],
            (_, None) => &self.of_websocket[index],
        };
        place.get_or_init(make)
    }

    pub fn tokens_or_make(
        &self,
        (format, references): (Format, References),
        make: impl FnOnce() -> Option<Tokens>,
    ) -> Option<&Tokens> {
        let place = format.index() * References::COUNT + references as usize;
        self.tokens.get(place)?.get_or_init(|| make().map(Box::new)).as_deref()
    }
}
