//! The flow on recorded feeds.
