//! TLS in front of a plain port, with the sockets that sessions of fanline have: for conformance suites and experiments.
//!
//! `cargo run --release --example tls_front -- LISTEN BACKEND CERTIFICATE KEY`, such as
//! `127.0.0.1:9002 127.0.0.1:9001 target/tls/certificate.pem target/tls/key.pem`. A thread for each connection; what the
//! client ends, the backend sees end, and the other way round.

#[path = "../benches/support/server_handshake.rs"]
mod server_handshake;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

use fanline::delivery::transport::client_socket::ClientSocket;
use fanline::delivery::transport::tls_socket::{TlsHandover, TlsScratch, TlsSocket};
use mio::{Events, Interest, Poll, Token};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::UnbufferedServerConnection;
use server_handshake::advance;

const BUFFER_BYTES: usize = 64 * 1024;
const RECORDS_PER_KEY: u64 = 1 << 23;
const CLIENT: Token = Token(0);
const BACKEND: Token = Token(1);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, backend, certificate, key] = &arguments[..] else {
        eprintln!("error: expected LISTEN BACKEND CERTIFICATE KEY, found {} arguments", arguments.len());
        std::process::exit(2);
    };
    let (config, listener) = match config(certificate, key).and_then(|config| Ok((config, TcpListener::bind(listen)?)))
    {
        Ok(ready) => ready,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(1);
        }
    };
    println!("TLS on {listen}, in front of {backend}");
    for client in listener.incoming().flatten() {
        let (config, backend) = (config.clone(), backend.clone());
        std::thread::spawn(move || {
            // A client that breaks off is no news.
            let _ = serve(client, &backend, config);
        });
    }
}

fn config(certificate: &str, key: &str) -> io::Result<Arc<ServerConfig>> {
    let wrong = |file: &str, found: String| io::Error::other(format!("expected PEM in `{file}`, found: {found}"));
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| wrong(certificate, error.to_string()))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error.to_string()))?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, private);
    let mut config = config.map_err(io::Error::other)?;
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

fn serve(client: TcpStream, backend: &str, config: Arc<ServerConfig>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let handover = shake_hands(&client, config)?;
    client.set_nonblocking(true)?;
    let client = ClientSocket::Tls(Box::new(TlsSocket::new(client, handover)?));
    let backend = TcpStream::connect(backend)?;
    backend.set_nodelay(true)?;
    backend.set_nonblocking(true)?;
    Link { client, backend: mio::net::TcpStream::from_std(backend), scratch: TlsScratch::default() }.carry()
}

fn shake_hands(mut client: &TcpStream, config: Arc<ServerConfig>) -> io::Result<TlsHandover> {
    let mut server = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
    loop {
        // One record at a time: what follows the handshake is for the record layer.
        let record = record_bytes(&received);
        incoming.extend(received.drain(..record.unwrap_or(0)));
        let is_done = advance(&mut server, &mut incoming, &mut outgoing).map_err(io::Error::other)?;
        client.write_all(&std::mem::take(&mut outgoing))?;
        if is_done {
            break;
        }
        if record.is_none() {
            let bytes = client.read(&mut buffer)?;
            if bytes == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            received.extend_from_slice(&buffer[..bytes]);
        }
    }
    let (secrets, connection) = server.dangerous_into_kernel_connection().map_err(io::Error::other)?;
    Ok(TlsHandover { secrets, connection, unread: received, unsent: Vec::new(), records_per_key: RECORDS_PER_KEY })
}

/// Bytes of the first record, header included, if it is there.
fn record_bytes(received: &[u8]) -> Option<usize> {
    let [_, _, _, high, low] = received.first_chunk()?;
    let bytes = 5 + usize::from(u16::from_be_bytes([*high, *low]));
    (bytes <= received.len()).then_some(bytes)
}

/// A client and its backend.
struct Link {
    client: ClientSocket,
    backend: mio::net::TcpStream,
    scratch: TlsScratch,
}

/// What was read on one side, and is not yet written on the other.
struct Held {
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    /// Nothing more will be read.
    has_ended: bool,
    /// The other side was told so.
    is_shut: bool,
}

impl Held {
    fn new() -> Held {
        Held { buffer: vec![0; BUFFER_BYTES], from: 0, to: 0, has_ended: false, is_shut: false }
    }

    /// Reads if all was written, else writes. False if neither was possible.
    fn step(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
        write: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        if self.from < self.to {
            let written = ready(write(&self.buffer[self.from..self.to]))?;
            self.from += written.unwrap_or(0);
            return Ok(written.is_some());
        }
        if self.has_ended {
            return Ok(false);
        }
        let bytes = ready(read(&mut self.buffer))?;
        (self.from, self.to) = (0, bytes.unwrap_or(0));
        self.has_ended = bytes == Some(0);
        Ok(bytes.is_some())
    }

    /// Whether the other side is to be told now that nothing more follows.
    fn shuts(&mut self) -> bool {
        let shuts = self.has_ended && self.from == self.to && !self.is_shut;
        self.is_shut |= shuts;
        shuts
    }
}

/// None if the socket is not ready.
fn ready(done: io::Result<usize>) -> io::Result<Option<usize>> {
    match done {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        done => done.map(Some),
    }
}

impl Link {
    /// Carries bytes both ways until both have ended.
    fn carry(mut self) -> io::Result<()> {
        let mut poll = Poll::new()?;
        let interests = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut self.client, CLIENT, interests)?;
        poll.registry().register(&mut self.backend, BACKEND, interests)?;
        let (mut events, mut inbound, mut outbound) = (Events::with_capacity(8), Held::new(), Held::new());
        while !(inbound.is_shut && outbound.is_shut) {
            poll.poll(&mut events, None)?;
            loop {
                let Link { client, backend, scratch } = &mut self;
                let moved = inbound.step(|room| client.receive(room, scratch), |bytes| backend.write(bytes))?;
                let answered = outbound.step(|room| backend.read(room), |bytes| client.send(bytes, scratch))?;
                if !moved && !answered {
                    break;
                }
            }
            if let Some(tls) = self.client.tls_mut() {
                ready(tls.flush().map(|()| 0))?;
            }
            if inbound.shuts() {
                self.backend.shutdown(Shutdown::Write)?;
            }
            if !self.client.tls().is_some_and(TlsSocket::has_unsent) && outbound.shuts() {
                self.client.shutdown_write()?;
            }
        }
        Ok(())
    }
}
