//! fanline takes one market-data or chat feed and serves it to thousands of WebSocket clients.
//!
//! Most people need only the command. A program starts the same server like this, here with the simulated market on a
//! free port. The server ends on SIGTERM.
//!
//! ```no_run
//! let arguments = ["fanline", "--listen", "127.0.0.1:0"].map(Into::into);
//! let ended = fanline::cli::run(arguments.into_iter(), std::env::vars_os());
//! ```
//!
//! Inside, everything goes through the [`bus`]: published once, read by many.
//!
//! ```
//! use fanline::bus::log::snapshot::TopicChoice;
//! use fanline::bus::retention::Retention;
//! use fanline::bus::{self, Limits};
//! use fanline::protocol::encoding::{Payload, PayloadKind};
//! use fanline::words::ids::Epoch;
//! use fanline::words::metrics::Meters;
//! use fanline::words::stamp::Stamp;
//!
//! let limits = Limits { ring_frames_max: 1024, ring_bytes_max: 1 << 20, topics_max: 100 };
//! let (mut publisher, reader) = bus::open(Epoch(1), limits, &Meters::unread());
//! let payload = Payload { bytes: r#"{"price":227.55}"#.into(), kind: PayloadKind::Json };
//! let offset = publisher.publish("quote.AAPL", payload, Retention::NEWEST, Stamp::default())?;
//!
//! let snapshot = reader.snapshot(&TopicChoice::new(&[]), &mut |_| {});
//! assert_eq!((snapshot.offset, snapshot.topics.len()), (offset, 1));
//! # Ok::<(), fanline::bus::publisher::PublishError>(())
//! ```
//!
//! # Floors
//! A room imports only rooms on floors below its own; `tests/tidy.rs` checks this.
//!
//! | floor | rooms | what they hold |
//! |---|---|---|
//! | top | [`app`], [`config`], [`cli`], [`check`], [`doctor`], [`health`], [`certificate`], [`mod@bench`] | wiring, and the load tool |
//! | | [`edge`] | listening, HTTP, the upgrade |
//! | | [`intake`], [`delivery`], [`simulator`], [`identity`] | from the feed to the bus; from the bus to the clients; a feed without a network; whose tokens are good for what |
//! | | [`bus`] | publisher, log, retained values, demand |
//! | | [`audit`] | who was shown what, for audits |
//! | | [`settings`] | every setting, as data |
//! | | [`profile`] | descriptions of feeds, as data |
//! | | [`access`] | who a client is and what it may do, as words |
//! | | [`protocol`] | commands, server messages, encodings |
//! | | [`json`] | JSON without copies |
//! | bottom | [`words`] | names, numbers, metrics |
//!
//! # The data path
//! ```text
//! feed -> intake -> Publisher::publish -> ring -> shard -> lane -> session -> socket
//! ```
//!
//! # Reading order
//! [`bus`], then [`delivery`], then [`intake`]; ARCHITECTURE.md is the map.

pub mod access;
pub mod app;
pub mod audit;
pub mod bench;
pub mod bus;
pub mod certificate;
pub mod check;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod delivery;
pub mod doctor;
pub mod edge;
pub mod health;
pub mod identity;
pub mod intake;
pub mod json;
pub mod open_files;
pub mod profile;
pub mod protocol;
pub mod settings;
pub mod simulator;
pub mod words;
