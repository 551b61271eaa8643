use std::cell::RefCell;

use super::*;
use crate::bus;
use crate::bus::publisher::Publisher;
use crate::bus::retention::Retention;
use crate::protocol::encoding::{Payload, PayloadKind};
use crate::words::ids::Offset;

const DELAY: Duration = Duration::from_secs(10);
const LIMITS: Limits = Limits { ring_frames_max: 1 << 10, ring_bytes_max: 1 << 20, topics_max: 100 };

fn publish(publisher: &mut Publisher, topic: &str, value: u64, now: Stamp) {
    let payload = Payload { bytes: value.to_string().into(), kind: PayloadKind::Json };
    publisher.publish(topic, payload, Retention::NEWEST, now).expect("a good topic");
}

fn newest(reader: &Reader, topic: &str) -> Option<String> {
    let current = reader.latest(topic)?;
    Some(String::from_utf8_lossy(&current.retained.newest().payload.bytes).into_owned())
}

#[test]
fn a_delayed_view_begins_another_epoch_as_late_as_all_else_and_with_its_values() {
    let (mut publisher, live) = bus::open(Epoch(1), LIMITS, &Meters::unread());
    let at = |second: u64| Stamp { wall_ms: second * 1000, mono_ns: second * 1_000_000_000 };
    let terms = LineTerms {
        view: 1,
        delay: ViewDelay::Uniform(DELAY),
        limits: LIMITS,
        history: History::default(),
        bytes_max: 1 << 20,
        spool: None,
        meters: Meters::unread(),
    };
    let OpenLine { line, reader: before, .. } = DelayLine::open(terms.parts(live.clone()), &terms.meters, at(0));
    let mut view = ViewLine { line, next: None, terms };
    let shown: RefCell<Option<Reader>> = RefCell::default();
    let show = |view: ViewId, reader: Reader| {
        assert_eq!(view, ViewId(1));
        assert!(shown.replace(Some(reader)).is_none(), "it begins once");
    };
    publisher.announce(FeedState::Live);
    let (mut other, now) = (None, RefCell::new(live));
    for second in 1..40 {
        match second {
            20 => {
                let (mut next, reader) = bus::open(Epoch(2), LIMITS, &Meters::unread());
                next.leap(Vec::new(), Offset(5));
                publish(&mut next, "quiet", 7, at(second));
                next.announce(FeedState::Live);
                (other, *now.borrow_mut()) = (Some(next), reader);
            }
            _ => publish(other.as_mut().unwrap_or(&mut publisher), "busy", second, at(second)),
        }
        let live = now.borrow().clone();
        view.follow(&live, at(second)).expect("no threads are needed");
        while view.is_late_after(at(second), &show) {}
        let reader = shown.borrow().clone().unwrap_or_else(|| before.clone());
        assert_eq!(reader.epoch(), Epoch(if second < 30 { 1 } else { 2 }), "second {second}");
        let busy = newest(&reader, "busy").and_then(|value| value.parse::<u64>().ok());
        let expected = second.checked_sub(10).filter(|due| *due > 0 && *due != 20);
        assert_eq!(busy, if second == 30 { None } else { expected }, "second {second}");
        if second >= 30 {
            assert_eq!(newest(&reader, "quiet").as_deref(), Some("7"), "second {second}");
            assert_eq!(reader.head().0, second - 30 + 6, "the offsets of the live log");
            assert_eq!(*reader.feed(), FeedState::Live);
        }
    }
}
