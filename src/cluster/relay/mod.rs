//! A log over WebSocket (`/v1/log`): a server gives it to relays, and a relay reads it from its parents, byte for byte.
//!
//! What a server shows is a log of entries, whether it follows a cluster, a parent, or has the feed to itself; in the
//! last case `root_log` makes the entries. The newest ones are kept in memory (`served_log`), and relays read them from
//! there (`session`), so one that is slow costs nobody anything. Of a server that follows a parent (`parent_link`),
//! `backbone` decides what is believed, as of any node, and which parent is next.

pub mod greeting;
pub mod host;
pub mod meters;
mod parent_connection;
mod parent_driver;
pub mod parent_link;
pub mod root_log;
pub mod served_log;
mod session;
mod wire;

/// The subprotocol of the upgrade.
pub const SUBPROTOCOL: &str = "fanline.log.v1";

/// Offsets are below this, as all numbers that clients read: a log that says otherwise is none.
const OFFSET_MAX: u64 = 1 << 53;
