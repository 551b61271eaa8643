//! Demand and client requests: delivery writes, the intake reads.

pub mod interest;
pub mod requests;
