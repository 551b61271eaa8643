//! A TLS connection up to its upgrade: rustls above a TCP stream whose bytes are ours, so that nothing that was read
//! ahead is lost when the keys leave.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::delivery::transport::client_socket::ClientSocket;
use crate::delivery::transport::tls_socket::{TlsHandover, TlsSocket};

/// Bytes read at once before the upgrade: a handshake, a request.
const READ_BYTES: usize = 4096;
/// Received and not understood: a handshake message of 64 KiB, in records. rustls accepts no longer one.
const INCOMING_MAX: usize = 80 * 1024;
/// Sealed and not sent; beyond it nothing is sealed. An answer waits as plaintext.
const OUTGOING_MAX: usize = 64 * 1024;
/// Plaintext sealed at once.
const SEAL_BYTES: usize = 16 * 1024;

/// What is to be sealed.
enum Outbound<'a> {
    Nothing,
    Data(&'a [u8]),
    CloseNotify,
}

/// rustls, and the bytes on their way to it and from it. rustls remembers places in `incoming`, so it is always given all
/// of it, and what it discards is removed before its next turn.
pub(in crate::edge) struct TlsSession {
    connection: UnbufferedServerConnection,
    /// Received, and not processed.
    incoming: Vec<u8>,
    /// Opened, and not read, from `plain_at` on.
    plain: Vec<u8>,
    plain_at: usize,
    /// Sealed, and not sent.
    outgoing: Vec<u8>,
    /// The peer sends nothing more.
    has_ended: bool,
}

impl TlsSession {
    pub(crate) fn new(connection: UnbufferedServerConnection) -> TlsSession {
        TlsSession {
            connection,
            incoming: Vec::new(),
            plain: Vec::new(),
            plain_at: 0,
            outgoing: Vec::new(),
            has_ended: false,
        }
    }

    pub(crate) fn connection(&self) -> &UnbufferedServerConnection {
        &self.connection
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Processes what has arrived; what is to be sent is ready afterwards, an alert for the error included.
    pub(crate) fn process(&mut self) -> Result<(), rustls::Error> {
        let processed = self.advance(Outbound::Nothing);
        if processed.is_err() {
            self.collect_alert();
        }
        processed
    }

    /// Seals data, if it may be sent already.
    fn seal(&mut self, data: &[u8]) -> Result<(), rustls::Error> {
        self.advance(Outbound::Data(data))
    }

    fn advance(&mut self, mut outbound: Outbound<'_>) -> Result<(), rustls::Error> {
        loop {
            let UnbufferedStatus { discard, state, .. } = self.connection.process_tls_records(&mut self.incoming);
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    self.incoming.drain(..discard);
                    return Err(error);
                }
            };
            let is_done = match state {
                ConnectionState::EncodeTlsData(mut record) => {
                    append(&mut self.outgoing, 0, |room| match record.encode(room) {
                        Err(EncodeError::InsufficientSize(missing)) => Err(Some(missing)),
                        encoded => encoded.map_err(|_| None),
                    })?;
                    false
                }
                ConnectionState::TransmitTlsData(records) => {
                    records.done();
                    false
                }
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        self.plain.extend_from_slice(record?.payload);
                    }
                    false
                }
                ConnectionState::WriteTraffic(mut traffic) => {
                    match std::mem::replace(&mut outbound, Outbound::Nothing) {
                        Outbound::Data(data) => {
                            append(&mut self.outgoing, data.len() + READ_BYTES, |room| {
                                traffic.encrypt(data, room).map_err(room_missing)
                            })?;
                            false
                        }
                        Outbound::CloseNotify => {
                            append(&mut self.outgoing, 0, |room| {
                                traffic.queue_close_notify(room).map_err(room_missing)
                            })?;
                            true
                        }
                        Outbound::Nothing => true,
                    }
                }
                ConnectionState::PeerClosed => {
                    self.has_ended = true;
                    false
                }
                ConnectionState::Closed => {
                    self.has_ended = true;
                    true
                }
                // Early data is not enabled.
                _ => true,
            };
            self.incoming.drain(..discard);
            if is_done {
                return Ok(());
            }
        }
    }

    /// After an error rustls has records to send: an alert, and what must come before it.
    fn collect_alert(&mut self) {
        loop {
            let UnbufferedStatus { discard, state, .. } = self.connection.process_tls_records(&mut self.incoming);
            let encoded = match state {
                Ok(ConnectionState::EncodeTlsData(mut record)) => {
                    append(&mut self.outgoing, 0, |room| match record.encode(room) {
                        Err(EncodeError::InsufficientSize(missing)) => Err(Some(missing)),
                        encoded => encoded.map_err(|_| None),
                    })
                }
                // What is not understood stays unread.
                _ => Err(rustls::Error::HandshakeNotComplete),
            };
            self.incoming.drain(..discard);
            // Without the alert the peer only sees the connection end.
            if encoded.is_err() {
                return;
            }
        }
    }

    fn end_writing(&mut self) {
        // Without it the peer only sees the connection end.
        let _ = self.advance(Outbound::CloseNotify);
    }
}

fn room_missing(error: EncryptError) -> Option<InsufficientSizeError> {
    match error {
        EncryptError::InsufficientSize(missing) => Some(missing),
        EncryptError::EncryptExhausted => None,
    }
}

/// Lets `write` append to `out`; it says how much room it needs.
fn append(
    out: &mut Vec<u8>,
    expected: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> Result<(), rustls::Error> {
    let (start, mut room) = (out.len(), expected);
    loop {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(Some(missing)) if missing.required_size > room => room = missing.required_size,
            Err(_) => {
                out.truncate(start);
                return Err(rustls::Error::EncryptError);
            }
        }
    }
}

/// The session and its TCP stream.
pub(in crate::edge) struct TlsStream {
    stream: TcpStream,
    session: TlsSession,
    records_per_key: u64,
    has_shut_down: bool,
}

impl TlsStream {
    pub(crate) fn new(stream: TcpStream, session: TlsSession, records_per_key: u64) -> TlsStream {
        TlsStream { stream, session, records_per_key, has_shut_down: false }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn session(&self) -> &TlsSession {
        &self.session
    }

    /// The session leaves for a handshake thread and returns by `put_back`.
    pub(crate) fn session_mut(&mut self) -> &mut TlsSession {
        &mut self.session
    }

    /// Reads more of the handshake. False if the peer has gone.
    pub(crate) async fn receive(&mut self) -> io::Result<bool> {
        std::future::poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// Sends all that is sealed.
    pub(crate) async fn send_all(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_send(cx)).await
    }

    /// Leaves tokio's reactor with the keys. Returns what was opened and not read.
    pub(crate) fn into_client_socket(self) -> io::Result<(ClientSocket, Vec<u8>)> {
        let TlsSession { connection, incoming, mut plain, plain_at, outgoing, .. } = self.session;
        plain.drain(..plain_at);
        let (secrets, connection) = connection.dangerous_into_kernel_connection().map_err(io::Error::other)?;
        let records_per_key = self.records_per_key;
        let handover = TlsHandover { secrets, connection, unread: incoming, unsent: outgoing, records_per_key };
        let socket = TlsSocket::new(self.stream.into_std()?, handover)?;
        Ok((ClientSocket::Tls(Box::new(socket)), plain))
    }

    /// Leaves tokio's reactor. What is given, called within another runtime, is the same stream there.
    pub(crate) fn detach(self) -> io::Result<impl FnOnce() -> io::Result<TlsStream> + Send + 'static> {
        let TlsStream { stream, session, records_per_key, has_shut_down } = self;
        let stream = stream.into_std()?;
        Ok(move || {
            let stream = TcpStream::from_std(stream)?;
            Ok(TlsStream { stream, session, records_per_key, has_shut_down })
        })
    }

    /// Takes bytes from the socket. False if there will be none.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let incoming = &mut self.session.incoming;
        if incoming.len() + READ_BYTES > INCOMING_MAX {
            return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, "a TLS message is too long")));
        }
        let held = incoming.len();
        incoming.resize(held + READ_BYTES, 0);
        let mut room = ReadBuf::new(&mut incoming[held..]);
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut room);
        let end = held + room.filled().len();
        incoming.truncate(end);
        ready!(read)?;
        Poll::Ready(Ok(end > held))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outgoing = &mut self.session.outgoing;
        while !outgoing.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, outgoing))?;
            if sent == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            outgoing.drain(..sent);
        }
        // An idle connection holds no buffer.
        *outgoing = Vec::new();
        Poll::Ready(Ok(()))
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

impl AsyncRead for TlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let session = &mut this.session;
            if session.plain_at < session.plain.len() {
                let read = buf.remaining().min(session.plain.len() - session.plain_at);
                buf.put_slice(&session.plain[session.plain_at..session.plain_at + read]);
                session.plain_at += read;
                if session.plain_at == session.plain.len() {
                    (session.plain, session.plain_at) = (Vec::new(), 0);
                }
                return Poll::Ready(Ok(()));
            }
            if session.has_ended {
                return Poll::Ready(Ok(()));
            }
            if !ready!(this.poll_receive(cx))? {
                this.session.has_ended = true;
                return Poll::Ready(Ok(()));
            }
            let processed = this.session.process();
            // An alert, or the answer to a KeyUpdate. What the socket does not take now leaves with the next write.
            let sent = this.poll_send(cx);
            processed.map_err(invalid)?;
            if let Poll::Ready(sent) = sent {
                sent?;
            }
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.session.outgoing.len() >= OUTGOING_MAX
            && this.poll_send(cx)?.is_pending()
            && this.session.outgoing.len() >= OUTGOING_MAX
        {
            return Poll::Pending;
        }
        let taken = bytes.len().min(SEAL_BYTES);
        this.session.seal(&bytes[..taken]).map_err(invalid)?;
        if let Poll::Ready(sent) = this.poll_send(cx) {
            sent?;
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.has_shut_down {
            this.session.end_writing();
            this.has_shut_down = true;
        }
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
