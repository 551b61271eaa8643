//! What the canary takes from the ring. That it sees what a client sees is shown by tests/program/canary.rs.

use bytes::Bytes;

use super::*;
use crate::bus::publisher::Publisher;
use crate::bus::retention::Retention;
use crate::bus::topic_status::TopicStatus;
use crate::bus::{self, Limits};
use crate::protocol::encoding::{Payload, PayloadKind};
use crate::words::ids::Epoch;

fn publish(publisher: &mut Publisher, topic: &str) {
    let payload = Payload { bytes: Bytes::from_static(b"1"), kind: PayloadKind::Json };
    publisher.publish(topic, payload, Retention::NEWEST, Stamp::default()).expect("published");
}

#[test]
fn the_topic_is_the_one_with_most_of_the_newest_messages_and_statuses_are_none() {
    let limits = Limits { ring_frames_max: 64, ring_bytes_max: 1 << 20, topics_max: 100 };
    let (mut publisher, reader) = bus::open(Epoch(1), limits, &Meters::unread());
    assert_eq!(busiest(&reader), None, "nothing is published yet");
    for topic in ["a", "b", "b", "c"] {
        publish(&mut publisher, topic);
    }
    for _ in 0..5 {
        publisher.publish_status("a", TopicStatus::Live, Stamp::default()).expect("published");
    }
    let pattern = |text: &str| Pattern::parse(text).expect(text);
    assert_eq!(busiest(&reader), Some(pattern("b")));
    let offset = |text: &str, count| newest(&reader, &pattern(text), count).map(|frame| frame.offset.0);
    assert_eq!((offset("a", LOOK_BACK), offset("b", LOOK_BACK), offset(">", LOOK_BACK)), (Some(1), Some(3), Some(4)));
    assert_eq!((offset("a", 5), offset("d", LOOK_BACK)), (None, None));
    (0..70).for_each(|_| publish(&mut publisher, "d"));
    assert_eq!(busiest(&reader), Some(pattern("d")), "the ring holds nothing else any more");
}
