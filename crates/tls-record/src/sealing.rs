//! Sealing of single records.

use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};

use crate::keys::{Cipher, TlsVersion, TrafficKey, nonce, tls12_additional};
use crate::{ContentType, HEADER_BYTES, RECORD_VERSION};

/// Bytes of an authentication tag; the same for all ciphers.
const TAG_BYTES: usize = 16;

/// The sealing half of one key: expanded, because a broadcast seals often and opens seldom.
pub struct Sealer {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    cipher: Cipher,
    version: TlsVersion,
    sequence: u64,
}

impl Sealer {
    /// `sequence` is the number of the next record.
    pub fn new(key: &TrafficKey, sequence: u64) -> Sealer {
        Sealer { key: key.expanded(), iv: key.iv, cipher: key.cipher, version: key.version, sequence }
    }

    pub fn version(&self) -> TlsVersion {
        self.version
    }

    /// Records that were sealed with this key.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Takes the numbers of records back. The caller must not have sent a byte of them: a number that was used with a
    /// key must never be used again with other bytes.
    pub(crate) fn rewind(&mut self, sequence: u64) {
        debug_assert!(sequence <= self.sequence);
        self.sequence = sequence;
    }

    /// Size of a record with so much plaintext.
    pub fn record_bytes(&self, plaintext: usize) -> usize {
        let inner_type = usize::from(self.version == TlsVersion::Tls13);
        HEADER_BYTES + self.cipher.explicit_nonce_bytes(self.version) + plaintext + inner_type + TAG_BYTES
    }

    /// Appends one record. The plaintext must fit into one.
    pub fn seal(&mut self, content: ContentType, plaintext: &[u8], out: &mut Vec<u8>) {
        assert!(plaintext.len() <= crate::PLAINTEXT_MAX);
        let length = (self.record_bytes(plaintext.len()) - HEADER_BYTES) as u16;
        let [high, low] = length.to_be_bytes();
        let outer = if self.version == TlsVersion::Tls13 { ContentType::Data } else { content };
        let header = [outer.byte(), RECORD_VERSION[0], RECORD_VERSION[1], high, low];
        out.extend_from_slice(&header);
        let nonce = nonce(&self.iv, self.sequence);
        if self.cipher.explicit_nonce_bytes(self.version) > 0 {
            out.extend_from_slice(&nonce[4..]);
        }
        let start = out.len();
        out.extend_from_slice(plaintext);
        let tag = match self.version {
            TlsVersion::Tls13 => {
                out.push(content.byte());
                self.encrypt(nonce, &header, &mut out[start..])
            }
            TlsVersion::Tls12 => {
                let additional = tls12_additional(self.sequence, content.byte(), plaintext.len());
                self.encrypt(nonce, &additional, &mut out[start..])
            }
        };
        out.extend_from_slice(tag.as_ref());
        self.sequence += 1;
    }

    fn encrypt(&self, nonce: [u8; NONCE_LEN], additional: &[u8], content: &mut [u8]) -> ring::aead::Tag {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_separate_tag(nonce, Aad::from(additional), content)
            .expect("a record is far smaller than a cipher's limit")
    }
}
