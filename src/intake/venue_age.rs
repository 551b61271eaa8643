//! How old messages are when they arrive, by the venue's own clock: samples for a histogram, and what shows that the
//! clocks differ.
//!
//! A sample is a message that the profile gives a time. It costs a search in the text, so it is taken at most once in 10
//! ms. Left out is what would say something else than how long messages take:
//! * The first message of a topic on a connection, and snapshots: with these venues answer a subscription, and their
//!   time is that of the last change, however long ago that was.
//! * Everything for a minute after a time that is later than the arrival: this machine's clock is behind the venue's, so
//!   all differences are too small.
//! * What is more than a minute old.

use std::hash::{DefaultHasher, Hash, Hasher};

use metrics::{Counter, Histogram};

use crate::words::metrics as names;
use crate::words::metrics::Meters;
use crate::words::rate_limited_log::RateLimitedLog;

use crate::intake::update::{Generation, Update};

/// 10 ms: 100 samples in a second are enough for a percentile, and cost a few hundred microseconds.
const PAUSE_NS: u64 = 10_000_000;
/// How long nothing is believed after a time that cannot be.
const DISTRUST_NS: u64 = 60_000_000_000;
/// 60 s: no line to a venue is that long.
const AGE_MAX_MS: f64 = 60_000.0;
/// The arrival is known in whole milliseconds, rounded down.
const ROUNDED_MS: f64 = 1.0;
/// Topics that are remembered: one that shares its place with another is sampled less often, and no memory grows.
const PLACES: u64 = 1024;

/// What one message shows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum AgeSample {
    Age {
        seconds: f64,
    },
    /// The venue's clock is ahead of this machine's, by this much at least.
    Ahead {
        seconds: f64,
    },
    /// It is older than any line takes.
    Late {
        seconds: f64,
    },
    /// What stands there is no time.
    Unreadable,
}

pub(super) struct VenueAge {
    /// When the next sample may be taken.
    next_ns: u64,
    /// Until when nothing is believed.
    distrust_ns: u64,
    /// The topic that was last seen at each place, as a hash, and on which connection. Empty until a rule has a time.
    seen: Vec<(u64, Generation)>,
    warnings: RateLimitedLog,
    ages: Histogram,
    ahead: Counter,
    late: Counter,
    unreadable: Counter,
}

impl VenueAge {
    pub(super) fn new(meters: &Meters) -> VenueAge {
        let oddity = |oddity: &str| {
            let counter = meters.counter(&names::VENUE_TIME_ODDITIES, &[("oddity", oddity)]);
            counter.increment(0);
            counter
        };
        VenueAge {
            next_ns: 0,
            distrust_ns: 0,
            seen: Vec::new(),
            warnings: RateLimitedLog::default(),
            ages: meters.histogram(&names::VENUE_TO_RECEIPT, &[]),
            ahead: oddity("ahead"),
            late: oddity("late"),
            unreadable: oddity("unreadable"),
        }
    }

    /// Counts a sample, if one is due and the update has a time.
    pub(super) fn look(&mut self, update: &Update<'_>, generation: Generation) {
        let Some(sample) = self.sample(update, generation) else { return };
        match sample {
            AgeSample::Age { seconds } => return self.ages.record(seconds),
            AgeSample::Ahead { .. } => self.ahead.increment(1),
            AgeSample::Late { .. } => self.late.increment(1),
            AgeSample::Unreadable => self.unreadable.increment(1),
        }
        let Some(hidden) = self.warnings.take(update.received) else { return };
        match sample {
            AgeSample::Ahead { seconds } => tracing::warn!(
                hidden,
                "the venue's clock is {seconds:.3} s ahead of this machine's, so fanline_venue_to_receipt_seconds \
                 pauses; synchronise this machine's clock"
            ),
            AgeSample::Late { seconds } => tracing::warn!(
                hidden,
                "a message is {seconds:.0} s old by the venue's clock: this machine's clock is ahead, or the venue \
                 is late"
            ),
            AgeSample::Age { .. } | AgeSample::Unreadable => tracing::warn!(
                topic = update.topic,
                hidden,
                "expected the venue's time where the profile has `time`, found none of its unit; correct the profile"
            ),
        }
    }

    fn sample(&mut self, update: &Update<'_>, generation: Generation) -> Option<AgeSample> {
        let (time, received) = (update.treatment.time.as_ref()?, update.received);
        if received.mono_ns < self.next_ns || update.snapshot {
            return None;
        }
        self.next_ns = received.mono_ns + PAUSE_NS;
        if !self.has_seen(update.topic, generation) {
            return None;
        }
        let Ok(sent_ms) = time.read_ms(update.message, update.element()) else { return Some(AgeSample::Unreadable) };
        let age_ms = received.wall_ms as f64 - sent_ms?;
        if age_ms < -ROUNDED_MS {
            self.distrust_ns = received.mono_ns + DISTRUST_NS;
            return Some(AgeSample::Ahead { seconds: -age_ms / 1e3 });
        }
        if age_ms > AGE_MAX_MS {
            return Some(AgeSample::Late { seconds: age_ms / 1e3 });
        }
        (received.mono_ns >= self.distrust_ns).then(|| AgeSample::Age { seconds: age_ms.max(0.0) / 1e3 })
    }

    /// Whether the topic was looked at before on this connection; from now on it was.
    fn has_seen(&mut self, topic: &str, generation: Generation) -> bool {
        if self.seen.is_empty() {
            self.seen.resize(PLACES as usize, (0, Generation::default()));
        }
        let hash = hash(topic);
        let place = &mut self.seen[(hash % PLACES) as usize];
        std::mem::replace(place, (hash, generation)) == (hash, generation)
    }
}

/// Never 0, which stands for no topic.
fn hash(topic: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    topic.hash(&mut hasher);
    hasher.finish() | 1 << 63
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base64::prelude::{BASE64_STANDARD, Engine};

    use super::*;
    use crate::intake::classify::drive::{self, Onlooker};
    use crate::intake::classify::{Classified, Classifier, FeedFrame, FeedMessage};
    use crate::intake::recorded::capture;
    use crate::profile::{Profile, check};
    use crate::words::stamp::Stamp;

    const PROFILE: &str = "profile = 1\nname = 'x'\n[[on]]\nname = 'd'\nas = 'data'\ntopic = '${/s}'\n\
                           mode = 'delta'\nsnapshot_when = ['/snapshot exists']\ntime = { at = '/E', unit = 'ms' }\n";
    /// When the messages of these tests arrive, at the earliest.
    const START_MS: u64 = 1_700_000_000_000;

    /// Samples of the messages of one connection.
    struct Ages {
        venue: VenueAge,
        generation: Generation,
        samples: Vec<AgeSample>,
    }

    impl Onlooker for Ages {
        fn update(&mut self, update: &Update<'_>) {
            self.samples.extend(self.venue.sample(update, self.generation));
        }

        fn classified(&mut self, _: &Classified, _: &FeedMessage<'_>) {}
    }

    impl Ages {
        fn new() -> Ages {
            let venue = VenueAge::new(&Meters::unread());
            Ages { venue, generation: Generation(1), samples: Vec::new() }
        }

        /// A message arrives this long after the start; its time says that it was sent `age_ms` before.
        fn receive(&mut self, at_ms: u64, age_ms: i64, more: &str) -> Option<AgeSample> {
            let sent_ms = i64::try_from(START_MS + at_ms).expect("a time") - age_ms;
            self.receive_text(at_ms, &format!("{{\"s\":\"a\",\"E\":{sent_ms}{more}}}"))
        }

        fn receive_text(&mut self, at_ms: u64, text: &str) -> Option<AgeSample> {
            let mut classifier = Classifier::new(&check(PROFILE, "x").expect("a valid profile"));
            let received = Stamp { wall_ms: START_MS + at_ms, mono_ns: at_ms * 1_000_000 };
            drive::take(&mut classifier, FeedFrame::Text(text), received, self);
            self.samples.pop()
        }
    }

    #[test]
    fn a_message_is_as_old_as_its_venue_says_and_not_every_one_is_looked_at() {
        let mut ages = Ages::new();
        assert_eq!(ages.receive(100, 5, ""), None, "the first of a topic answers the subscription");
        assert_eq!(ages.receive(105, 5, ""), None, "too soon after the last");
        assert_eq!(ages.receive(200, 5, ""), Some(AgeSample::Age { seconds: 0.005 }));
        assert_eq!(ages.receive(300, 5, ",\"snapshot\":1"), None);
        assert_eq!(ages.receive(301, 0, ""), Some(AgeSample::Age { seconds: 0.0 }));
        ages.generation = Generation(2);
        assert_eq!(ages.receive(400, 5, ""), None, "another connection has subscribed anew");
        assert_eq!(ages.receive(500, 7, ""), Some(AgeSample::Age { seconds: 0.007 }));
    }

    #[test]
    fn a_clock_that_is_ahead_is_told_and_nothing_is_believed_for_a_minute() {
        let mut ages = Ages::new();
        ages.receive(100, 5, "");
        assert_eq!(ages.receive(200, -1, ""), Some(AgeSample::Age { seconds: 0.0 }), "arrivals are rounded down");
        assert_eq!(ages.receive(300, -40, ""), Some(AgeSample::Ahead { seconds: 0.04 }));
        assert_eq!(ages.receive(400, 90, ""), None, "it seems later than it is");
        assert_eq!(ages.receive(60_299, 90, ""), None);
        assert_eq!(ages.receive(60_310, 90, ""), Some(AgeSample::Age { seconds: 0.09 }));
        assert_eq!(ages.receive(60_400, 60_000, ""), Some(AgeSample::Age { seconds: 60.0 }));
        assert_eq!(ages.receive(60_500, 61_000, ""), Some(AgeSample::Late { seconds: 61.0 }));
        assert_eq!(ages.receive_text(60_600, "{\"s\":\"a\",\"E\":\"soon\"}"), Some(AgeSample::Unreadable));
    }

    /// What is measured in a recording: how many ages, how many times ahead, and the greatest age in seconds.
    fn measured(feed: &str, profile: &str) -> Option<(usize, usize, f64)> {
        let profile = Profile::built_in(profile).expect("built in");
        let mut connections: BTreeMap<String, (Classifier, Generation)> = BTreeMap::new();
        let mut ages = Ages::new();
        let lines = capture(feed)?;
        for line in lines.iter().filter(|line| line["dir"] == "in") {
            let t_ns = line["t_ns"].as_u64().expect("a time");
            let received = Stamp { wall_ms: t_ns / 1_000_000, mono_ns: t_ns };
            let next = Generation(u32::try_from(connections.len()).expect("few") + 1);
            let name = line["conn"].as_str().unwrap_or_default().to_owned();
            let (classifier, generation) = connections.entry(name).or_insert_with(|| (Classifier::new(&profile), next));
            ages.generation = *generation;
            match (line["data"].as_str(), line["b64"].as_str()) {
                (Some(text), _) => drive::take(classifier, FeedFrame::Text(text), received, &mut ages),
                (_, Some(packed)) => {
                    let bytes = BASE64_STANDARD.decode(packed).expect("base64");
                    drive::take(classifier, FeedFrame::Binary(&bytes), received, &mut ages);
                }
                _ => panic!("expected `data` or `b64`, found neither"),
            }
        }
        assert!(!ages.samples.contains(&AgeSample::Unreadable), "{feed}");
        let seconds = |sample: &AgeSample| if let AgeSample::Age { seconds } = sample { Some(*seconds) } else { None };
        let (count, greatest) =
            ages.samples.iter().filter_map(seconds).fold((0, 0.0f64), |(count, max), age| (count + 1, max.max(age)));
        let ahead = ages.samples.iter().filter(|sample| matches!(sample, AgeSample::Ahead { .. })).count();
        Some((count, ahead, greatest))
    }

    #[test]
    fn recordings_show_the_age_of_messages_or_that_the_recorders_clock_was_behind() {
        for (feed, profile, is_behind) in [
            ("binance-spot", "binance", true),
            ("binance-usdm", "binance-usdm", true),
            ("bitstamp", "bitstamp", true),
            ("coinbase-exchange", "coinbase-exchange", true),
            ("deribit", "deribit", true),
            ("gemini-v2", "gemini", false),
            ("htx", "htx", false),
            ("kraken-v1", "kraken-v1", false),
            ("kraken-v2", "kraken-v2", true),
            ("okx-v5", "okx-v5", false),
        ] {
            let Some((ages, ahead, greatest)) = measured(feed, profile) else { return };
            assert_eq!(ahead > 0, is_behind, "{feed}: {ahead} times ahead");
            assert!(ages > 0 || is_behind, "{feed}: nothing was measured");
            assert!(greatest < 10.0, "{feed}: {greatest} s");
        }
    }
}
