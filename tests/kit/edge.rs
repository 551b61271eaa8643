//! An edge on a port of its own, with a test in place of intake, delivery and app.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fanline::access::end_journal::EndJournal;
use fanline::access::gatekeeper::Open;
use fanline::audit::log::AuditLog;
use fanline::bus::clock::Clock;
use fanline::bus::publisher::Publisher;
use fanline::bus::retention::Retention;
use fanline::bus::shown_log::ShownLog;
use fanline::bus::signal::pulse::Vitals;
use fanline::bus::views::Views;
use fanline::bus::{self, Limits};
use fanline::delivery::handoff::Handoff;
use fanline::edge::http::terms::EdgeTerms;
use fanline::edge::parts::{Adopt, EdgeParts};
use fanline::edge::phase::Phase;
use fanline::edge::settings::{AnswerLimits, ConnectionLimits, Settings};
use fanline::edge::{Edge, exposition};
use fanline::protocol::encoding::{Payload, PayloadKind};
use fanline::settings::listener::ListenAddress;
use fanline::words::ids::Epoch;
use fanline::words::stamp::Stamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::http_client::{Answer, HttpClient};

pub const EPOCH: Epoch = Epoch(0xfee1_900d);

pub struct EdgeHarness {
    pub address: SocketAddr,
    /// The operator's, if there is one.
    pub admin: Option<SocketAddr>,
    pub publisher: Publisher,
    pub newcomers: mpsc::UnboundedReceiver<Handoff>,
    pub phase: watch::Sender<Phase>,
    pub served: JoinHandle<std::io::Result<()>>,
}

pub fn settings() -> Settings {
    let defaults = Settings::default();
    Settings {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        sessions_max: 100,
        patterns_max: 10,
        wildcards_max: 5,
        stop_timeout: Duration::from_secs(10),
        connections: ConnectionLimits {
            total_max: 100,
            files_max: 200,
            per_address_max: None,
            pending_per_address_max: None,
            header_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            requests_per_second_max: 1000,
        },
        answers: AnswerLimits { bytes_per_address_max: None, ..defaults.answers },
        ..defaults
    }
}

/// With other bounds of connections.
pub fn bounded(bound: impl FnOnce(&mut ConnectionLimits)) -> Settings {
    let mut settings = settings();
    bound(&mut settings.connections);
    settings
}

pub fn parts() -> (EdgeParts, Publisher, mpsc::UnboundedReceiver<Handoff>) {
    parts_with_ring(64)
}

pub fn parts_with_ring(ring_frames_max: usize) -> (EdgeParts, Publisher, mpsc::UnboundedReceiver<Handoff>) {
    let (meters, exposition) = exposition::recorder();
    let limits = Limits { ring_frames_max, ring_bytes_max: 1 << 20, topics_max: 100_000 };
    let (publisher, reader) = bus::open(EPOCH, limits, &meters);
    let (adopt, newcomers) = mpsc::unbounded_channel();
    let adopt_client: Adopt = Arc::new(move |newcomer| {
        // The receiver is gone only if its test is.
        let _ = adopt.send(newcomer);
    });
    (
        EdgeParts {
            views: Views::new(ShownLog::new(reader), []),
            adopt: adopt_client,
            vitals: Vitals::new(Clock::start(), Vec::new()),
            meters,
            exposition,
            audit: AuditLog::default(),
            journal: EndJournal::default(),
            admin: None,
            gatekeeper: Arc::new(Open),
            dialect: None,
            tls: None,
            relays: None,
            canary_key: None,
        },
        publisher,
        newcomers,
    )
}

impl EdgeHarness {
    pub fn open(settings: Settings) -> EdgeHarness {
        EdgeHarness::with_parts(settings, parts())
    }

    pub fn with_parts(
        settings: Settings,
        (parts, publisher, newcomers): (EdgeParts, Publisher, mpsc::UnboundedReceiver<Handoff>),
    ) -> EdgeHarness {
        let edge = Edge::bind(settings.clone(), EdgeTerms::new(&settings), parts).expect("a free port");
        let address = edge.addresses().find_map(ListenAddress::socket_addr).expect("it listens on TCP");
        let admin = edge.admin_address().and_then(ListenAddress::socket_addr);
        let (phase, phases) = watch::channel(Phase::Serving);
        let served = tokio::spawn(edge.serve(phases));
        EdgeHarness { address, admin, publisher, newcomers, phase, served }
    }

    pub fn publish(&mut self, topic: &str, data: &'static str, kind: PayloadKind) {
        let payload = Payload { bytes: Bytes::from_static(data.as_bytes()), kind };
        self.publisher
            .publish(topic, payload, Retention::NEWEST, Stamp { wall_ms: 1_700_000_000_000, mono_ns: 0 })
            .expect("published");
    }

    pub async fn get(&self, path: &str, headers: &str) -> Answer {
        HttpClient::connect(self.address).await.request("GET", path, headers).await
    }

    pub async fn upgrade(&self, query: &str, headers: &str) -> Answer {
        self.get(&format!("/v1/ws{query}"), &format!("{HANDSHAKE}{headers}")).await
    }
}

pub const HANDSHAKE: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
