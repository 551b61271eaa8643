//! Records of TLS, from a client that may have the key or not.

use std::io::ErrorKind;

use ring::aead::{Aad, Nonce};
use tls_record::keys::{Cipher, KeySchedule, TlsVersion, TrafficKey};
use tls_record::opening::{Opener, RecordError, record_bytes};
use tls_record::receiver::{ReceiveError, RecordReceiver};
use tls_record::sealing::Sealer;
use tls_record::{ContentType, HEADER_BYTES, PLAINTEXT_MAX, RECORD_MAX};

const CIPHERS: [Cipher; 3] = [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305];

/// Repeats of a content, so that few bytes of input fill a record.
const REPEATS: usize = 64;

/// The keys of one client, by number.
struct Keys {
    version: TlsVersion,
    cipher: Cipher,
    opening: u8,
}

impl Keys {
    fn key(&self) -> TrafficKey {
        let bytes = if self.cipher == Cipher::Aes128Gcm { 16 } else { 32 };
        let key = TrafficKey::new(self.version, self.cipher, &[self.opening; 32][..bytes], [7; 12]);
        key.expect("a key of the cipher's size")
    }
}

impl KeySchedule for Keys {
    fn next_sealing(&mut self) -> Option<TrafficKey> {
        unreachable!("a receiver seals nothing")
    }

    fn next_opening(&mut self) -> Option<TrafficKey> {
        if self.version == TlsVersion::Tls12 {
            return None;
        }
        self.opening = self.opening.wrapping_add(1);
        Some(self.key())
    }
}

/// What a client does, in its order.
enum Act {
    /// Bytes as they are.
    Raw,
    Sealed(ContentType),
    /// Content with its type and padding, sealed; TLS 1.3 only.
    Inner,
}

/// The first bytes choose version, cipher, the reader's buffer and the bytes that arrive at a time; then come acts, each
/// of a kind, a length and so many bytes. What is read is what was sealed, in order; nothing is held that has no bound,
/// and after an error nothing is read.
pub fn tls_record(input: &[u8]) {
    let [kind, buffer_bytes, piece, rest @ ..] = input else { return };
    let version = if kind & 1 == 0 { TlsVersion::Tls13 } else { TlsVersion::Tls12 };
    let mut keys = Keys { version, cipher: CIPHERS[usize::from(kind >> 1) % 3], opening: 0 };
    let mut receiver = RecordReceiver::new(keys.key(), 0, Vec::new());
    let mut sealer = Sealer::new(&keys.key(), 0);
    let (mut buffer, mut scratch) = (vec![0; 1 + usize::from(*buffer_bytes) * 16], vec![0; RECORD_MAX]);
    let (mut sealed_data, mut read_data, mut only_data, mut rest) = (Vec::new(), Vec::new(), true, rest);
    while let [kind, length, following @ ..] = rest {
        let (content, following) = following.split_at(usize::from(*length).min(following.len()));
        rest = following;
        let repeats = if *kind >= 128 { REPEATS } else { 1 };
        let content = content.repeat(repeats);
        let act = match kind % 5 {
            0 => Act::Raw,
            1 => Act::Sealed(ContentType::Data),
            2 => Act::Sealed(ContentType::Alert),
            3 => Act::Sealed(ContentType::Handshake),
            _ if version == TlsVersion::Tls13 => Act::Inner,
            _ => Act::Sealed(ContentType::Data),
        };
        let mut wire = Vec::new();
        only_data &= matches!(act, Act::Sealed(ContentType::Data)) && !content.is_empty();
        match act {
            Act::Raw => {
                if let Ok(Some(bytes)) = record_bytes(&content) {
                    assert!(bytes <= RECORD_MAX && content.len() >= HEADER_BYTES);
                }
                wire = content;
            }
            Act::Sealed(kind) => {
                sealer.seal(kind, &content, &mut wire);
                if kind == ContentType::Data {
                    sealed_data.extend_from_slice(&content);
                }
            }
            Act::Inner => {
                let end = content.iter().rposition(|byte| *byte != 0);
                if let Some(end) = end.filter(|end| content[*end] == 23) {
                    sealed_data.extend_from_slice(&content[..end]);
                }
                wire = sealed_inner(&keys, sealer.sequence(), content);
                // The number is used up.
                sealer = Sealer::new(&keys.key(), sealer.sequence() + 1);
            }
        }
        let generation = keys.opening;
        let mut wire = &wire[..];
        loop {
            let read = receiver.read(&mut buffer, &mut scratch, &mut keys, |room| {
                assert!(!room.is_empty());
                let taken = ((1 + usize::from(*piece)) * repeats).min(room.len()).min(wire.len());
                if taken == 0 {
                    return Err(ErrorKind::WouldBlock.into());
                }
                room[..taken].copy_from_slice(&wire[..taken]);
                wire = &wire[taken..];
                Ok(taken)
            });
            assert!(receiver.held_bytes() <= RECORD_MAX + PLAINTEXT_MAX, "{} bytes held", receiver.held_bytes());
            match read {
                Ok(incoming) => {
                    read_data.extend_from_slice(&buffer[..incoming.data]);
                    assert!(sealed_data.starts_with(&read_data), "what was read was never sealed");
                    if incoming.ended {
                        assert!(!only_data, "nobody has ended the connection");
                        return;
                    }
                }
                Err(ReceiveError::Io(error)) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
                Err(ReceiveError::Record(error)) => {
                    assert!(!only_data, "good data was refused: {error}");
                    assert_eq!(error.alert().is_none(), matches!(error, RecordError::Alert(_)));
                    let after = receiver.read(&mut buffer, &mut scratch, &mut keys, |_| unreachable!("it is over"));
                    assert!(after.is_ok_and(|incoming| incoming.ended && incoming.data == 0));
                    assert_eq!(receiver.held_bytes(), 0);
                    return;
                }
            }
        }
        assert!(!only_data || read_data == sealed_data, "data is missing");
        if keys.opening != generation {
            sealer = Sealer::new(&keys.key(), 0);
        }
    }
}

/// A record of TLS 1.3 whose content ends with whatever type and padding.
fn sealed_inner(keys: &Keys, sequence: u64, mut inner: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(inner.len() + 16).expect("a short content");
    let header = [&[23, 3, 3][..], &length.to_be_bytes()].concat();
    let mut nonce = [7; 12];
    for (byte, number) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
        *byte ^= number;
    }
    let key = Opener::new(keys.key(), sequence).expanded();
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::from(&header), &mut inner).expect("a short content");
    [header, inner].concat()
}
