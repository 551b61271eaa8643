//! Sends plaintext as records: sealed into a buffer that connections share, sent at once, and only the rest of the record
//! that the socket has begun to take is kept.

use std::io::{self, ErrorKind};

use crate::ContentType;
use crate::alert::AlertDescription;
use crate::keys::{KEY_UPDATE, KeySchedule, TlsVersion, TrafficKey};
use crate::sealing::Sealer;

/// Plaintext of a record that is sent. 16 KiB would save 3 % of the CPU, and a stalled client would hold four times as
/// much.
pub const CHUNK_BYTES: usize = 4096;

/// Records that are sealed before they are sent: 64 KiB, a round of a broadcast.
const BATCH_RECORDS: usize = 16;

/// Records that AES-GCM may seal with one key, by a wide margin: RFC 8446 section 5.5 allows 2^24.5 of full size.
pub const RECORDS_PER_KEY: u64 = 1 << 23;

/// Beyond this nothing is sealed where no further key can be had, which is in TLS 1.2: twice [`RECORDS_PER_KEY`], so
/// that there is time for a goodbye.
const EXHAUSTED: u64 = 2;

/// The sending half of a connection.
pub struct RecordSender {
    sealer: Sealer,
    records_per_key: u64,
    /// Sealed bytes of which the socket has taken a part, or which must go out in their order; no allocation if empty.
    rest: Vec<u8>,
}

impl RecordSender {
    /// `sequence` is the number of the next record, and `rest` was sealed before and not sent. After `records_per_key`
    /// records a new key is begun, or in TLS 1.2 the connection is worn out.
    pub fn new(key: &TrafficKey, sequence: u64, records_per_key: u64, mut rest: Vec<u8>) -> RecordSender {
        // The same as with the receiver: an idle connection holds no buffer.
        rest.shrink_to_fit();
        RecordSender { sealer: Sealer::new(key, sequence), records_per_key, rest }
    }

    /// Whether sealed bytes wait for the socket.
    pub fn has_rest(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Memory that it takes beyond its own size.
    pub fn held_bytes(&self) -> usize {
        self.rest.capacity()
    }

    /// The connection should be replaced: its key has sealed enough records and there is no further one.
    pub fn is_worn_out(&self) -> bool {
        self.sealer.version() == TlsVersion::Tls12 && self.sealer.sequence() >= self.records_per_key
    }

    /// Sends as much as `send` takes; returns how much of the plaintext that was. A record of which a part was taken
    /// counts whole, and its rest waits for [`RecordSender::flush`]. `batch` is scratch space.
    ///
    /// # Errors
    /// What `send` returns, such as `WouldBlock`: then nothing was taken. `send` must not take bytes and fail.
    pub fn write(
        &mut self,
        plaintext: &[u8],
        batch: &mut Vec<u8>,
        keys: &mut impl KeySchedule,
        mut send: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.flush(&mut send)?;
        if self.sealer.sequence() >= self.records_per_key && self.sealer.version() == TlsVersion::Tls13 {
            self.begin_key(keys)?;
            self.flush(&mut send)?;
        }
        let first = self.sealer.sequence();
        let records = match self.sealer.version() {
            TlsVersion::Tls13 => self.records_per_key - first,
            TlsVersion::Tls12 => (EXHAUSTED * self.records_per_key).saturating_sub(first),
        };
        if records == 0 {
            return Err(io::Error::other("expected a fresh connection, found one whose TLS key is worn out"));
        }
        let records = records.min(BATCH_RECORDS as u64) as usize;
        batch.clear();
        for chunk in plaintext.chunks(CHUNK_BYTES).take(records) {
            self.sealer.seal(ContentType::Data, chunk, batch);
        }
        if batch.is_empty() {
            return Ok(0);
        }
        let sent = match send(batch) {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            sent => sent,
        };
        let sent = sent.inspect_err(|_| self.sealer.rewind(first))?;
        let (mut end, mut taken, mut begun) = (0, 0, 0);
        for chunk in plaintext.chunks(CHUNK_BYTES).take(records) {
            if end >= sent {
                break;
            }
            end += self.sealer.record_bytes(chunk.len());
            taken += chunk.len();
            begun += 1;
        }
        // No byte of the records behind was sent.
        self.sealer.rewind(first + begun);
        self.rest.extend_from_slice(&batch[sent..end]);
        Ok(taken)
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// `WouldBlock` while the socket takes no more; what `send` returns.
    pub fn flush(&mut self, mut send: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        while !self.rest.is_empty() {
            match send(&self.rest)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                sent if sent == self.rest.len() => self.rest = Vec::new(),
                sent => drop(self.rest.drain(..sent)),
            }
        }
        Ok(())
    }

    /// Puts an alert behind what waits. Nothing but alerts may follow it.
    pub fn put_alert(&mut self, alert: AlertDescription) {
        self.sealer.seal(ContentType::Alert, &alert.bytes(), &mut self.rest);
    }

    /// Begins a new key, without asking the peer for one (RFC 8446 section 4.6.3). The message waits for
    /// [`RecordSender::flush`].
    ///
    /// # Errors
    /// There is no further key.
    pub fn begin_key(&mut self, keys: &mut impl KeySchedule) -> io::Result<()> {
        let missing = || io::Error::other("expected a further TLS key, found none");
        let key = keys.next_sealing().ok_or_else(missing)?;
        self.sealer.seal(ContentType::Handshake, &[KEY_UPDATE, 0, 0, 1, 0], &mut self.rest);
        self.sealer = Sealer::new(&key, 0);
        Ok(())
    }
}
