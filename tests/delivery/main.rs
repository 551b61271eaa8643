//! Delivery: what a session receives is exactly what it was promised, whoever else is served.

mod archive;
mod bounds;
mod client_requests;
mod delayed;
mod delayed_spool;
mod late_joiners;
mod many_lists;
mod own_lists;
mod replay_exact;
mod resume;
mod shared_window;
