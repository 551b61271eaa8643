//! The report of `fanline bench`: a table for people, or JSON for programs.

use std::fmt;

use serde::Serialize;

use super::bare::Bare;
use super::capacity::Capacity;
use super::client::AgeSource;
use super::harness::{Connecting, Measurement};
use super::options::{FormatName, RateOption};
use super::plan::{FeedSource, Plan};
use super::tally::Latency;

/// Longer lists of patterns are counted instead of shown.
const TOPICS_BYTES_MAX: usize = 100;

/// All measurements, with their conditions.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    pub version: &'static str,
    /// Origin of the feed: `bench`, `configured` or `target`.
    pub feed: &'static str,
    /// Messages per second of the bench's feed, as requested.
    pub rate: Option<RateOption>,
    /// Patterns of every client; none if each has its own topics.
    pub topics: Option<String>,
    pub topics_each: Option<usize>,
    /// Whether groups of clients have the same topics.
    pub overlap: bool,
    pub changes_per_second: Option<u64>,
    pub format: FormatName,
    pub deflate: bool,
    /// Whether clients speak TLS.
    pub tls: bool,
    /// Resolution of latency: `1 ns`, `1 ms`, or none if unknown.
    pub latency_resolution: Option<&'static str>,
    /// With a search: the step with the most clients served well.
    pub result: Measurement,
    /// The same span before it, without changes of lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unchanged: Option<Measurement>,
    /// CPU of the server: of the span with changes, less that of the one without.
    pub cpu_us_per_change: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bare: Vec<Bare>,
}

impl BenchReport {
    /// `unchanged` is the span without changes of lists, if there were changes.
    pub fn new(
        plan: &Plan,
        result: Measurement,
        unchanged: Option<Measurement>,
        capacity: Option<Capacity>,
        bare: Vec<Bare>,
    ) -> BenchReport {
        let feed = match plan.source {
            FeedSource::Ours { .. } => "bench",
            FeedSource::Configured { .. } => "configured",
            FeedSource::Target(_) => "target",
        };
        let latency_resolution = match plan.reading().age {
            AgeSource::Timestamp => Some("1 ns"),
            AgeSource::Ts => Some("1 ms"),
            AgeSource::Unknown => None,
        };
        let topics = plan.topics_each.is_none().then(|| plan.topics.clone());
        let (format, topics_each, overlap) = (plan.format, plan.topics_each, plan.overlap);
        let (changes_per_second, cpu_us_per_change) =
            (plan.changes_per_second, unchanged.as_ref().and_then(|unchanged| cpu_us_per_change(unchanged, &result)));
        let (rate, deflate, version) = (plan.rate(), plan.deflate, env!("CARGO_PKG_VERSION"));
        BenchReport {
            version,
            feed,
            rate,
            topics,
            topics_each,
            overlap,
            changes_per_second,
            format,
            deflate,
            tls: plan.tls(),
            latency_resolution,
            result,
            unchanged,
            cpu_us_per_change,
            capacity,
            bare,
        }
    }

    /// The subscriptions of the clients.
    fn topics(&self) -> String {
        match (&self.topics, self.topics_each, self.result.feed_topics) {
            (_, Some(each), Some(all)) if self.overlap => format!("{each} of {all} each, the same for groups"),
            (_, Some(each), Some(all)) => format!("{each} of {all} each, its own"),
            (Some(topics), ..) if topics.len() > TOPICS_BYTES_MAX => {
                format!("{} patterns", topics.split(',').count())
            }
            (topics, ..) => topics.clone().unwrap_or_default(),
        }
    }

    /// The report as JSON, indented.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report holds only numbers and texts")
    }

    /// The answer to "how many clients can this machine serve with my feed?".
    fn sentence(&self, capacity: &Capacity) -> String {
        let step = &self.result;
        let bytes = step.bytes_per_delivery.unwrap_or(0.0);
        let feed = format!("{:.0} msg/s, {bytes:.0} B per delivery", step.messages_per_second);
        if capacity.clients == 0 {
            return format!(
                "This machine does not serve {} clients of this feed ({feed}) well: {}.",
                step.clients, capacity.limit
            );
        }
        let p99 = step.latency.map_or("unknown".into(), |latency| ms(latency.p99_us));
        let server = step.server.map_or("the server's use is unknown".into(), |server| {
            format!("the server used {:.2} cores and {:.0} MiB", server.cores, mib(server.resident_bytes))
        });
        let spare = match capacity.clients_with_cpu_to_spare {
            0 => "No step left CPU to spare.".to_owned(),
            clients => format!("With CPU to spare it serves {clients}."),
        };
        format!(
            "This machine serves about {} clients of this feed ({feed}) at p99 {p99}; at that point {server}; the load \
             generator used {:.2} cores of the same {}, everything else {:.2}. {spare} The limit: \
             {}.",
            capacity.clients,
            step.generator_cores,
            capacity.cores,
            step.other_cores.unwrap_or(0.0),
            capacity.limit
        )
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (step, deflate) = (&self.result, if self.deflate { "deflated" } else { "plain" });
        let tls = if self.tls { ", TLS" } else { "" };
        writeln!(
            f,
            "fanline {}, clients: {}, topics: {}, {}, {deflate}{tls}, {:.1} s",
            self.version,
            step.clients,
            self.topics(),
            self.format.as_str(),
            step.seconds
        )?;
        if let Some(capacity) = &self.capacity {
            table_of_steps(f, capacity)?;
        }
        let payload = step.bytes_per_message.map_or(String::new(), |bytes| format!(", {bytes:.0} bytes each"));
        let messages = step.messages.map_or(String::new(), |messages| format!("{messages} messages, "));
        row(f, "feed", &format!("{messages}{:.0} per second{payload}", step.messages_per_second))?;
        if let Some(Connecting { clients, seconds }) = step.connecting {
            let rate = clients as f64 / seconds;
            row(f, "connecting", &format!("{clients} clients in {seconds:.2} s, {rate:.0} per second"))?;
        }
        row(f, "deliveries", &format!("{}, {:.0} per second", step.deliveries, step.deliveries_per_second))?;
        if let Some(bytes) = step.bytes_per_delivery {
            let smaller = step.ratio.filter(|_| self.deflate);
            let smaller = smaller.map_or(String::new(), |ratio| format!(", {ratio:.2} times smaller than plain"));
            row(f, "bytes per delivery", &format!("{bytes:.1}{smaller}"))?;
            let resolution = self.latency_resolution.unwrap_or_default();
            let latency =
                step.latency.map_or("unknown for this feed and format".into(), |latency| spread(&latency, resolution));
            row(f, "latency", &latency)?;
        } else {
            row(
                f,
                "other messages",
                &format!("{} heartbeats and other server messages, {} pings", step.notices, step.pings),
            )?;
        }
        row(f, "server", &server(step))?;
        if let Some(unchanged) = &self.unchanged {
            row(f, "changes of lists", &changes(step, unchanged, self.cpu_us_per_change))?;
        }
        row(f, "load generator", &format!("{:.2} cores", step.generator_cores))?;
        if let Some(cores) = step.other_cores {
            row(f, "everything else", &format!("{cores:.2} cores of this machine"))?;
        }
        row(f, "losses", &losses(step))?;
        if step.compared + step.wrong > 0 {
            row(f, "texts compared", &format!("{}, wrong: {}", step.compared + step.wrong, step.wrong))?;
        }
        table_of_bare(f, step, &self.bare)?;
        self.capacity.as_ref().map_or(Ok(()), |capacity| write!(f, "\n{}", self.sentence(capacity)))
    }
}

/// None where the server's CPU is unknown, or nothing was changed.
fn cpu_us_per_change(unchanged: &Measurement, changed: &Measurement) -> Option<f64> {
    let cpu_s = |step: &Measurement| Some(step.server?.cores * step.seconds);
    let more_s = cpu_s(changed)? - cpu_s(unchanged)?;
    (changed.changes > 0).then(|| more_s * 1e6 / changed.changes as f64)
}

fn changes(step: &Measurement, unchanged: &Measurement, cpu_us: Option<f64>) -> String {
    let cores = |step: &Measurement| step.server.map_or(f64::NAN, |server| server.cores);
    format!(
        "{}, {:.0} per second, {:.2} us of the server's CPU each: {:.3} cores, {:.3} without; refused: {}",
        step.changes,
        step.changes as f64 / step.seconds,
        cpu_us.unwrap_or(f64::NAN),
        cores(step),
        cores(unchanged),
        step.refusals
    )
}

/// CPU per delivery, or per connection without deliveries; and memory.
fn server(step: &Measurement) -> String {
    let Some(server) = step.server else { return "unknown for a server that was not started here".into() };
    let cpu = match server.cpu_us_per_delivery {
        Some(us) => {
            let message = server.cpu_us_per_message.map_or(String::new(), |us| format!(", {us:.1} us per message"));
            format!("{:.2} cores, {us:.3} us of CPU per delivery{message}", server.cores)
        }
        None => {
            let us = server.cores * 1e6 / step.clients as f64;
            format!("{:.4} cores, {us:.2} us of CPU per connection and second", server.cores)
        }
    };
    let each = server
        .bytes_per_connection
        .map_or(String::new(), |bytes| format!(", {:.2} KiB per connection without the kernel's", bytes / 1024.0));
    format!("{cpu}, {:.0} MiB{each}", mib(server.resident_bytes))
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    writeln!(f, "  {name:<20}{text}")
}

fn spread(latency: &Latency, resolution: &str) -> String {
    format!(
        "p50 {}, p90 {}, p99 {}, p99.9 {}, max {} ({} samples, to {resolution})",
        ms(latency.p50_us),
        ms(latency.p90_us),
        ms(latency.p99_us),
        ms(latency.p999_us),
        ms(latency.max_us),
        latency.samples
    )
}

fn losses(step: &Measurement) -> String {
    let known = |count: Option<u64>| count.map_or("unknown".into(), |count| count.to_string());
    let mut text = format!("lost: {}, repeated: {}", known(step.lost), known(step.repeated));
    let rest = [
        ("gaps in offsets", step.gaps),
        ("skips received", step.skips),
        ("clients disconnected", step.ended),
        ("messages while the server was away", step.unheard),
    ];
    for (name, count) in rest {
        text.push_str(&format!(", {name}: {count}"));
    }
    text
}

fn table_of_steps(f: &mut fmt::Formatter<'_>, capacity: &Capacity) -> fmt::Result {
    writeln!(
        f,
        "\n  {:>8}{:>14}{:>10}{:>10}{:>10}{:>11}{:>10}{:>10}",
        "clients", "deliveries/s", "p50 ms", "p99 ms", "server", "generator", "others", "lost"
    )?;
    for step in &capacity.steps {
        let (p50, p99) = step.latency.map_or((f64::NAN, f64::NAN), |latency| (latency.p50_us, latency.p99_us));
        writeln!(
            f,
            "  {:>8}{:>14.0}{:>10.1}{:>10.1}{:>10.2}{:>11.2}{:>10.2}{:>10}",
            step.clients,
            step.deliveries_per_second,
            p50 / 1000.0,
            p99 / 1000.0,
            step.server.map_or(f64::NAN, |server| server.cores),
            step.generator_cores,
            step.other_cores.unwrap_or(f64::NAN),
            step.lost.unwrap_or(step.gaps)
        )?;
    }
    writeln!(f)
}

/// Figures of the bare loop, and the server's ratio to each.
fn table_of_bare(f: &mut fmt::Formatter<'_>, step: &Measurement, bare: &[Bare]) -> fmt::Result {
    if bare.is_empty() {
        return Ok(());
    }
    write!(f, "\n  {:<28}{:>14}", "", "fanline")?;
    for bare in bare {
        write!(f, "{:>14}{:>8}", format!("bare, {}", bare.messages_per_send), "ratio")?;
    }
    let p99 = |latency: Option<Latency>| latency.map_or(f64::NAN, |latency| latency.p99_us / 1000.0);
    let server =
        |figure: fn(&crate::bench::harness::ServerFigures) -> f64| step.server.as_ref().map_or(f64::NAN, figure);
    let known = |figure: Option<f64>| figure.unwrap_or(f64::NAN);
    type Figure = fn(&Bare) -> f64;
    let rows: [(&str, f64, Figure); 5] = [
        ("deliveries per second", step.deliveries_per_second, |bare| bare.deliveries_per_second),
        ("CPU us per delivery", server(|server| server.cpu_us_per_delivery.unwrap_or(f64::NAN)), |bare| {
            bare.cpu_us_per_delivery
        }),
        ("cores", server(|server| server.cores), |bare| bare.cores),
        ("bytes per delivery", known(step.bytes_per_delivery), |bare| bare.bytes_per_delivery),
        ("p99 of latency, ms", p99(step.latency), |bare| {
            bare.latency.map_or(f64::NAN, |latency| latency.p99_us / 1000.0)
        }),
    ];
    for (name, ours, theirs) in rows {
        write!(f, "\n  {name:<28}{}", figure(ours))?;
        for bare in bare {
            write!(f, "{}{:>8.2}", figure(theirs(bare)), ours / theirs(bare))?;
        }
    }
    writeln!(f)
}

fn figure(number: f64) -> String {
    if number >= 1000.0 { format!("{number:>14.0}") } else { format!("{number:>14.3}") }
}

fn ms(us: f64) -> String {
    if us < 10_000.0 { format!("{:.2} ms", us / 1000.0) } else { format!("{:.0} ms", us / 1000.0) }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
