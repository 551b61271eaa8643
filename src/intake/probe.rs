//! A look at a feed and a report of its topics: the work of `fanline probe`.

use std::fmt;
use std::time::Duration;

use rand::RngExt;
use tokio::sync::watch;

use crate::bus::clock::Clock;
use crate::bus::{self, Limits};
use crate::protocol::encoding::PayloadKind;
use crate::words::ids::Epoch;
use crate::words::metrics::Meters;

use super::kept_messages::KeptMessage;
use super::upstream::{Settings, Upstream, UpstreamError};
use crate::profile::rule::MessageClass;

/// Characters of a sample that the report shows.
const SAMPLE_CHARS: usize = 100;
/// Enough for the largest venue's symbols many times over.
const TOPICS_MAX: usize = 100_000;
/// Frames are only read through the last-value cache.
const RING_FRAMES_MAX: usize = 1024;
const RING_BYTES_MAX: usize = 64 << 20;

/// The report about a feed.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeReport {
    /// Without user, password and query.
    pub url: String,
    pub profile: String,
    /// The topic template, if it was guessed.
    pub guess: Option<String>,
    /// The remedy, if messages look like changes.
    pub changes: Option<String>,
    pub connects: u64,
    /// Duration of the look.
    pub seconds: f64,
    /// Messages by class, without the classes that did not occur.
    pub classes: Vec<(&'static str, u64)>,
    /// All topics, the busiest first.
    pub topics: Vec<TopicReport>,
    /// Topics with a sample at most.
    pub samples: usize,
    /// Problems, each once.
    pub troubles: Vec<String>,
    /// The messages that were kept, if some were to be, with masked secrets.
    pub(crate) kept: Vec<KeptMessage>,
}

/// One topic of a feed.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicReport {
    pub topic: String,
    pub count: u64,
    pub per_second: f64,
    /// The newest payload, shortened.
    pub sample: String,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("no connection to `{url}` within {seconds} s: {trouble}")]
    NeverConnected { url: String, seconds: u64, trouble: String },
}

/// Connects, listens for `duration`, and reports; at most `samples` topics are shown with a sample.
pub async fn probe(
    settings: Settings,
    clock: Clock,
    duration: Duration,
    samples: usize,
) -> Result<ProbeReport, ProbeError> {
    let limits = Limits { ring_frames_max: RING_FRAMES_MAX, ring_bytes_max: RING_BYTES_MAX, topics_max: TOPICS_MAX };
    let (publisher, reader) = bus::open(Epoch(rand::rng().random()), limits, &Meters::unread());
    let (profile, kept) = (settings.profile.name.clone(), settings.kept.clone());
    let mut upstream = Upstream::new(settings, publisher, clock, &Meters::unread())?;
    let (stop, mut stopped) = watch::channel(false);
    let started = clock.now();
    let serving = async {
        let served = upstream.serve(&mut stopped).await;
        (served, clock.now())
    };
    let ending = async {
        tokio::time::sleep(duration).await;
        stop.send_replace(true);
        // Kept until the feed has seen it: a dropped sender means stop as well.
        std::future::pending::<()>().await
    };
    let (served, ended) = tokio::select! {
        served = serving => served,
        () = ending => unreachable!("it waits for ever"),
    };
    served?;
    let counts = upstream.counts();
    if counts.connects == 0 {
        let trouble = counts.troubles().last().cloned().unwrap_or_else(|| "no answer so far".to_string());
        return Err(ProbeError::NeverConnected { url: upstream.shown_url(), seconds: duration.as_secs(), trouble });
    }
    let seconds = ended.ns_since(started) as f64 / 1e9;
    let mut topics = Vec::new();
    reader.each_latest(|current| {
        if current.count == 0 {
            // A topic with only a status is listed among the troubles.
            return;
        }
        let newest = current.retained.newest();
        let payload = &newest.payload;
        topics.push(TopicReport {
            topic: newest.topic.name.to_string(),
            count: current.count,
            per_second: current.count as f64 / seconds,
            sample: sample(&payload.bytes, payload.kind),
        });
    });
    topics.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.topic.cmp(&b.topic)));
    let mut kept = kept.map(|kept| kept.take()).unwrap_or_default();
    for text in kept.iter_mut().filter_map(|message| message.content.as_mut().ok()) {
        *text = upstream.hidden().mask(text).into_owned();
    }
    let by_class = MessageClass::ALL.into_iter().map(|class| (class.label(), counts.messages[class as usize]));
    Ok(ProbeReport {
        url: upstream.shown_url(),
        profile,
        guess: upstream.guess().map(ToString::to_string),
        changes: upstream.guess().and_then(|guess| Some(guess.changes.as_ref()?.to_string())),
        connects: counts.connects,
        seconds,
        classes: by_class.filter(|(_, count)| *count > 0).collect(),
        topics,
        samples,
        troubles: counts.troubles().to_vec(),
        kept,
    })
}

fn sample(bytes: &[u8], kind: PayloadKind) -> String {
    if kind == PayloadKind::Binary {
        return format!("{} bytes of binary", bytes.len());
    }
    let text = String::from_utf8_lossy(bytes);
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().take(SAMPLE_CHARS).map(clean).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

impl fmt::Display for ProbeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let classes: Vec<String> = self.classes.iter().map(|(class, count)| format!("{count} {class}")).collect();
        let messages = if classes.is_empty() { "none".to_string() } else { classes.join(", ") };
        writeln!(f, "feed      {}", self.url)?;
        writeln!(f, "profile   {}", self.profile)?;
        if let Some(guess) = &self.guess {
            writeln!(f, "topics    {guess}")?;
        }
        if let Some(changes) = &self.changes {
            writeln!(f, "changes   {changes}")?;
        }
        writeln!(f, "seen      {:.1} s, {} connections, messages: {messages}", self.seconds, self.connects)?;
        for trouble in &self.troubles {
            writeln!(f, "trouble   {trouble}")?;
        }
        let width = self.topics.iter().take(self.samples).map(|topic| topic.topic.chars().count()).max();
        let width = width.unwrap_or(0).max("topic".len());
        writeln!(f, "\n{:<width$}  {:>9}  {:>9}  newest", "topic", "messages", "per s")?;
        for TopicReport { topic, count, per_second, sample } in self.topics.iter().take(self.samples) {
            writeln!(f, "{topic:<width$}  {count:>9}  {per_second:>9.1}  {sample}")?;
        }
        match self.topics.len().saturating_sub(self.samples) {
            0 => Ok(()),
            more => writeln!(f, "and {more} more topics"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_an_aligned_table() {
        let topic = |topic: &str, count| TopicReport {
            topic: topic.to_string(),
            count,
            per_second: count as f64 / 2.0,
            sample: "{}".to_string(),
        };
        let report = ProbeReport {
            url: "wss://h/ws".to_string(),
            profile: "generic".to_string(),
            guess: None,
            changes: Some("fold them".to_string()),
            connects: 1,
            seconds: 2.0,
            classes: vec![("data", 30), ("ack", 1)],
            topics: vec![topic("quote.AAPL", 20), topic("q", 10), topic("z", 1)],
            samples: 2,
            troubles: vec!["closed".to_string()],
            kept: Vec::new(),
        };
        let expected = "\
feed      wss://h/ws
profile   generic
changes   fold them
seen      2.0 s, 1 connections, messages: 30 data, 1 ack
trouble   closed

topic        messages      per s  newest
quote.AAPL         20       10.0  {}
q                  10        5.0  {}
and 1 more topics
";
        assert_eq!(report.to_string(), expected);
    }
}
