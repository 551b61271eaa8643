//! Traffic keys as a handshake leaves them, and how nonces are made of them.

use ring::aead::{AES_128_GCM, AES_256_GCM, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, UnboundKey};

/// The protocol version that was negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

/// The negotiated cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Cipher {
    pub(crate) fn algorithm(self) -> &'static Algorithm {
        match self {
            Cipher::Aes128Gcm => &AES_128_GCM,
            Cipher::Aes256Gcm => &AES_256_GCM,
            Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }

    /// TLS 1.2 sends a part of an AES-GCM nonce with each record (RFC 5288 section 3).
    pub(crate) fn explicit_nonce_bytes(self, version: TlsVersion) -> usize {
        if version == TlsVersion::Tls12 && self != Cipher::ChaCha20Poly1305 { 8 } else { 0 }
    }
}

/// The key of one direction. It is not shown by `Debug`.
#[derive(Clone)]
pub struct TrafficKey {
    pub(crate) cipher: Cipher,
    pub(crate) version: TlsVersion,
    /// The first `key_len` bytes count.
    key: [u8; 32],
    pub(crate) iv: [u8; NONCE_LEN],
}

impl std::fmt::Debug for TrafficKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TrafficKey({:?}, {:?})", self.version, self.cipher)
    }
}

impl TrafficKey {
    /// None if the key is not of the cipher's size. In TLS 1.2 with AES-GCM, `iv` is the salt and the first explicit
    /// nonce.
    pub fn new(version: TlsVersion, cipher: Cipher, key: &[u8], iv: [u8; NONCE_LEN]) -> Option<TrafficKey> {
        if key.len() != cipher.algorithm().key_len() {
            return None;
        }
        let mut bytes = [0; 32];
        bytes[..key.len()].copy_from_slice(key);
        Some(TrafficKey { cipher, version, key: bytes, iv })
    }

    pub(crate) fn expanded(&self) -> LessSafeKey {
        let algorithm = self.cipher.algorithm();
        let key = UnboundKey::new(algorithm, &self.key[..algorithm.key_len()]).expect("the length was checked");
        LessSafeKey::new(key)
    }
}

/// The nonce of a record (RFC 8446 section 5.3): no number is used twice with a key.
pub(crate) fn nonce(iv: &[u8; NONCE_LEN], sequence: u64) -> [u8; NONCE_LEN] {
    let mut nonce = *iv;
    for (byte, number) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
        *byte ^= number;
    }
    nonce
}

/// What TLS 1.2 authenticates beside the content (RFC 5246 section 6.2.3.3).
pub(crate) fn tls12_additional(sequence: u64, content: u8, plaintext_bytes: usize) -> [u8; 13] {
    let mut additional = [0; 13];
    additional[..8].copy_from_slice(&sequence.to_be_bytes());
    additional[8] = content;
    additional[9..11].copy_from_slice(&crate::RECORD_VERSION);
    // At most 2^14.
    additional[11..].copy_from_slice(&(plaintext_bytes as u16).to_be_bytes());
    additional
}

/// The message that begins a new key (RFC 8446 section 4.6.3).
pub(crate) const KEY_UPDATE: u8 = 24;

/// Derives the keys that follow (RFC 8446 section 7.2). None in TLS 1.2, which has no such keys.
pub trait KeySchedule {
    fn next_sealing(&mut self) -> Option<TrafficKey>;

    fn next_opening(&mut self) -> Option<TrafficKey>;
}
