//! Further headers of the handshake: the profile's and the operator's.

use tokio_tungstenite::tungstenite::http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};

use crate::profile::placeholders::{Placeholder, TemplateSite};
use crate::profile::template::Template;

/// Headers by name; the values are filled in at each attempt.
pub(crate) type Headers = Vec<(HeaderName, Template<Placeholder>)>;

/// The `User-Agent`, if neither the profile nor the operator sets one.
const OURS: &str = concat!("fanline/", env!("CARGO_PKG_VERSION"));

/// The handshake's own headers, which announce what fanline can do.
const HANDSHAKE: [HeaderName; 8] = [
    CONNECTION,
    CONTENT_LENGTH,
    SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The name of a header that may be set. The error is a problem, to be reported with its place.
pub(crate) fn read_name(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::try_from(text)
        .map_err(|_| format!("expected the name of a header such as `X-Api-Key`, found `{text}`"))?;
    if HANDSHAKE.contains(&name) {
        return Err(format!("expected a header other than those of the handshake itself, found `{text}`; remove it"));
    }
    Ok(name)
}

/// The value of a header, which may hold placeholders.
pub(crate) fn read_value(text: &str) -> Result<Template<Placeholder>, String> {
    if text.contains(char::is_control) {
        return Err("expected a value of one line without control characters, found one; remove it".to_string());
    }
    Placeholder::template(text, TemplateSite::Header)
}

/// A header as in HTTP: `Name: value`. Errors do not repeat the value, which may be secret.
pub(crate) fn read_line(text: &str) -> Result<(HeaderName, Template<Placeholder>), String> {
    let Some((name, value)) = text.split_once(':') else {
        return Err("expected a header such as `X-Api-Key: ${env.MY_KEY}`, found no colon; write `Name: value`".into());
    };
    Ok((read_name(name.trim())?, read_value(value.trim())?))
}

/// All headers: the operator's override the profile's, and these override fanline's own.
pub(crate) fn together(profile: Headers, operator: Headers) -> Headers {
    let mut headers = operator;
    let own = Placeholder::template(OURS, TemplateSite::Header).map(|value| (USER_AGENT, value)).ok();
    for (name, value) in profile.into_iter().chain(own) {
        if headers.iter().all(|(other, _)| *other != name) {
            headers.push((name, value));
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_headers_override_and_a_user_agent_is_always_sent() {
        let read = |lines: &[&str]| lines.iter().map(|line| read_line(line).expect(line)).collect::<Headers>();
        let shown = |headers: Headers| {
            headers.into_iter().map(|(name, value)| format!("{name}: {}", value.source())).collect::<Vec<_>>()
        };
        assert_eq!(shown(together(read(&[]), read(&[]))), [format!("user-agent: {OURS}")]);
        let (profile, operator) = (["X-Key: a", "Origin: b"], ["x-key: ${env.KEY}", "User-Agent: c: d"]);
        assert_eq!(
            shown(together(read(&profile), read(&operator))),
            ["x-key: ${env.KEY}", "user-agent: c: d", "origin: b"]
        );
    }

    #[test]
    fn an_invalid_header_is_reported_without_its_value() {
        for (line, part) in [
            ("Secret", "found no colon"),
            ("X Key: secret", "found `X Key`"),
            (": secret", "found ``"),
            ("X-Key: sec\nret", "control characters"),
            ("Sec-WebSocket-Key: secret", "of the handshake itself"),
            ("X-Key: ${secret}", "expected one of `env.NAME`"),
        ] {
            let problem = read_line(line).expect_err(line);
            assert!(problem.contains(part), "{line}: {problem}");
        }
    }
}
