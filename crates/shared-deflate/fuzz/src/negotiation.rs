//! The parser of `Sec-WebSocket-Extensions`.

use shared_deflate::negotiate;

/// Any header is agreed on, declined or refused; what was agreed on is itself an offer of the same.
pub fn negotiate(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let whole = negotiate::negotiate(text.split('\n'));
    if let Ok(Some(agreement)) = whole {
        assert!((8..=15).contains(&agreement.window_bits()));
        assert_eq!(negotiate::negotiate([agreement.response().as_str()]), Ok(Some(agreement)));
    }
}
