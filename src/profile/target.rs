//! The address of a feed: its checks, its form for the log, and its credentials.
//!
//! Venues put keys into user and password, query and path. None of them is shown.

use base64::prelude::{BASE64_STANDARD, Engine};
use percent_encoding::percent_decode_str;
use tokio_tungstenite::tungstenite::http::header::HeaderValue;
use url::{Host, Url};

/// Letters and digits of a path that count as a key: listen keys have 60, project ids 32, and words are shorter.
const KEY_CHARS_MIN: usize = 16;
/// Stands for something that is not shown.
pub const MASK: &str = "***";

/// Why a text cannot be the feed's URL. Retrying does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedUrlError {
    #[error("expected a URL such as `wss://host/path`, found `{found}`; write `{remedy}`")]
    Scheme { found: String, remedy: String },
    #[error("expected a URL such as `wss://host/path`, found `{found}`: {error}")]
    Unreadable { found: String, error: String },
    #[error("expected `user:password@` without a colon in the user (RFC 7617), found one; remove `%3A`")]
    User,
    #[error("expected a value of one line in the header `{name}`, found one that no header can hold; fix its variable")]
    Header { name: String },
}

/// The URL of a WebSocket.
#[derive(Clone, Debug)]
pub struct FeedUrl {
    url: Url,
}

impl FeedUrl {
    pub fn parse(text: &str) -> Result<FeedUrl, FeedUrlError> {
        let found = without_secrets(text);
        let instead = |scheme: &str, rest: &str| {
            let remedy = format!("{scheme}://{rest}");
            Err(FeedUrlError::Scheme { found: found.clone(), remedy })
        };
        let Some((scheme, rest)) = found.split_once("://") else { return instead("wss", &found) };
        match scheme.to_ascii_lowercase().as_str() {
            "ws" | "wss" => {}
            "http" => return instead("ws", rest),
            _ => return instead("wss", rest),
        }
        let url = Url::parse(text).map_err(|error| FeedUrlError::Unreadable { found, error: error.to_string() })?;
        if percent_decode_str(url.username()).any(|byte| byte == b':') {
            return Err(FeedUrlError::User);
        }
        Ok(FeedUrl { url })
    }

    /// The address of a request over HTTP, which is reached as the feed is.
    pub(crate) fn of_http(text: &str) -> Result<FeedUrl, FeedUrlError> {
        FeedUrl::parse(&format!("ws{}", text.strip_prefix("http").unwrap_or(text)))
    }

    /// Checks a URL that may still hold placeholders; one that begins with a placeholder is not known yet.
    pub fn check(text: &str) -> Result<(), FeedUrlError> {
        if text.starts_with("${") {
            return Ok(());
        }
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            plain.push_str(before);
            plain.push('x');
            rest = after.split_once('}').map_or("", |(_, rest)| rest);
        }
        plain.push_str(rest);
        FeedUrl::parse(&plain).map(|_| ())
    }

    /// For the log: without user, password and query, and without parts of the path that look like keys.
    pub fn shown(&self) -> String {
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}{}", self.url.scheme(), self.host(), shown_path(self.url.path()))
    }

    /// The same for a request over HTTP.
    pub(crate) fn shown_for_http(&self) -> String {
        self.shown().replacen("ws", "http", 1)
    }

    /// Path and query, as a request has them.
    pub(crate) fn path(&self) -> &str {
        &self.url[url::Position::BeforePath..url::Position::AfterQuery]
    }

    /// Host and port, as a request names them.
    pub(crate) fn authority(&self) -> &str {
        &self.url[url::Position::BeforeHost..url::Position::AfterPort]
    }

    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// The name or address to connect to; none if the URL has none.
    pub fn place(&self) -> Option<(Host<&str>, u16)> {
        Some((self.url.host()?, self.url.port_or_known_default()?))
    }

    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    pub fn is_tls(&self) -> bool {
        self.url.scheme() == "wss"
    }

    /// Takes over user and password of another URL.
    pub fn set_user_of(&mut self, other: &FeedUrl) {
        // A URL with a host can have both.
        self.url.set_username(other.url.username()).expect("a WebSocket has a host");
        self.url.set_password(other.url.password()).expect("a WebSocket has a host");
    }

    /// Whether it names this machine.
    pub fn is_here(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// Whether others can read along: without TLS, unless on this machine.
    pub fn is_overheard(&self) -> bool {
        !self.is_tls() && !self.is_here()
    }

    /// `Authorization` for the URL's user and password (RFC 7617); none if it has neither.
    pub fn authorization(&self) -> Option<HeaderValue> {
        if self.url.username().is_empty() && self.url.password().is_none() {
            return None;
        }
        let mut pair: Vec<u8> = percent_decode_str(self.url.username()).collect();
        pair.push(b':');
        pair.extend(percent_decode_str(self.url.password().unwrap_or_default()));
        let value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair)));
        let mut value = value.expect("base64 is always a header's value");
        value.set_sensitive(true);
        Some(value)
    }

    /// The parts that are not shown, to recognise them where the venue repeats them.
    pub fn secrets(&self) -> impl Iterator<Item = String> {
        let query = self.url.query_pairs().map(|(_, value)| value.into_owned());
        let path = self.url.path().split('/').filter(|segment| is_key(segment)).map(str::to_string);
        let user = [self.url.username(), self.url.password().unwrap_or_default()];
        let user = user.map(|text| percent_decode_str(text).decode_utf8_lossy().into_owned());
        query.chain(path).chain(user)
    }
}

/// A text that may be a URL, for the log: an address that a server points to, or an operator wrote.
pub fn without_secrets(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{host}{}", shown_path(path))
}

fn shown_path(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').map(|segment| if is_key(segment) { MASK } else { segment }).collect();
    segments.join("/")
}

/// Letters and digits without a break, or a longer group of them with a digit, such as a UUID.
fn is_key(segment: &str) -> bool {
    let has_run = segment.split(|c: char| !c.is_ascii_alphanumeric()).any(|run| run.len() >= KEY_CHARS_MIN);
    let grouped = segment.chars().filter(char::is_ascii_alphanumeric).count() >= KEY_CHARS_MIN;
    has_run || grouped && segment.contains(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_url_is_refused_with_the_right_one() {
        for (text, part) in [
            ("https://h/x?token=secret", "write `wss://h/x`"),
            ("https://me:secret@h/x", "write `wss://h/x`"),
            ("http://h", "write `ws://h`"),
            ("stream.example.com/ws", "write `wss://stream.example.com/ws`"),
            ("ftp://h", "write `wss://h`"),
            ("ws://", "empty host"),
            ("ws://h:99999", "port"),
            ("ws://a%3Ab:secret@h", "without a colon in the user"),
        ] {
            let error = FeedUrl::parse(text).expect_err(text).to_string();
            assert!(error.contains(part) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn a_shown_url_keeps_its_secrets() {
        for (text, shown) in [
            ("wss://user:pass@host:9/ws?token=x", "wss://host:9/ws"),
            ("wss://h/v2/0123456789abcdef0123456789ABCDEF/ws", "wss://h/v2/***/ws"),
            ("wss://h/v1/5f0c4e1a-9a77-4d3e-8f1b-0a1b2c3d4e5f", "wss://h/v1/***"),
            ("wss://h/market-data/stream/v5/public", "wss://h/market-data/stream/v5/public"),
        ] {
            assert_eq!(FeedUrl::parse(text).expect(text).shown(), shown);
        }
        assert_eq!(without_secrets("wss://u:p@other.example/ws?token=sk-live-7f3a9c#x"), "wss://other.example/ws");
        assert_eq!(without_secrets("/login?token=sk"), "/login");
    }

    #[test]
    fn user_and_password_of_the_url_become_a_header() {
        let authorization = |text: &str| FeedUrl::parse(text).expect(text).authorization();
        // The example of RFC 7617 section 2, and one with characters that a URL cannot hold as they are.
        assert_eq!(authorization("wss://Aladdin:open%20sesame@h").expect("both"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(authorization("wss://me:a%40b%3Ac@h").expect("both"), "Basic bWU6YUBiOmM=");
        assert_eq!(authorization("wss://me@h").expect("a user"), "Basic bWU6");
        assert_eq!(authorization("wss://h"), None);
    }

    #[test]
    fn only_another_machine_without_tls_is_overheard() {
        let overheard = |text: &str| FeedUrl::parse(text).expect(text).is_overheard();
        assert!(overheard("ws://feed.example/ws") && overheard("ws://10.0.0.1/"));
        assert!(!overheard("wss://feed.example/ws") && !overheard("ws://127.0.0.1:9/") && !overheard("ws://[::1]/"));
    }
}
