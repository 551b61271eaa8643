//! Messages of the feed in the meters and the log: all are counted, and a sample of each class is logged now and then.

use metrics::Counter;

use crate::intake::classify::{Classified, FeedMessage};
use crate::intake::probe_counts::ProbeCounts;
use crate::profile::hidden::Hidden;
use crate::profile::rule::MessageClass;
use crate::words::metrics as names;
use crate::words::metrics::Meters;
use crate::words::rate_limited_log::RateLimitedLog;
use crate::words::stamp::Stamp;

/// Messages without any that fits, after which the profile is in doubt.
const MISFITS: u64 = 32;

pub(super) struct MessageLog {
    /// Name of the profile.
    profile: String,
    messages: [Counter; MessageClass::ALL.len()],
    bytes: Counter,
    limits: [RateLimitedLog; MessageClass::ALL.len()],
    /// Texts that are masked in the log.
    hidden: Hidden,
}

impl MessageLog {
    pub(super) fn new(profile: &str, hidden: Hidden, meters: &Meters) -> MessageLog {
        MessageLog {
            profile: profile.to_string(),
            messages: MessageClass::ALL
                .map(|class| meters.counter(&names::UPSTREAM_MESSAGES, &[("class", class.label())])),
            bytes: meters.counter(&names::UPSTREAM_BYTES, &[]),
            limits: Default::default(),
            hidden,
        }
    }

    /// One message is classified.
    pub(super) fn count(
        &mut self,
        classified: &Classified,
        message: &FeedMessage<'_>,
        received: Stamp,
        counts: &mut ProbeCounts,
    ) {
        let class = classified.class;
        self.messages[class as usize].increment(1);
        self.bytes.increment(message.bytes().len() as u64);
        counts.messages[class as usize] += 1;
        if classified.problem.is_some() || !matches!(class, MessageClass::Data | MessageClass::Ignore) {
            self.show(classified, message, received, counts);
        }
        if matches!(class, MessageClass::Unmatched | MessageClass::Garbled) {
            self.doubt(counts);
        }
    }

    /// Whether the profile is one for this feed at all.
    fn doubt(&self, counts: &mut ProbeCounts) {
        let of = |class: MessageClass| counts.messages[class as usize];
        let misfits = of(MessageClass::Unmatched) + of(MessageClass::Garbled);
        if misfits != MISFITS || counts.messages.iter().sum::<u64>() != misfits {
            return;
        }
        let sentence = format!(
            "none of the first {MISFITS} messages fits profile `{}`; check that it is the right one for this feed",
            self.profile
        );
        tracing::warn!("upstream: {sentence}");
        counts.trouble(sentence);
    }

    fn show(&mut self, classified: &Classified, message: &FeedMessage<'_>, received: Stamp, counts: &mut ProbeCounts) {
        let class = classified.class;
        let Some(hidden) = self.limits[class as usize].take(received) else { return };
        let excerpt = message.excerpt();
        let excerpt = self.hidden.mask(&excerpt);
        let rule = classified.rule.as_deref().unwrap_or("none");
        match (class, &classified.problem) {
            (_, Some(problem)) => {
                tracing::warn!(class = class.label(), rule, hidden, "upstream: {problem}: {excerpt}");
                counts.trouble(format!("{}: {problem}: {excerpt}", class.label()));
            }
            (MessageClass::Nack, None) => {
                tracing::warn!(rule, hidden, "upstream refused a request: {excerpt}");
                counts.trouble(format!("refused: {excerpt}"));
            }
            _ => tracing::debug!(class = class.label(), rule, hidden, "upstream: {excerpt}"),
        }
    }
}
