//! Who is at the other end of a connection, and who a request on it is from.
//!
//! The two differ behind a proxy: its connections carry the requests of many clients. Bounds of connections look at the
//! peer, and everything that a client may do at the client.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::HeaderMap;

use crate::edge::listen::forwarded::{self, WebScheme};
use crate::edge::settings::ProxyRules;

/// The other end of a connection; behind the PROXY protocol, the client that it names.
#[derive(Clone, Copy, Debug)]
pub(in crate::edge) struct Peer {
    /// None: a unix socket.
    address: Option<IpAddr>,
    scheme: WebScheme,
    /// Its requests may name the client that they are from.
    is_proxy: bool,
}

/// The client of one request, wherever its connection comes from.
#[derive(Clone, Copy, Debug)]
pub(in crate::edge) struct WebClient {
    /// None: it came over a unix socket, and nobody has named it. Without an address nothing is counted for it.
    pub address: Option<IpAddr>,
    pub scheme: WebScheme,
}

/// The certificate that a client has shown, for which `tls.client_ca` vouches: its subject.
#[derive(Clone, Debug)]
pub(in crate::edge) struct ClientCertificate(pub Arc<str>);

impl Peer {
    /// `address`: none for a unix socket.
    pub(crate) fn new(address: Option<IpAddr>, scheme: WebScheme, proxies: &ProxyRules) -> Peer {
        let address = address.map(|address| address.to_canonical());
        Peer { address, scheme, is_proxy: proxies.trusted.trusts(address) }
    }

    /// A proxy that asks for itself, or for a client that it does not know: nobody vouches for what its requests name.
    pub(crate) fn as_client(self) -> Peer {
        Peer { is_proxy: false, ..self }
    }

    /// None for a unix socket.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The address whose connections are counted; none for a proxy, whose connections are those of many.
    pub(crate) fn counted(&self) -> Option<IpAddr> {
        self.address.filter(|_| !self.is_proxy)
    }

    pub(crate) fn is_proxy(&self) -> bool {
        self.is_proxy
    }

    pub(crate) fn scheme(&self) -> WebScheme {
        self.scheme
    }

    /// The client of a request with these headers.
    pub(crate) fn client(&self, headers: &HeaderMap, proxies: &ProxyRules) -> WebClient {
        let Peer { address, scheme, is_proxy } = *self;
        if !is_proxy {
            return WebClient { address, scheme };
        }
        let said = forwarded::read(headers, proxies.header, &proxies.trusted, address);
        WebClient { address: said.address, scheme: said.scheme.unwrap_or(scheme) }
    }
}

/// For the log.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::settings::trusted_proxies::{ProxyHeader, TrustedProxies};

    #[test]
    fn only_a_trusted_peer_names_the_client_of_its_requests() {
        let proxies = ProxyRules {
            trusted: TrustedProxies::read("10.0.0.0/8,unix").expect("valid"),
            header: ProxyHeader::XForwardedFor,
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("192.0.2.7"));
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        for (address, client, scheme, counted) in [
            (Some("10.0.0.1"), Some("192.0.2.7"), WebScheme::Https, None),
            (Some("::ffff:10.0.0.1"), Some("192.0.2.7"), WebScheme::Https, None),
            (None, Some("192.0.2.7"), WebScheme::Https, None),
            (Some("198.51.100.1"), Some("198.51.100.1"), WebScheme::Http, Some("198.51.100.1")),
            (Some("::ffff:198.51.100.1"), Some("198.51.100.1"), WebScheme::Http, Some("198.51.100.1")),
        ] {
            let ip = |text: Option<&str>| text.map(|text| text.parse::<IpAddr>().expect(text));
            let peer = Peer::new(ip(address), WebScheme::Http, &proxies);
            let found = peer.client(&headers, &proxies);
            assert_eq!((found.address, found.scheme), (ip(client), scheme), "{address:?}");
            assert_eq!(peer.counted(), ip(counted), "{address:?}");
            let own = peer.as_client().client(&headers, &proxies);
            assert_eq!((own.address, own.scheme), (ip(address).map(|ip| ip.to_canonical()), WebScheme::Http));
        }
    }
}
