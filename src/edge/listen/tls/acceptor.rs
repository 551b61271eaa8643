//! Handshakes with clients: bounded in time and number, on threads of their own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge};
use rustls::server::UnbufferedServerConnection;
use rustls::{HandshakeKind, ProtocolVersion};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::edge::listen::tls::files::TlsFiles;
use crate::edge::listen::tls::handshake_threads::{HandshakeThreads, TooManyHandshakes};
use crate::edge::listen::tls::record_stream::{TlsSession, TlsStream};
use crate::edge::settings::TlsSettings;
use crate::words::metrics as names;
use crate::words::metrics::Meters;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(in crate::edge) enum HandshakeError {
    #[error("the client ended it")]
    Ended,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    #[error("it took longer than tls.handshake_timeout")]
    Late,
    #[error(transparent)]
    TooMany(#[from] TooManyHandshakes),
    #[error("it panicked; report this")]
    Panicked,
}

/// Makes TLS connections of TCP connections.
pub(in crate::edge) struct TlsAcceptor {
    files: Arc<TlsFiles>,
    threads: HandshakeThreads,
    timeout: Duration,
    records_per_key: u64,
    meters: HandshakeMeters,
}

struct HandshakeMeters {
    full: Counter,
    resumed: Counter,
    failed: Counter,
    late: Counter,
    overloaded: Counter,
    waiting: Gauge,
}

impl HandshakeMeters {
    fn new(meters: &Meters) -> HandshakeMeters {
        let counter =
            |result, resumed| meters.counter(&names::TLS_HANDSHAKES, &[("result", result), ("resumed", resumed)]);
        HandshakeMeters {
            full: counter("done", "false"),
            resumed: counter("done", "true"),
            failed: counter("failed", "false"),
            late: counter("timeout", "false"),
            overloaded: counter("overloaded", "false"),
            waiting: meters.gauge(&names::TLS_HANDSHAKES_WAITING, &[]),
        }
    }
}

impl TlsAcceptor {
    /// # Errors
    /// The threads could not be started.
    pub(crate) fn start(files: Arc<TlsFiles>, settings: &TlsSettings, meters: &Meters) -> io::Result<TlsAcceptor> {
        Ok(TlsAcceptor {
            files,
            threads: HandshakeThreads::start(settings.handshake_threads, settings.handshakes_waiting_max)?,
            timeout: settings.handshake_timeout,
            records_per_key: settings.records_per_key,
            meters: HandshakeMeters::new(meters),
        })
    }

    /// The handshake, from the client's first byte on. Time spent in the queue counts.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Result<Box<TlsStream>, HandshakeError> {
        let deadline = Instant::now() + self.timeout;
        let shaken = tokio::time::timeout_at(deadline, self.shake_hands(stream)).await;
        let shaken = shaken.unwrap_or(Err(HandshakeError::Late));
        match &shaken {
            Ok(tls) if tls.session().connection().handshake_kind() == Some(HandshakeKind::Resumed) => {
                self.meters.resumed.increment(1);
            }
            Ok(_) => self.meters.full.increment(1),
            Err(HandshakeError::Late) => self.meters.late.increment(1),
            Err(HandshakeError::TooMany(_)) => self.meters.overloaded.increment(1),
            Err(_) => self.meters.failed.increment(1),
        }
        shaken
    }

    async fn shake_hands(&self, stream: TcpStream) -> Result<Box<TlsStream>, HandshakeError> {
        let connection = UnbufferedServerConnection::new(self.files.config())?;
        let session = TlsSession::new(connection);
        let mut tls = Box::new(TlsStream::new(stream, session, self.records_per_key));
        while tls.receive().await? {
            let processed = if self.is_costly(&tls) {
                let step = self.threads.run(move || {
                    let processed = tls.session_mut().process();
                    (tls, processed)
                });
                let stepped = step.await;
                self.meters.waiting.set(self.threads.waiting() as f64);
                let (stepped, processed) = stepped?.ok_or(HandshakeError::Panicked)?;
                tls = stepped;
                processed
            } else {
                tls.session_mut().process()
            };
            let is_done = processed.is_ok() && !tls.session().is_handshaking();
            // In TLS 1.3 the last that is sent is a ticket, which leaves with the first answer.
            if !is_done || !is_tls13(&tls) {
                tls.send_all().await?;
            }
            processed?;
            if is_done {
                return Ok(tls);
            }
        }
        Err(HandshakeError::Ended)
    }

    /// Whether the next step has public-key work. In TLS 1.3 only the first one has, unless clients show certificates or
    /// have to begin again.
    fn is_costly(&self, tls: &TlsStream) -> bool {
        let kind = tls.session().connection().handshake_kind();
        let is_answered = matches!(kind, Some(HandshakeKind::Full | HandshakeKind::Resumed));
        self.files.asks_for_certificates() || !is_tls13(tls) || !is_answered
    }
}

fn is_tls13(tls: &TlsStream) -> bool {
    tls.session().connection().protocol_version() == Some(ProtocolVersion::TLSv1_3)
}
