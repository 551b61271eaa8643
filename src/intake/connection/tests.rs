//! When and where a lost connection is dialed again.

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::intake::connection::established::tests::flowing;
use crate::profile::Profile;

fn connection(addresses: usize) -> Connection {
    let profile = Profile::built_in("simulated").expect("built in");
    let backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(10));
    Connection::new(
        ConnectionId(0),
        (FeedPart::default(), ConnectionRole::Regular),
        (0..addresses, backoff),
        Classifier::new(&profile),
    )
}

fn at(s: u64) -> Stamp {
    Stamp { wall_ms: s * 1000, mono_ns: s * 1_000_000_000 }
}

fn closed() -> Loss {
    Loss::Closed { code: None, reason: String::new() }
}

#[test]
fn the_next_address_is_tried_at_once_and_none_before_its_wait_is_over() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut connection = connection(3);
    let mut earliest = [0; 3];
    let mut now = at(1);
    for attempt in 0..30 {
        let before = connection.address;
        let wait = connection.lost(&closed(), Duration::from_secs(60), now, &mut rng);
        let dial_ns = connection.dial_at_ns.expect("it is dialed again");
        assert_eq!(dial_ns, now.mono_ns + u64::try_from(wait.as_nanos()).expect("short"));
        if attempt < 2 {
            assert_eq!((wait, connection.address), (Duration::ZERO, before + 1), "one that did not fail yet");
        }
        earliest[before] = connection.addresses[before].retry_ns;
        assert!(dial_ns >= earliest[connection.address], "attempt {attempt}: no address before its time");
        assert!(earliest.iter().all(|other| *other >= dial_ns || *other <= now.mono_ns), "the soonest");
        now = Stamp { mono_ns: dial_ns, ..now };
    }
}

#[test]
fn an_address_that_another_connection_was_banned_from_is_left_alone() {
    let mut connection = connection(2);
    connection.hold(&[at(60).mono_ns, 0], at(1));
    assert_eq!((connection.address, connection.dial_at_ns), (1, Some(at(1).mono_ns)), "there is another one");
    connection.hold(&[at(60).mono_ns, at(30).mono_ns], at(2));
    assert_eq!((connection.address, connection.dial_at_ns), (1, Some(at(30).mono_ns)));
    let mut open = self::connection(1);
    open.dial_at_ns = None;
    open.hold(&[at(60).mono_ns], at(1));
    assert_eq!(open.dial_at_ns, None, "it is not dialed at all");
    open.redial(at(2));
    assert_eq!(open.dial_at_ns, Some(at(60).mono_ns));
    let wait = open.lost(&closed(), Duration::from_secs(60), at(3), &mut SmallRng::seed_from_u64(4));
    assert_eq!(wait, Duration::from_secs(57));
}

#[test]
fn waits_are_short_again_after_data_has_flowed_for_long() {
    let mut rng = SmallRng::seed_from_u64(3);
    let mut connection = connection(1);
    for _ in 0..5 {
        connection.lost(&closed(), Duration::from_secs(60), at(1), &mut rng);
    }
    connection.established = Some(flowing(at(2), at(61)));
    connection.lost(&closed(), Duration::from_secs(60), at(61), &mut rng);
    assert_eq!(connection.attempts(), 6, "59 s are not long enough");
    connection.established = Some(flowing(at(70), at(130)));
    connection.lost(&closed(), Duration::from_secs(60), at(130), &mut rng);
    assert_eq!(connection.attempts(), 1);
}
