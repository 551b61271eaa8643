//! What a token must hold for a glob (a token with `*` among other characters) to match it.

/// Bytes by which a glob that begins and ends with `*` is found.
pub(super) const GRAM_BYTES: usize = 3;

/// What a token must hold for a glob to match it.
pub(super) enum Anchor<'g> {
    Before(&'g [u8]),
    Behind(&'g [u8]),
    Between([u8; GRAM_BYTES]),
    Nowhere,
}

/// The most selective part, the longest: topics of one feed often begin or end alike.
pub(super) fn anchor(glob: &str) -> Anchor<'_> {
    let before = glob.find('*').map_or(glob, |star| &glob[..star]).as_bytes();
    let behind = glob.rfind('*').map_or(glob, |star| &glob[star + 1..]).as_bytes();
    let longest = before.len().max(behind.len());
    let between = || glob.split('*').find_map(|part| part.as_bytes().first_chunk::<GRAM_BYTES>());
    match between().filter(|_| longest < GRAM_BYTES) {
        Some(gram) => Anchor::Between(*gram),
        None if longest == 0 => Anchor::Nowhere,
        None if before.len() == longest => Anchor::Before(before),
        None => Anchor::Behind(behind),
    }
}

/// A set of the bytes of a token or a glob, in which some look the same.
pub(super) fn bytes_of(token: &str) -> u64 {
    token.bytes().filter(|byte| *byte != b'*').fold(0, |set, byte| set | 1 << (byte & 63))
}
