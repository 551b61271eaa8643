//! Who a client is and what it may do: the words that identity, delivery, the edge and the audit log share.
//!
//! A [`Gatekeeper`](gatekeeper::Gatekeeper) turns a credential into a [`Grant`](grant::Grant). The edge only finds
//! credentials, delivery only obeys grants, and neither knows tokens.

pub mod cluster_status;
pub mod end_journal;
pub mod end_row;
pub mod end_shelf;
pub mod gatekeeper;
pub mod grant;
pub mod identity;
pub mod network_counts;
pub mod operator;
pub mod pattern_delays;
pub mod rights;
pub mod selector;
pub mod session_numbers;
pub mod session_row;
pub mod shown_delay;
