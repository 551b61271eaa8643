//! Session tickets (RFC 8446 section 4.6.1) with keys from a file, which servers of a fleet share and a restart survives.
//!
//! The file has one key a line, 64 hexadecimal digits (`openssl rand -hex 32`). The first one seals; the others still
//! open what they have sealed, until they are removed.

use std::fmt;
use std::path::Path;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;
use sha2::{Digest, Sha256};

use crate::edge::listen::tls::files::{TlsFileError, read_file};

/// Half a day, as rustls has it: a client that returns after a restart or a night.
const LIFETIME_SECONDS: u32 = 12 * 60 * 60;
/// The key in use and its predecessors. Each unknown ticket costs a look at the name of each.
const KEYS_MAX: usize = 4;
const NAME_BYTES: usize = 16;
/// Far more than a ticket of a client with a certificate chain of its own; longer ones are not looked at.
const TICKET_BYTES_MAX: usize = 16 * 1024;

/// The keys of a file; never shown.
pub(in crate::edge) struct TicketKeys {
    /// At least one.
    keys: Vec<TicketKey>,
    random: SystemRandom,
}

struct TicketKey {
    /// Stands before its tickets. It tells nothing about the key.
    name: [u8; NAME_BYTES],
    key: LessSafeKey,
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKeys({})", self.keys.len())
    }
}

impl TicketKeys {
    pub(crate) fn load(path: &Path) -> Result<TicketKeys, TlsFileError> {
        let bytes = read_file(path)?;
        let malformed = |line: usize| TlsFileError::TicketKey { path: path.into(), line, max: KEYS_MAX };
        let text = std::str::from_utf8(&bytes).map_err(|_| malformed(1))?;
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let mut key = [0; 32];
            hex::decode_to_slice(line.trim(), &mut key).map_err(|_| malformed(number))?;
            if keys.len() == KEYS_MAX {
                return Err(malformed(number));
            }
            keys.push(TicketKey::new(&key));
        }
        if keys.is_empty() { Err(malformed(1)) } else { Ok(TicketKeys { keys, random: SystemRandom::new() }) }
    }
}

impl TicketKey {
    fn new(key: &[u8; 32]) -> TicketKey {
        let digest = Sha256::new().chain_update(b"name of a ticket key").chain_update(key).finalize();
        let mut name = [0; NAME_BYTES];
        name.copy_from_slice(&digest[..NAME_BYTES]);
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("32 bytes");
        TicketKey { name, key: LessSafeKey::new(key) }
    }
}

impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_SECONDS
    }

    /// The key's name, a random nonce, the sealed state.
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let TicketKey { name, key } = self.keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let tag = key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut sealed);
        Some([name, &nonce[..], &sealed, tag.ok()?.as_ref()].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let TicketKey { name, key } = self.keys.iter().find(|key| key.name == *name)?;
        let mut opened = sealed.to_vec();
        let plain = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(name), &mut opened).ok()?.len();
        opened.truncate(plain);
        Some(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(numbers: &[u8]) -> TicketKeys {
        let keys = numbers.iter().map(|number| TicketKey::new(&[*number; 32])).collect();
        TicketKeys { keys, random: SystemRandom::new() }
    }

    #[test]
    fn a_ticket_is_opened_by_its_key_also_after_a_rotation_and_by_no_other() {
        let ticket = keys(&[1]).encrypt(b"the state").expect("a ticket");
        for (numbers, opens) in [(&[1][..], true), (&[2, 1], true), (&[1, 2], true), (&[2], false), (&[2, 3], false)] {
            assert_eq!(keys(numbers).decrypt(&ticket).as_deref(), opens.then_some(&b"the state"[..]), "{numbers:?}");
        }
        assert_ne!(ticket, keys(&[1]).encrypt(b"the state").expect("a ticket"), "a nonce of its own each");
    }

    #[test]
    fn a_forged_ticket_is_none() {
        let keys = keys(&[1]);
        let ticket = keys.encrypt(b"the state").expect("a ticket");
        for at in 0..ticket.len() {
            let mut forged = ticket.clone();
            forged[at] ^= 1;
            assert_eq!(keys.decrypt(&forged), None, "byte {at}");
            assert_eq!(keys.decrypt(&ticket[..at]), None, "cut at {at}");
        }
        assert_eq!(keys.decrypt(&vec![0; TICKET_BYTES_MAX + 1]), None);
    }
}
