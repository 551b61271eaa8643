//! A proxy on the way to the feed: HTTP CONNECT (RFC 9110 section 9.3.6) or SOCKS5 (RFC 1928, RFC 1929). It is told the
//! feed's name, so that only the proxy has to resolve it.

use std::borrow::Cow;
use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{HOST, PROXY_AUTHORIZATION};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::net::TcpStream;
use tokio_socks::TargetAddr;
use tokio_socks::tcp::Socks5Stream;
use url::{Host, Url};

use crate::profile::target::without_secrets;

const SOCKS_PORT: u16 = 1080;
/// RFC 1929 has one byte for the length of each.
const SOCKS_CREDENTIAL_BYTES_MAX: usize = 255;

/// Why a text cannot be a proxy.
#[derive(Debug, thiserror::Error)]
#[error("upstream.proxy: expected `http://HOST:PORT` or `socks5://HOST:PORT`, found `{found}`; {remedy}")]
pub struct ProxyError {
    found: String,
    remedy: String,
}

/// Why a proxy has not opened a way to the feed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyRefusal {
    #[error("HTTP status {0}; {1}")]
    Status(StatusCode, &'static str),
    #[error("{0}; check that it speaks HTTP CONNECT at this port")]
    Http(#[from] hyper::Error),
    #[error("it sent {0} bytes before the feed could; check that it speaks HTTP CONNECT at this port")]
    Early(usize),
    #[error("{0}; {1}")]
    Socks(tokio_socks::Error, &'static str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ProxyKind {
    Http,
    Socks5,
}

/// Its address and credentials.
#[derive(Clone)]
pub(crate) struct Proxy {
    kind: ProxyKind,
    host: Host,
    port: u16,
    credentials: Option<(String, String)>,
}

impl Proxy {
    /// `http://`, `socks5://` or `socks5h://`, with user and password if need be.
    pub(crate) fn parse(text: &str) -> Result<Proxy, ProxyError> {
        let wrong = |remedy: String| ProxyError { found: without_secrets(text), remedy };
        let url = Url::parse(text).map_err(|error| wrong(format!("{error}; write it as a URL")))?;
        let kind = match url.scheme() {
            "http" => ProxyKind::Http,
            "socks5" | "socks5h" => ProxyKind::Socks5,
            "https" => return Err(wrong("TLS to the proxy itself is not spoken: write `http://`".into())),
            _ => return Err(wrong("use one of these two schemes".into())),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("name its host".into()))?;
        // The host of a scheme that is not of the Web is not parsed further with the URL.
        let host = Host::parse(host).map_err(|error| wrong(format!("{error}; name its host")))?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() {
            return Err(wrong("remove what follows the port".into()));
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials = (!url.username().is_empty() || url.password().is_some())
            .then(|| (decoded(url.username()), decoded(url.password().unwrap_or_default())));
        if let (ProxyKind::Socks5, Some((user, password))) = (kind, &credentials)
            && [user, password].iter().any(|text| !(1..=SOCKS_CREDENTIAL_BYTES_MAX).contains(&text.len()))
        {
            return Err(wrong(format!(
                "SOCKS5 wants user and password together, of 1 to {SOCKS_CREDENTIAL_BYTES_MAX} bytes each"
            )));
        }
        let port = url.port_or_known_default().unwrap_or(SOCKS_PORT);
        Ok(Proxy { kind, host, port, credentials })
    }

    pub(super) fn place(&self) -> (Host<&str>, u16) {
        let host = match &self.host {
            Host::Domain(name) => Host::Domain(name.as_str()),
            Host::Ipv4(address) => Host::Ipv4(*address),
            Host::Ipv6(address) => Host::Ipv6(*address),
        };
        (host, self.port)
    }

    /// Has the proxy connect this stream to the feed.
    pub(super) async fn tunnel(
        &self,
        stream: TcpStream,
        host: Host<&str>,
        port: u16,
    ) -> Result<TcpStream, ProxyRefusal> {
        match self.kind {
            ProxyKind::Http => self.connect(stream, format!("{host}:{port}")).await,
            ProxyKind::Socks5 => self.socks(stream, host, port).await,
        }
    }

    async fn connect(&self, stream: TcpStream, authority: String) -> Result<TcpStream, ProxyRefusal> {
        let mut request = Request::connect(&authority).header(HOST, &authority);
        if let Some((user, password)) = &self.credentials {
            let pair = BASE64_STANDARD.encode(format!("{user}:{password}"));
            request = request.header(PROXY_AUTHORIZATION, format!("Basic {pair}"));
        }
        let request = request.body(Empty::<Bytes>::new()).expect("the host of a URL and base64 are valid in a head");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = connection.with_upgrades();
        let answer = async move {
            let response = sender.send_request(request).await?;
            match response.status() {
                status if status.is_success() => Ok(hyper::upgrade::on(response).await?),
                status => Err(ProxyRefusal::Status(status, remedy(status))),
            }
        };
        tokio::pin!(answer, connection);
        let upgraded = tokio::select! {
            biased;
            answer = &mut answer => answer?,
            _ = &mut connection => answer.await?,
        };
        let parts = upgraded.downcast::<TokioIo<TcpStream>>().expect("the stream that was handed over");
        match parts.read_buf.len() {
            0 => Ok(parts.io.into_inner()),
            bytes => Err(ProxyRefusal::Early(bytes)),
        }
    }

    async fn socks(&self, stream: TcpStream, host: Host<&str>, port: u16) -> Result<TcpStream, ProxyRefusal> {
        let target = match host {
            Host::Domain(name) => TargetAddr::Domain(Cow::Borrowed(name), port),
            Host::Ipv4(address) => TargetAddr::Ip((address, port).into()),
            Host::Ipv6(address) => TargetAddr::Ip((address, port).into()),
        };
        let tunnel = match &self.credentials {
            None => Socks5Stream::connect_with_socket(stream, target).await,
            Some((user, password)) => {
                Socks5Stream::connect_with_password_and_socket(stream, target, user, password).await
            }
        };
        tunnel.map(Socks5Stream::into_inner).map_err(|error| {
            let remedy = socks_remedy(&error);
            ProxyRefusal::Socks(error, remedy)
        })
    }
}

/// For people: without credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.kind == ProxyKind::Http { "http" } else { "socks5" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

fn remedy(status: StatusCode) -> &'static str {
    match status.as_u16() {
        407 => "check user and password in `upstream.proxy`",
        403 | 405 => "have the proxy allow CONNECT to this host and port",
        502..=504 => "the proxy cannot reach the feed: check the feed's name and the proxy's own network",
        _ => "check that this is a proxy for CONNECT",
    }
}

fn socks_remedy(error: &tokio_socks::Error) -> &'static str {
    use tokio_socks::Error;
    match error {
        Error::NoAcceptableAuthMethods | Error::PasswordAuthFailure(_) | Error::AuthorizationRequired => {
            "check user and password in `upstream.proxy`"
        }
        Error::ConnectionNotAllowedByRuleset => "have the proxy allow this host and port",
        Error::NetworkUnreachable | Error::HostUnreachable | Error::ConnectionRefused | Error::TtlExpired => {
            "the proxy cannot reach the feed: check the feed's name and the proxy's own network"
        }
        _ => "check that it speaks SOCKS5 at this port",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_read_with_its_credentials_and_shown_without() {
        for (text, shown, credentials) in [
            ("http://me:a%40b@proxy.example:3128", "http://proxy.example:3128", Some(("me", "a@b"))),
            ("http://10.0.0.1/", "http://10.0.0.1:80", None),
            ("socks5://10.0.0.1", "socks5://10.0.0.1:1080", None),
            ("socks5h://me:word@[::1]:9", "socks5://[::1]:9", Some(("me", "word"))),
        ] {
            let proxy = Proxy::parse(text).expect(text);
            assert_eq!(proxy.to_string(), shown);
            let found = proxy.credentials.as_ref().map(|(user, password)| (user.as_str(), password.as_str()));
            assert_eq!(found, credentials, "{text}");
        }
        assert!(matches!(Proxy::parse("socks5://10.0.0.1").expect("a proxy").place().0, Host::Ipv4(_)));
    }

    #[test]
    fn what_is_no_proxy_is_refused_with_a_remedy_and_without_its_password() {
        for (text, part) in [
            ("https://me:secret@proxy:1", "write `http://`"),
            ("proxy:3128", "two schemes"),
            ("socks5://", "host"),
            ("http://proxy:1/path", "remove what follows the port"),
            ("socks5://me@proxy:1", "user and password together"),
        ] {
            let error = Proxy::parse(text).err().expect(text).to_string();
            assert!(error.contains(part) && error.contains("upstream.proxy") && !error.contains("secret"), "{error}");
        }
    }
}
