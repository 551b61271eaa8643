//! Who a client is behind proxies: heads of the PROXY protocol, and headers that name addresses.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use fanline::edge::listen::forwarded::{self, Forwarding};
use fanline::edge::listen::proxy_protocol::{self, ProxiedClient};
use fanline::settings::trusted_proxies::{ProxyHeader, TrustedProxies};

/// The longest head of version 2.
const HEAD_BYTES_MAX: usize = 16 + 216 + 2048;

/// A head is read to its end and no further, whatever follows it, and is none if it breaks off anywhere.
pub fn proxy_head(input: &[u8]) {
    let (Some(client), left) = read_head(input) else { return };
    let head = &input[..input.len() - left];
    assert!((15..=HEAD_BYTES_MAX).contains(&head.len()));
    if head.starts_with(b"PROXY ") {
        assert!(head.ends_with(b"\r\n") && head.len() <= 107, "{}", head.escape_ascii());
    }
    for rest in [&b""[..], b"\r\n", b"GET / HTTP/1.1\r\n\r\n"] {
        assert_eq!(read_head(&[head, rest].concat()), (Some(client), rest.len()), "{}", head.escape_ascii());
    }
    for end in 0..head.len() {
        assert_eq!(read_head(&head[..end]).0, None, "{}", head[..end].escape_ascii());
    }
}

/// What the head says, and how many bytes follow it.
fn read_head(bytes: &[u8]) -> (Option<ProxiedClient>, usize) {
    let mut stream = bytes;
    let read = match pin!(proxy_protocol::read(&mut stream)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(read) => read,
        Poll::Pending => panic!("a slice is always ready"),
    };
    (read.ok(), stream.len())
}

/// Lines of the headers of a request. What a client itself sends in front of what its proxy adds changes nothing, once the
/// client is found.
pub fn forwarded(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    let (header, name) = match kind % 2 {
        0 => (ProxyHeader::XForwardedFor, HeaderName::from_static("x-forwarded-for")),
        _ => (ProxyHeader::Forwarded, HeaderName::from_static("forwarded")),
    };
    let lines: Option<Vec<HeaderValue>> =
        rest.split(|byte| *byte == b'\n').map(|line| HeaderValue::from_bytes(line).ok()).collect();
    let Some(lines) = lines else { return };
    let trusted = TrustedProxies::read("10.0.0.0/8,2001:db8::/32").expect("networks");
    let peer = "10.0.0.1".parse().ok();
    let read = |lines: &[HeaderValue]| -> Forwarding {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&name, line.clone());
        }
        forwarded::read(&headers, header, &trusted, peer)
    };
    let found = read(&lines);
    let address = found.address.expect("the proxy at least");
    assert_eq!(address, address.to_canonical());
    if !trusted.trusts(found.address) {
        for claimed in ["127.0.0.1", "for=127.0.0.1;proto=https", "\"", "for=\"", ",;=", ""] {
            let before = [&[HeaderValue::from_static(claimed)][..], &lines].concat();
            assert_eq!(read(&before), found, "{claimed} before {lines:?}");
        }
    }
}
