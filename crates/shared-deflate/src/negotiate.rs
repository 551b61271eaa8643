//! Negotiation of permessage-deflate (RFC 7692 section 7.1): what a client offers in `Sec-WebSocket-Extensions`, and
//! what is agreed on.
//!
//! Each agreement has `client_no_context_takeover` (section 7.1.1.2), offered or not, so that a server needs no
//! inflater for each client. The server keeps its context unless the client asks it not to (section 7.1.1.1), and
//! respects a smaller window (section 7.1.2.1). An offer that cannot be kept is declined, never half accepted.
//!
//! [`OFFER`] and [`agreed`] are the other side: a client that reads compressed messages and sends none.

use std::collections::HashSet;
use std::fmt::Write;

use crate::deflate::WINDOW_BITS_MAX;

/// Name of the extension (RFC 7692 section 7).
const EXTENSION: &str = "permessage-deflate";

/// What was agreed on for the server's messages. The client's are without context takeover in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Agreement {
    /// The client asked for `server_no_context_takeover` (RFC 7692 section 7.1.1.1): each message must stand alone.
    pub server_no_context_takeover: bool,
    /// The window that the server deflates with at most, in bits from 8 to 15, if the offer named one (RFC 7692
    /// section 7.1.2.1). The response must repeat it.
    pub server_max_window_bits: Option<u8>,
}

impl Agreement {
    /// Value of `Sec-WebSocket-Extensions` in the response (RFC 7692 section 7.1).
    pub fn response(self) -> String {
        let mut response = format!("{EXTENSION}; client_no_context_takeover");
        if self.server_no_context_takeover {
            response.push_str("; server_no_context_takeover");
        }
        if let Some(bits) = self.server_max_window_bits {
            write!(response, "; server_max_window_bits={bits}").expect("a string takes what is written");
        }
        response
    }

    /// The window that the server deflates with at most, in bits from 8 to 15.
    pub fn window_bits(self) -> u8 {
        self.server_max_window_bits.unwrap_or(WINDOW_BITS_MAX)
    }

    /// Whether the client can read messages that refer back by up to 2^`window_bits` bytes, into messages before. Only
    /// then it may board a shared window of that size.
    pub fn keeps_context(self, window_bits: u8) -> bool {
        !self.server_no_context_takeover && self.window_bits() >= window_bits
    }
}

/// A header value that breaks the grammar of RFC 6455 section 9.1; the handshake must fail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at byte {at} of `Sec-WebSocket-Extensions`, found {found}")]
pub struct ExtensionsError {
    expected: &'static str,
    /// Bytes from the start of the header value.
    at: usize,
    found: String,
}

/// What a client offers that compresses nothing itself: value of `Sec-WebSocket-Extensions` in the request.
pub const OFFER: &str = EXTENSION;

/// A server's answer to [`OFFER`] that the client must not accept: the connection must fail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// It breaks the grammar.
    #[error(transparent)]
    Malformed(#[from] ExtensionsError),
    /// It names something else, or parameters that do not exist (RFC 6455 section 4.1, RFC 7692 section 7.1).
    #[error("expected `{EXTENSION}` alone in `Sec-WebSocket-Extensions`, found another extension or parameter")]
    NotOffered,
}

/// What a server has agreed to of [`OFFER`]; none if messages are not compressed.
///
/// # Errors
/// The server has agreed to what was not offered.
pub fn agreed<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Option<Agreement>, ResponseError> {
    let mut extensions = Vec::new();
    for value in values {
        extensions.extend((Parser { value, at: 0 }).offers()?);
    }
    match &extensions[..] {
        [] => Ok(None),
        [extension] => accept(extension).map(Some).ok_or(ResponseError::NotOffered),
        _ => Err(ResponseError::NotOffered),
    }
}

/// Picks the first acceptable offer of all header values, in their order; none if every offer must be declined (RFC
/// 7692 section 5.1).
///
/// # Errors
/// A value is not a list of extensions as RFC 6455 section 9.1 defines it.
pub fn negotiate<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Option<Agreement>, ExtensionsError> {
    let mut agreement = None;
    for value in values {
        for offer in (Parser { value, at: 0 }).offers()? {
            agreement = agreement.or_else(|| accept(&offer));
        }
    }
    Ok(agreement)
}

struct Offer<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, Option<String>)>,
}

/// RFC 7692 section 7: a parameter that is unknown, repeated or has a wrong value declines the whole offer.
fn accept(offer: &Offer) -> Option<Agreement> {
    if offer.name != EXTENSION {
        return None;
    }
    let mut agreement = Agreement { server_no_context_takeover: false, server_max_window_bits: None };
    let mut seen = HashSet::new();
    for (name, value) in &offer.parameters {
        if !seen.insert(*name) {
            return None;
        }
        match (*name, value.as_deref()) {
            ("server_no_context_takeover", None) => agreement.server_no_context_takeover = true,
            ("server_max_window_bits", Some(bits)) => agreement.server_max_window_bits = Some(window_bits(bits)?),
            ("client_no_context_takeover", None) => {}
            // A hint only; whatever window the client uses can be inflated with 15 bits.
            ("client_max_window_bits", None) => {}
            ("client_max_window_bits", Some(bits)) => {
                window_bits(bits)?;
            }
            _ => return None,
        }
    }
    Some(agreement)
}

/// A decimal number from 8 to 15 without leading zeros (RFC 7692 section 7.1.2).
fn window_bits(text: &str) -> Option<u8> {
    let is_plain = matches!(text, "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15");
    text.parse().ok().filter(|_| is_plain)
}

/// Reads one header value from left to right.
struct Parser<'a> {
    value: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    /// `1#extension`; empty elements between commas are allowed (RFC 2616 section 2.1).
    fn offers(mut self) -> Result<Vec<Offer<'a>>, ExtensionsError> {
        let mut offers = Vec::new();
        loop {
            self.skip_blanks();
            match self.peek() {
                None => return Ok(offers),
                Some(b',') => self.at += 1,
                Some(_) => {
                    offers.push(self.offer()?);
                    if !matches!(self.peek(), None | Some(b',')) {
                        return Err(self.expected("`;`, `,` or the end"));
                    }
                }
            }
        }
    }

    fn offer(&mut self) -> Result<Offer<'a>, ExtensionsError> {
        let name = self.token("the name of an extension")?;
        let mut parameters = Vec::new();
        self.skip_blanks();
        while self.take(b';') {
            self.skip_blanks();
            let parameter = self.token("the name of a parameter")?;
            self.skip_blanks();
            let value = if self.take(b'=') { Some(self.parameter_value()?) } else { None };
            parameters.push((parameter, value));
            self.skip_blanks();
        }
        Ok(Offer { name, parameters })
    }

    fn parameter_value(&mut self) -> Result<String, ExtensionsError> {
        self.skip_blanks();
        if !self.take(b'"') {
            return self.token("the value of a parameter").map(str::to_string);
        }
        let mut text = String::new();
        loop {
            // What is quoted must be a token after unescaping (RFC 6455 section 9.1).
            match self.peek() {
                Some(b'"') if !text.is_empty() => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => self.at += 1,
                _ => {}
            }
            match self.peek() {
                Some(byte) if is_token_byte(byte) => text.push(char::from(byte)),
                _ => return Err(self.expected("a quoted token")),
            }
            self.at += 1;
        }
    }

    fn token(&mut self, expected: &'static str) -> Result<&'a str, ExtensionsError> {
        let first = self.at;
        while self.peek().is_some_and(is_token_byte) {
            self.at += 1;
        }
        if self.at == first {
            return Err(self.expected(expected));
        }
        Ok(&self.value[first..self.at])
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.value.as_bytes().get(self.at).copied()
    }

    fn expected(&self, expected: &'static str) -> ExtensionsError {
        let found = match self.peek() {
            Some(byte) => format!("`{}`", byte.escape_ascii()),
            None => "the end".to_string(),
        };
        ExtensionsError { expected, at: self.at, found }
    }
}

/// `token` of RFC 2616 section 2.2: no control characters, no separators.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[&str], expected: Option<&str>) {
        let agreed = negotiate(values.iter().copied()).expect("the grammar is right");
        let expected = expected.map(|parameters| format!("permessage-deflate; client_no_context_takeover{parameters}"));
        assert_eq!(agreed.map(Agreement::response), expected, "{values:?}");
    }

    #[test]
    fn the_first_acceptable_offer_is_taken_and_every_other_declined() {
        for (values, expected) in [
            (&[][..], None),
            (&[""], None),
            (&["permessage-deflate"], Some("")),
            (&["permessage-deflate; client_max_window_bits"], Some("")),
            (&["permessage-deflate;client_max_window_bits=8"], Some("")),
            (&["permessage-deflate ; client_max_window_bits = \"1\\5\" "], Some("")),
            (
                &["permessage-deflate; server_no_context_takeover; client_no_context_takeover"],
                Some("; server_no_context_takeover"),
            ),
            (&["permessage-deflate; server_max_window_bits=15"], Some("; server_max_window_bits=15")),
            (
                &[
                    "permessage-deflate; server_max_window_bits=\"9\"; server_no_context_takeover; client_max_window_bits",
                ],
                Some("; server_no_context_takeover; server_max_window_bits=9"),
            ),
            (&["permessage-deflate; server_max_window_bits"], None),
            (&["permessage-deflate; server_max_window_bits=015"], None),
            (&["permessage-deflate; server_max_window_bits=16"], None),
            (&["permessage-deflate; client_max_window_bits=7"], None),
            (&["permessage-deflate; client_max_window_bits=16"], None),
            (&["permessage-deflate; client_max_window_bits=015"], None),
            (&["permessage-deflate; server_no_context_takeover=1"], None),
            (&["permessage-deflate; client_no_context_takeover=\"true\""], None),
            (&["permessage-deflate; client_max_window_bits; client_max_window_bits"], None),
            (&["permessage-deflate; client_max_window_bits=9; client_max_window_bits=10"], None),
            (&["permessage-deflate; surprise"], None),
            (&["Permessage-Deflate"], None),
            (&["x-webkit-deflate-frame"], None),
            (&["permessage-bzip2; level=9, permessage-deflate"], Some("")),
            (&["permessage-deflate; server_max_window_bits=7, permessage-deflate"], Some("")),
            (
                &["permessage-deflate; surprise,, ,permessage-deflate; server_max_window_bits=10"],
                Some("; server_max_window_bits=10"),
            ),
            (&["permessage-deflate; surprise", "permessage-deflate"], Some("")),
            (&["permessage-deflate", "permessage-deflate; server_max_window_bits=15"], Some("")),
        ] {
            check(values, expected);
        }
    }

    #[test]
    fn a_client_accepts_what_it_offered_and_nothing_else() {
        for (values, expected) in [
            (&[][..], Ok(None)),
            (&["permessage-deflate"], Ok(Some((false, 15)))),
            (&["permessage-deflate; server_no_context_takeover; client_no_context_takeover"], Ok(Some((true, 15)))),
            (&["permessage-deflate; server_max_window_bits=10"], Ok(Some((false, 10)))),
            (&["permessage-deflate; server_max_window_bits"], Err(ResponseError::NotOffered)),
            (&["permessage-deflate; surprise"], Err(ResponseError::NotOffered)),
            (&["permessage-bzip2"], Err(ResponseError::NotOffered)),
            (&["permessage-deflate, permessage-bzip2"], Err(ResponseError::NotOffered)),
            (&["permessage-deflate", "permessage-deflate"], Err(ResponseError::NotOffered)),
        ] {
            let found = agreed(values.iter().copied());
            let found = found.map(|found| found.map(|it| (it.server_no_context_takeover, it.window_bits())));
            assert_eq!(found, expected, "{values:?}");
        }
        assert!(matches!(agreed(["permessage-deflate;"]), Err(ResponseError::Malformed(_))));
    }

    #[test]
    fn what_is_no_list_of_extensions_fails_the_handshake_and_is_named() {
        for (value, part) in [
            (";", "the name of an extension at byte 0"),
            ("permessage-deflate;", "the name of a parameter at byte 19"),
            ("permessage-deflate; a=", "the value of a parameter at byte 22"),
            ("permessage-deflate; a=\"", "a quoted token at byte 23"),
            ("permessage-deflate; a=\"\"", "a quoted token at byte 23"),
            ("permessage-deflate; a=\"1 5\"", "a quoted token at byte 24"),
            ("permessage-deflate; a=\"15", "a quoted token at byte 25"),
            ("permessage-deflate; a=\"15\\", "a quoted token at byte 26"),
            ("permessage-deflate client_max_window_bits", "`;`, `,` or the end at byte 19"),
            ("permessage-deflate; a=1 b", "`;`, `,` or the end at byte 24"),
            ("permessage-déflate", "at byte 12"),
        ] {
            let error = negotiate([value]).expect_err(value).to_string();
            assert!(error.contains(part), "{value}: {error}");
        }
    }

    #[test]
    fn a_window_is_shared_only_with_clients_that_can_look_back_as_far() {
        for (offer, bits, expected) in [
            ("permessage-deflate", 15, true),
            ("permessage-deflate; server_max_window_bits=15", 15, true),
            ("permessage-deflate; server_max_window_bits=14", 15, false),
            ("permessage-deflate; server_max_window_bits=14", 14, true),
            ("permessage-deflate; server_no_context_takeover", 9, false),
        ] {
            let agreement = negotiate([offer]).expect("the grammar is right").expect("an acceptable offer");
            assert_eq!(agreement.keeps_context(bits), expected, "{offer}, {bits} bits");
        }
    }

    #[test]
    fn a_broken_header_fails_even_after_an_acceptable_offer() {
        assert!(negotiate(["permessage-deflate", "permessage-deflate;"]).is_err());
    }
}
