//! A client's socket with TLS: the record layer over TCP, after the handshake and the upgrade.
//!
//! A session keeps one expanded key and counters. What records are sealed in and received in is a shard's
//! ([`TlsScratch`]); of what its socket has not taken, a session keeps the rest of one record of 4 KiB, and the rest of
//! the chunk stays plaintext that all sessions share.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets, ProtocolVersion};
use tls_record::RECORD_MAX;
use tls_record::alert::AlertDescription;
use tls_record::keys::{Cipher, KeySchedule, TlsVersion, TrafficKey};
use tls_record::receiver::{ReceiveError, RecordReceiver};
use tls_record::sender::RecordSender;

/// In which a client may begin as many keys as the record layer allows.
const KEY_UPDATES_SPAN: Duration = Duration::from_secs(60);

/// Space that all sessions of a shard take turns with. Only the shard's thread uses it, so the lock is never waited for.
pub struct TlsScratch(Mutex<ScratchSpace>);

struct ScratchSpace {
    /// Sealed records on their way out.
    batch: Vec<u8>,
    /// Records that have arrived.
    incoming: Box<[u8]>,
}

impl Default for TlsScratch {
    fn default() -> TlsScratch {
        TlsScratch(Mutex::new(ScratchSpace { batch: Vec::new(), incoming: vec![0; RECORD_MAX].into() }))
    }
}

impl TlsScratch {
    fn space(&self) -> MutexGuard<'_, ScratchSpace> {
        // What a panic has left there is overwritten.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the handshake leaves: keys, and bytes that are still under way.
pub struct TlsHandover {
    pub secrets: ExtractedSecrets,
    pub connection: KernelConnection<ServerConnectionData>,
    /// Received, and not opened yet.
    pub unread: Vec<u8>,
    /// Sealed, and not sent yet.
    pub unsent: Vec<u8>,
    /// Records after which a new key is begun.
    pub records_per_key: u64,
}

pub struct TlsSocket {
    stream: TcpStream,
    sender: RecordSender,
    receiver: RecordReceiver,
    keys: RustlsKeys,
    /// What still arrives is not opened.
    forgets: bool,
    /// When the client began the first key that counts for its bound.
    key_updates_since: Option<Instant>,
}

impl fmt::Debug for TlsSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSocket").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl TlsSocket {
    /// The stream must be in non-blocking mode.
    ///
    /// # Errors
    /// The negotiated cipher is none that the record layer knows.
    pub fn new(stream: std::net::TcpStream, handover: TlsHandover) -> io::Result<TlsSocket> {
        let TlsHandover { secrets, connection, unread, unsent, records_per_key } = handover;
        let version = match connection.protocol_version() {
            ProtocolVersion::TLSv1_3 => TlsVersion::Tls13,
            _ => TlsVersion::Tls12,
        };
        let unknown = || io::Error::other("expected AES-GCM or ChaCha20-Poly1305, found another cipher");
        let (sealed, sealing) = secrets.tx;
        let (opened, opening) = secrets.rx;
        let sealing = traffic_key(version, &sealing).ok_or_else(unknown)?;
        let opening = traffic_key(version, &opening).ok_or_else(unknown)?;
        Ok(TlsSocket {
            stream: TcpStream::from_std(stream),
            sender: RecordSender::new(&sealing, sealed, records_per_key, unsent),
            receiver: RecordReceiver::new(opening, opened, unread),
            keys: RustlsKeys { connection, version },
            forgets: false,
            key_updates_since: None,
        })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Reads data; none once the client has ended its half. After `forget_inbound` it is whatever arrives, not opened.
    pub fn receive(&mut self, buffer: &mut [u8], scratch: &TlsScratch) -> io::Result<usize> {
        if self.forgets {
            return self.stream.read(buffer);
        }
        let mut space = scratch.space();
        if self.key_updates_since.is_some_and(|since| since.elapsed() > KEY_UPDATES_SPAN) {
            self.receiver.renew_key_updates();
            self.key_updates_since = None;
        }
        // Ends: records without data are bounded in number, and so is what is received before a record is whole.
        loop {
            let stream = &mut self.stream;
            let read = self.receiver.read(buffer, &mut space.incoming, &mut self.keys, |room| stream.read(room));
            let incoming = match read {
                Ok(incoming) => incoming,
                Err(ReceiveError::Io(error)) => return Err(error),
                Err(ReceiveError::Record(error)) => {
                    if let Some(alert) = error.alert() {
                        self.send_alert(alert);
                    }
                    return Err(io::Error::new(ErrorKind::InvalidData, error));
                }
            };
            if incoming.key_updates > 0 {
                self.key_updates_since.get_or_insert_with(Instant::now);
            }
            if incoming.wants_key {
                self.sender.begin_key(&mut self.keys)?;
                self.try_flush()?;
            }
            if incoming.data > 0 {
                return Ok(incoming.data);
            }
            if incoming.ended {
                return Ok(0);
            }
        }
    }

    /// Sends as much as the socket takes; returns how much of the plaintext that was.
    pub fn send(&mut self, bytes: &[u8], scratch: &TlsScratch) -> io::Result<usize> {
        let mut space = scratch.space();
        let stream = &mut self.stream;
        self.sender.write(bytes, &mut space.batch, &mut self.keys, |sealed| stream.write(sealed))
    }

    /// Sends the rest of a record.
    pub fn flush(&mut self) -> io::Result<()> {
        let stream = &mut self.stream;
        self.sender.flush(|sealed| stream.write(sealed))
    }

    pub fn has_unsent(&self) -> bool {
        self.sender.has_rest()
    }

    /// Bytes received that wait for the rest of their record, or to be read.
    pub fn pending_bytes(&self) -> usize {
        self.receiver.held_bytes()
    }

    /// Forgets what was received, and opens nothing more.
    pub fn forget_inbound(&mut self) {
        self.receiver.clear();
        self.forgets = true;
    }

    /// The key has sealed all it may, and there is no further one.
    pub fn is_worn_out(&self) -> bool {
        self.sender.is_worn_out()
    }

    /// Says that nothing more follows, as far as the socket takes it, and ends the stream.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        self.send_alert(AlertDescription::CloseNotify);
        self.stream.shutdown(Shutdown::Write)
    }

    /// The last that is sent. A client that does not take it sees the connection end.
    fn send_alert(&mut self, alert: AlertDescription) {
        self.sender.put_alert(alert);
        let _ = self.try_flush();
    }

    fn try_flush(&mut self) -> io::Result<()> {
        match self.flush() {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            flushed => flushed,
        }
    }
}

/// Derives further keys; all that is kept of rustls.
struct RustlsKeys {
    connection: KernelConnection<ServerConnectionData>,
    version: TlsVersion,
}

impl KeySchedule for RustlsKeys {
    fn next_sealing(&mut self) -> Option<TrafficKey> {
        let (_, secrets) = self.connection.update_tx_secret().ok()?;
        traffic_key(self.version, &secrets)
    }

    fn next_opening(&mut self) -> Option<TrafficKey> {
        let (_, secrets) = self.connection.update_rx_secret().ok()?;
        traffic_key(self.version, &secrets)
    }
}

fn traffic_key(version: TlsVersion, secrets: &ConnectionTrafficSecrets) -> Option<TrafficKey> {
    let (cipher, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Cipher::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Cipher::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Cipher::ChaCha20Poly1305, key, iv),
        _ => return None,
    };
    TrafficKey::new(version, cipher, key.as_ref(), iv.as_ref().try_into().ok()?)
}
