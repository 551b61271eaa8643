//! The client's address and scheme as trusted proxies name them: `X-Forwarded-For`, or `Forwarded` (RFC 7239).
//!
//! A list is read from its end, which the nearest proxy wrote. Each proxy that is trusted vouches for the item before its
//! own; what stands before the first untrusted one is whatever that one chose to say, and is not looked at. An item that
//! is no address ends the walk at the proxy that wrote it.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName};

use crate::settings::trusted_proxies::{ProxyHeader, TrustedProxies};

/// Proxies in a row: more than any path has, and few enough to cost nothing.
const HOPS_MAX: usize = 32;

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How the client reached the first proxy, or the server itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebScheme {
    Http,
    Https,
}

/// What a request says about its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarding {
    pub address: Option<IpAddr>,
    pub scheme: Option<WebScheme>,
}

/// Reads the headers of a request from `peer`, which is trusted.
pub fn read(headers: &HeaderMap, header: ProxyHeader, trusted: &TrustedProxies, peer: Option<IpAddr>) -> Forwarding {
    match header {
        ProxyHeader::None => Forwarding { address: peer, scheme: None },
        ProxyHeader::XForwardedFor => {
            let items = items(headers, &X_FORWARDED_FOR);
            let hops = items.iter().rev().map(|item| node(item));
            // Proxies disagree whether to append; the last one is the nearest proxy's own.
            let proto = items_of(headers, &X_FORWARDED_PROTO).last().and_then(scheme);
            Forwarding { address: walk(hops, trusted, peer).0, scheme: proto }
        }
        ProxyHeader::Forwarded => {
            let elements = items(headers, &FORWARDED);
            let hops = elements.iter().rev().map(|element| parameter(element, "for").and_then(|text| node(&text)));
            let (address, walked) = walk(hops, trusted, peer);
            let proto =
                elements.iter().rev().nth(walked.saturating_sub(1)).and_then(|element| parameter(element, "proto"));
            Forwarding { address, scheme: proto.and_then(|text| scheme(&text)) }
        }
    }
}

/// The first address from the end whose owner is not trusted, and how many items were walked to it.
fn walk(
    hops: impl Iterator<Item = Option<IpAddr>>,
    trusted: &TrustedProxies,
    peer: Option<IpAddr>,
) -> (Option<IpAddr>, usize) {
    let (mut client, mut walked) = (peer, 0);
    for hop in hops.take(HOPS_MAX) {
        let Some(address) = hop else { break };
        (client, walked) = (Some(address), walked + 1);
        if !trusted.trusts(client) {
            break;
        }
    }
    (client, walked)
}

/// Items of all lines of a header, in order; commas in quotes do not count. A line that is not ASCII is one item, which
/// is no address.
fn items<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Vec<&'h str> {
    items_of(headers, name).collect()
}

fn items_of<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).into_iter().map(|line| line.to_str().unwrap_or_default());
    lines.flat_map(|line| split(line, ',').into_iter().map(str::trim))
}

/// Splits at a separator outside of quoted strings.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let is_separator = |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return c == separator && !quoted,
        }
        false
    };
    text.split(is_separator).collect()
}

/// A parameter of an element of `Forwarded`, without its quotes; none if it is not there exactly once.
fn parameter(element: &str, name: &str) -> Option<String> {
    let pairs = split(element, ';').into_iter().filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
    let (value, None) = (values.next()?, values.next()) else { return None };
    let Some(rest) = value.strip_prefix('"') else { return Some(value.into()) };
    let inner = rest.strip_suffix('"')?;
    // Neither an address nor a scheme holds what would need an escape.
    (!inner.contains(['"', '\\'])).then(|| inner.into())
}

/// `192.0.2.7`, `192.0.2.7:4711`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:4711`.
fn node(text: &str) -> Option<IpAddr> {
    let is_port = |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    let address = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
                return None;
            }
            IpAddr::V6(address.parse().ok()?)
        }
        None => match text.split_once(':') {
            Some((address, port)) if !port.contains(':') => IpAddr::V4(address.parse().ok().filter(|_| is_port(port))?),
            _ => text.parse().ok()?,
        },
    };
    Some(address.to_canonical())
}

fn scheme(text: &str) -> Option<WebScheme> {
    match text.to_ascii_lowercase().as_str() {
        "https" | "wss" => Some(WebScheme::Https),
        "http" | "ws" => Some(WebScheme::Http),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn forwarding(header: ProxyHeader, lines: &[(HeaderName, &str)]) -> Forwarding {
        let mut headers = HeaderMap::new();
        for (name, line) in lines {
            headers.append(name, HeaderValue::from_bytes(line.as_bytes()).expect(line));
        }
        let trusted = TrustedProxies::read("10.0.0.0/8,2001:db8::/32").expect("valid");
        read(&headers, header, &trusted, PROXY.parse().ok())
    }

    #[test]
    fn the_last_address_that_is_not_of_a_trusted_proxy_is_the_client() {
        for (lines, expected) in [
            (&[][..], PROXY),
            (&["192.0.2.7"], "192.0.2.7"),
            (&["192.0.2.7, 10.0.0.2"], "192.0.2.7"),
            // What the client itself has sent stands before what the proxy added.
            (&["127.0.0.1, 192.0.2.7"], "192.0.2.7"),
            (&["10.9.9.9, 192.0.2.7, 10.0.0.2"], "192.0.2.7"),
            (&["192.0.2.1", "192.0.2.7"], "192.0.2.7"),
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (&["192.0.2.7:4711"], "192.0.2.7"),
            (&["[2001:db9::1]:4711"], "2001:db9::1"),
            (&["[2001:db9::1]"], "2001:db9::1"),
            (&["2001:db9::1"], "2001:db9::1"),
            (&["192.0.2.7, 2001:db8::5"], "192.0.2.7"),
            (&["::ffff:192.0.2.7"], "192.0.2.7"),
            (&[" 192.0.2.7\t"], "192.0.2.7"),
            // No address: the proxy that wrote it vouches for nobody.
            (&["unknown"], PROXY),
            (&["192.0.2.7, unknown"], PROXY),
            (&["192.0.2.7, unknown, 10.0.0.2"], "10.0.0.2"),
            (&["192.0.2.7,"], PROXY),
            (&[""], PROXY),
            (&["192.0.2.7", ""], PROXY),
            (&["192.0.2.7\u{e4}"], PROXY),
            (&["192.0.2.7:"], PROXY),
            (&["192.0.2.7:99999999"], PROXY),
            (&["192.0.2.7:-1"], PROXY),
            (&["[192.0.2.7]"], PROXY),
            (&["[2001:db9::1"], PROXY),
            (&["[2001:db9::1]x"], PROXY),
            (&["[2001:db9::1]:"], PROXY),
            (&["2001:db9::1%eth0"], PROXY),
            (&["192.0.2.07"], PROXY),
            (&["0xc0000207"], PROXY),
            (&["3221225991"], PROXY),
            (&["<script>"], PROXY),
            (&["\"192.0.2.7\""], PROXY),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| (X_FORWARDED_FOR, *line)).collect();
            let found = forwarding(ProxyHeader::XForwardedFor, &lines);
            assert_eq!(found.address, expected.parse().ok(), "{lines:?}");
            assert_eq!(forwarding(ProxyHeader::Forwarded, &lines).address, PROXY.parse().ok(), "another header");
            assert_eq!(forwarding(ProxyHeader::None, &lines).address, PROXY.parse().ok(), "no header");
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        use WebScheme::{Http, Https};
        for (lines, expected, scheme) in [
            (&[][..], PROXY, None),
            (&["for=192.0.2.43"], "192.0.2.43", None),
            (&["For=\"[2001:db9:cafe::17]:4711\""], "2001:db9:cafe::17", None),
            (&["for=192.0.2.60;proto=http;by=203.0.113.43"], "192.0.2.60", Some(Http)),
            (&["proto=https; FOR=\"192.0.2.60:80\""], "192.0.2.60", Some(Https)),
            (&["for=192.0.2.43, for=198.51.100.17"], "198.51.100.17", None),
            (&["for=192.0.2.43;proto=https, for=10.0.0.2;proto=http"], "192.0.2.43", Some(Https)),
            (&["for=192.0.2.43;proto=https", "for=10.0.0.2;proto=http"], "192.0.2.43", Some(Https)),
            // Whatever the client has said about its scheme does not count.
            (&["for=10.0.0.2;proto=https, for=192.0.2.43"], "192.0.2.43", None),
            (&["proto=https"], PROXY, Some(Https)),
            (&["for=_hidden"], PROXY, None),
            (&["for=unknown;proto=https"], PROXY, Some(Https)),
            (&["for=\"_gazonk\""], PROXY, None),
            (&["for=\"192.0.2.1, for=192.0.2.2\""], PROXY, None),
            (&["for=\"192.0.2.1\\\", for=192.0.2.2"], PROXY, None),
            (&["for=192.0.2.1;for=192.0.2.2"], PROXY, None),
            (&["for=\"192.0.2.1"], PROXY, None),
            (&["for=2001:db9::1"], "2001:db9::1", None),
            (&["by=192.0.2.1"], PROXY, None),
            (&["=192.0.2.1"], PROXY, None),
            (&[";;;,,,"], PROXY, None),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| (FORWARDED, *line)).collect();
            let found = forwarding(ProxyHeader::Forwarded, &lines);
            assert_eq!(found, Forwarding { address: expected.parse().ok(), scheme }, "{lines:?}");
        }
    }

    #[test]
    fn the_nearest_proxy_names_the_scheme() {
        for (lines, expected) in [
            (&[][..], None),
            (&["https"], Some(WebScheme::Https)),
            (&["HTTP"], Some(WebScheme::Http)),
            (&["http, https"], Some(WebScheme::Https)),
            (&["https", "http"], Some(WebScheme::Http)),
            (&["ftp"], None),
            (&["https,"], None),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| (X_FORWARDED_PROTO, *line)).collect();
            assert_eq!(forwarding(ProxyHeader::XForwardedFor, &lines).scheme, expected, "{lines:?}");
        }
    }

    #[test]
    fn a_long_list_is_walked_in_bounded_steps() {
        let line = vec!["10.0.0.9"; 4000].join(",");
        let line = format!("192.0.2.7,{line}");
        let found = forwarding(ProxyHeader::XForwardedFor, &[(X_FORWARDED_FOR, &line)]);
        assert_eq!(found.address, "10.0.0.9".parse().ok(), "the walk ends at a trusted proxy");
    }
}
