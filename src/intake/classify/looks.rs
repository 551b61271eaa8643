//! What a message looks like that cannot be read: a hint for who has chosen or written the profile.

/// How texts begin that are IRC, from a server.
const IRC: [&str; 4] = ["PING :", ":tmi.twitch.tv ", "NOTICE ", "@badge-info="];

/// What a text that is not JSON looks like, with the remedy, for the end of a sentence; empty if nothing is known.
pub(crate) fn of_text(text: &str) -> &'static str {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let packet = &text[digits..];
    if text.ends_with('\u{1e}') {
        "; it looks like SignalR, which no profile describes"
    } else if (1..=3).contains(&digits) && (packet.starts_with(['{', '[', '/'])) {
        "; it looks like Socket.IO, which no profile describes"
    } else if text.starts_with("a[") {
        "; it looks like SockJS: its path `/websocket` sends plain messages"
    } else if IRC.iter().any(|begin| text.starts_with(begin)) || text.contains(" PRIVMSG #") {
        "; it looks like IRC: say `format = \"irc\"` in `[decode]`"
    } else if text.trim_end().contains('\n') && text.starts_with(['{', '[']) {
        "; it looks like several messages, a line each: say `split = \"lines\"` in `[decode]`"
    } else {
        ""
    }
}

/// The same of bytes that are not UTF-8.
pub(crate) fn of_bytes(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x1f, 0x8b, ..] => "; it looks like gzip: say `binary = \"gzip\"` in `[decode]`",
        [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => "; it looks like zlib: say `binary = \"zlib\"` in `[decode]`",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "; it looks like zstd: say `binary = \"zstd\"` in `[decode]`",
        _ => "",
    }
}

/// The key of `[decode]` in a remedy.
pub(crate) fn key(hint: &str) -> Option<String> {
    hint.split('`').nth(1).filter(|key| key.contains(" = ")).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_recognised() {
        for (text, part) in [
            ("{\"protocol\":\"json\"}\u{1e}", "SignalR"),
            ("0{\"sid\":\"x\"}", "Socket.IO"),
            ("42[\"trade\",{}]", "Socket.IO"),
            ("a[\"x\"]", "SockJS"),
            ("PING :tmi.twitch.tv\r\n", "`format = \"irc\"`"),
            (":a!a@a PRIVMSG #b :hello", "`format = \"irc\"`"),
            ("{\"a\":1}\n{\"a\":2}\n", "`split = \"lines\"`"),
            ("hello", ""),
            ("", ""),
            ("17", ""),
        ] {
            assert!(of_text(text).contains(part) && of_text(text).is_empty() == part.is_empty(), "{text}");
        }
        for (bytes, part) in [
            (&[0x1f, 0x8b, 8][..], "gzip"),
            (&[0x78, 0x9c, 1], "zlib"),
            (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
            (&[0xff], ""),
            (&[], ""),
        ] {
            assert!(of_bytes(bytes).contains(part) && of_bytes(bytes).is_empty() == part.is_empty(), "{bytes:?}");
        }
    }
}
