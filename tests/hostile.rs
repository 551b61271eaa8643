//! One attacker of each kind against a real server: it lives, honest clients lose nothing, and memory stays within 64 MiB
//! of what it was.
//!
//! The short form of `make hostile`, which measures waits too; here the machine may be busy with other tests.

#[path = "../benches/hostile/stand/mod.rs"]
mod stand;
#[path = "../benches/hostile/table.rs"]
mod table;

use std::time::Duration;

use stand::Plan;
use stand::attack::ATTACKS;

/// Few enough that they never are what the machine is busy with.
const HONEST: usize = 40;
const RATE: u64 = 200;
const SECOND: Duration = Duration::from_secs(1);

/// Runs the attack of this name.
fn withstands(name: &str) {
    let attack = ATTACKS.iter().find(|attack| attack.name == name).unwrap_or_else(|| panic!("no attack `{name}`"));
    fanline::open_files::raise_open_files_limit().expect("the hard limit of open files is allowed");
    let program = env!("CARGO_BIN_EXE_fanline").into();
    let plan = Plan {
        program,
        honest: HONEST,
        rate: RATE,
        quiet: SECOND / 2,
        attack: 2 * SECOND,
        after: SECOND / 2,
        yields: || (),
    };
    let row = stand::measure(attack, &plan).unwrap_or_else(|error| panic!("{name}: {error}"));
    println!("{}", table::line(&table::cells(&row)));
    assert!(row.faults().is_empty(), "{}: {}", attack.sends, row.faults().join(", "));
}

macro_rules! attacks {
    ($($test:ident: $attack:literal,)*) => {
        $(
            #[test]
            fn $test() {
                withstands($attack);
            }
        )*

        #[test]
        fn no_attack_is_left_out() {
            let tried = [$($attack),*];
            let left_out = ATTACKS.iter().map(|attack| attack.name).filter(|name| !tried.contains(name));
            assert_eq!(left_out.collect::<Vec<_>>(), ["busy-machine"], "which is a control for the figures");
        }
    };
}

attacks! {
    without_an_attacker_nothing_is_lost: "nothing",
    a_session_that_adds_one_more_wildcard_costs_others_nothing: "one-more-wildcard",
    unknown_commands_of_64_kib_cost_others_nothing: "did-you-mean",
    snapshots_that_are_not_read_take_bounded_memory: "snapshot-not-read",
    snapshots_of_999_wildcards_keep_nobody_out: "snapshot-wildcards",
    silent_connections_keep_nobody_out: "silent-connections",
    pipelined_requests_for_metrics_do_not_hold_up_the_feed: "metrics-pipelined",
    names_that_clients_invent_do_not_keep_real_topics_out: "junk-names",
    new_topics_that_meet_many_wildcards_cost_others_nothing: "new-topics",
    clients_stalled_in_a_large_frame_take_bounded_memory_in_a_drain: "drain-stalled",
    dashboards_that_join_everything_cost_others_nothing: "dashboards",
    a_session_that_toggles_wildcards_costs_others_nothing: "toggle-wildcards",
    commands_one_by_one_cost_others_nothing: "one-by-one",
    long_patterns_take_bounded_memory: "long-patterns",
    half_messages_take_bounded_memory: "half-messages",
    clients_of_everything_that_do_not_read_take_bounded_memory: "stalled-readers",
    clients_that_join_and_hang_up_cost_others_nothing: "connect-storm",
    pings_without_a_pause_cost_others_nothing: "ping-flood",
    deflate_bombs_take_bounded_memory: "deflate-bombs",
    slow_heads_keep_nobody_out: "slow-heads",
    garbage_costs_others_nothing: "garbage",
    oversized_messages_take_bounded_memory: "oversized",
}
