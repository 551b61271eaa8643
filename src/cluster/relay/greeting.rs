//! What a parent says of itself first, and again when it has another parent.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Servers in a row, the one that has the feed included.
pub const PATH_MAX: usize = 8;

/// The processes between a server and the feed, itself first; random numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayPath(pub Vec<u64>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentGreeting {
    pub path: RelayPath,
    /// Of its log.
    pub epoch: u64,
    /// The prices are invented.
    pub simulated: bool,
}

/// Why a server does not follow another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    #[error("this relay would follow itself, by way of its parent; name another parent in relay.parents")]
    Loop,
    #[error(
        "expected at most {PATH_MAX} servers in a row, found more; name a parent in relay.parents that is nearer to \
         the feed"
    )]
    TooLong,
}

impl RelayPath {
    pub fn of(node: u64) -> RelayPath {
        RelayPath(vec![node])
    }

    /// Servers between this one and the feed.
    pub fn depth(&self) -> usize {
        self.0.len().saturating_sub(1)
    }

    /// Whether this node may follow the server with this path.
    ///
    /// # Errors
    /// It would follow itself, or the path would be too long.
    pub fn check_child(&self, node: u64) -> Result<(), PathFault> {
        match () {
            () if self.0.contains(&node) => Err(PathFault::Loop),
            () if self.0.len() >= PATH_MAX => Err(PathFault::TooLong),
            () => Ok(()),
        }
    }

    /// Of a node that follows the server with this path.
    pub fn with(&self, node: u64) -> RelayPath {
        RelayPath(std::iter::once(node).chain(self.0.iter().copied()).take(PATH_MAX).collect())
    }
}

impl ParentGreeting {
    pub(super) fn write(&self) -> Bytes {
        serde_json::to_vec(self).expect("a plain struct always serialises into memory").into()
    }

    /// None if it is none.
    pub(super) fn read(bytes: &[u8]) -> Option<ParentGreeting> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_follows_neither_itself_nor_a_row_that_is_too_long() {
        let path = RelayPath::of(1).with(2).with(3);
        assert_eq!((path.depth(), path.0.as_slice()), (2, &[3, 2, 1][..]));
        assert_eq!(path.check_child(4), Ok(()));
        for node in 1..=3 {
            assert_eq!(path.check_child(node), Err(PathFault::Loop));
        }
        let long = (2..=PATH_MAX as u64).fold(RelayPath::of(1), |path, node| path.with(node));
        assert_eq!(long.check_child(99), Err(PathFault::TooLong));
    }

    #[test]
    fn a_greeting_is_read_as_it_was_written() {
        let greeting = ParentGreeting { path: RelayPath(vec![u64::MAX, 1]), epoch: 7, simulated: true };
        assert_eq!(ParentGreeting::read(&greeting.write()), Some(greeting));
        for noise in [&b""[..], b"{}", b"[]", b"\xff", br#"{"path":[-1],"epoch":1,"simulated":false}"#] {
            assert_eq!(ParentGreeting::read(noise), None);
        }
    }
}
