//! What clients want of the feed and say to it: delivery writes, the intake reads.

pub mod interest;
pub mod requests;
