//! Connections that end before they are sessions: counted by reason, and kept in the journal of ends.

use metrics::Counter;

use crate::access::end_journal::EndJournal;
use crate::edge::listen::deadlines::Overdue;
use crate::edge::listen::peer::Peer;
use crate::edge::listen::tls::acceptor::HandshakeError;
use crate::words::metrics::{self as names, Meters};

/// What a connection got to, in the journal.
const HTTP: &str = "http";
const TLS: &str = "tls";

/// For a client whose address has used up its share of slots.
pub(super) const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
    Retry-After: 5\r\nConnection: close\r\nContent-Length: 178\r\n\r\n\
    {\"code\":\"too_many_connections\",\"message\":\"expected fewer connections from your address \
    (http.connections_per_address_max), found all of them at work; try again in a few seconds\"}";

#[derive(Clone)]
pub(in crate::edge) struct Drops {
    header: Counter,
    write: Counter,
    answer: Counter,
    /// A header of the PROXY protocol that is none, or late.
    proxy: Counter,
    /// A peer that is not trusted to send one.
    stranger: Counter,
    journal: EndJournal,
}

impl Drops {
    pub(crate) fn new(meters: &Meters, journal: EndJournal) -> Drops {
        let counter = |reason| meters.counter(&names::HTTP_DROPPED, &[("reason", reason)]);
        Drops {
            header: counter(Overdue::Header.label()),
            write: counter(Overdue::Write.label()),
            answer: counter(Overdue::Answer.label()),
            proxy: counter("proxy_header"),
            stranger: counter("proxy_untrusted"),
            journal,
        }
    }

    pub(crate) fn overdue(&self, peer: Peer, overdue: Overdue) {
        let (counter, detail) = match overdue {
            Overdue::Header => {
                (&self.header, "expected a request head in time (http.header_timeout), found none; send it at once")
            }
            Overdue::Write => (
                &self.write,
                "expected an answer to be read in time (http.write_timeout), found that it is not; read it",
            ),
            Overdue::Answer => (&self.answer, "expected to answer in time (http.answer_timeout), found no end"),
            Overdue::KeepAlive => return,
        };
        counter.increment(1);
        self.journal.refused(HTTP, overdue.label(), peer.address(), detail);
    }

    pub(crate) fn without_proxy_header(&self, peer: Peer, found: &str) {
        self.proxy.increment(1);
        let detail = format!("expected a header of the PROXY protocol, found {found}; connect through the proxy");
        self.journal.refused(HTTP, "proxy_header", peer.address(), &detail);
    }

    pub(crate) fn stranger(&self, peer: Peer) {
        self.stranger.increment(1);
        let detail = "expected a proxy of proxy.trusted, found another peer; list it there, or use another listener";
        self.journal.refused(HTTP, "proxy_untrusted", peer.address(), detail);
    }

    /// All connections of its address are at work; the table of connections counts it.
    pub(crate) fn crowded(&self, peer: Peer) {
        let detail = "expected fewer connections from the address (http.connections_per_address_max), found all of them \
                      at work; raise it, or name the proxy in proxy.trusted";
        self.journal.refused(HTTP, "too_many_connections", peer.address(), detail);
    }

    /// The acceptor counts it.
    pub(crate) fn without_tls(&self, peer: Peer, error: &HandshakeError) {
        let reason = match error {
            HandshakeError::Late => "tls_timeout",
            HandshakeError::TooMany(_) => "tls_overloaded",
            _ => "tls_failed",
        };
        let detail = format!(
            "expected a TLS handshake, found: {error}; check the certificate, who trusts it, and the client's versions"
        );
        self.journal.refused(TLS, reason, peer.address(), &detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_as_long_as_it_says() {
        let text = std::str::from_utf8(REFUSAL).expect("ASCII");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{}", body.len());
        assert!(
            serde_json::from_str::<serde_json::Value>(body).is_ok_and(|body| body["code"] == "too_many_connections")
        );
    }
}
