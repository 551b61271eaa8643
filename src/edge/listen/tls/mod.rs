//! TLS of a listener: handshakes, certificates, and the stream up to the upgrade.
//!
//! rustls does the handshake and what comes before the upgrade. On the upgrade the keys go to the shard with the socket
//! (`delivery/transport/tls_socket.rs`), and nothing of a client stays here.
//!
//! | bound | at the bound |
//! |---|---|
//! | time of a handshake, its waiting included | the connection is closed (`tls.handshake_timeout`) |
//! | handshakes that wait for a thread | a further one is closed (`tls.handshakes_waiting_max`) |
//! | bytes of a handshake | `INCOMING_MAX`; the connection is closed |

pub(crate) mod acceptor;
pub mod certificate;
pub mod files;
pub(crate) mod handshake_threads;
pub(crate) mod record_stream;
pub(crate) mod tickets;
