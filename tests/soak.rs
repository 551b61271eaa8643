//! After a crowd of clients, faults of the feed, reloads and kills, a server holds what it held before, and nobody missed a
//! message without a word.
//!
//! The short form of `make soak`, which also looks at memory; a few seconds are too short for that.

#[path = "../benches/soak/stand/mod.rs"]
mod stand;

use std::time::Duration;

use stand::Plan;

#[test]
fn a_server_that_is_not_left_alone_leaks_nothing_and_loses_nothing_without_a_word() {
    let plan = Plan {
        time: Duration::from_secs(12),
        clients: 200,
        witnesses: 4,
        fault_every: Duration::from_millis(1200),
        kill_every: Duration::from_secs(4),
    };
    let report = stand::run(plan, 1, |_| ());
    println!("{report:#?}, memory by {:.3}", report.growth());
    assert!(report.violations().is_empty(), "{:#?}", report.violations());
}
