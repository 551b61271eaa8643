//! What was measured of a server in one round, the tables of the medians, and the verdict.

use std::fmt::Write;

use super::servers::SERVERS;

/// Figures of one server in one round; NaN where there is none.
pub type Row = [f64; FIGURES];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    CpuUs,
    P99Ms,
    Lost,
    PerSecond,
    SaturatedCpuUs,
    SaturatedLost,
    Kib,
    Bytes,
    SlowCpuUs,
    SlowBytes,
    SlowP99Ms,
    SlowLost,
    DeflatedCpuUs,
    DeflatedBytes,
    DeflatedP99Ms,
    DeflatedLost,
    DeflatedKib,
    ListsCpuUs,
    ListsP99Ms,
    ListsLost,
    ListsBytes,
    ListsFastCpuUs,
    ListsFastLost,
    ListsKib,
    ListsDeflatedCpuUs,
    ListsDeflatedP99Ms,
    ListsDeflatedLost,
    ListsDeflatedBytes,
    ListsDeflatedKib,
}

use Figure::*;

pub const FIGURES: usize = ListsDeflatedKib as usize + 1;
const BARE: usize = 0;
pub const OURS: usize = 1;
/// Closer figures are reported as level.
const LEVEL: f64 = 0.02;

/// One row by server and round.
#[derive(Default)]
pub struct Rounds(Vec<[Option<Row>; SERVERS.len()]>);

/// Heading, figure, decimal places.
type Column = (&'static str, Figure, usize);

const PLAIN: [Column; 8] = [
    ("CPU us per delivery", CpuUs, 2),
    ("p99 ms", P99Ms, 1),
    ("lost", Lost, 4),
    ("saturated: deliveries/s", PerSecond, 0),
    ("CPU us", SaturatedCpuUs, 3),
    ("lost", SaturatedLost, 4),
    ("KiB per connection", Kib, 1),
    ("bytes per delivery", Bytes, 0),
];
const DEFLATED: [Column; 9] = [
    ("10 msg/s: CPU us per delivery", SlowCpuUs, 1),
    ("bytes", SlowBytes, 0),
    ("p99 ms", SlowP99Ms, 1),
    ("lost", SlowLost, 4),
    ("100 msg/s: CPU us", DeflatedCpuUs, 1),
    ("bytes", DeflatedBytes, 0),
    ("p99 ms", DeflatedP99Ms, 1),
    ("lost", DeflatedLost, 4),
    ("KiB per connection in use", DeflatedKib, 1),
];

const LISTS: [Column; 12] = [
    ("1000 msg/s: CPU us per delivery", ListsCpuUs, 2),
    ("p99 ms", ListsP99Ms, 1),
    ("lost", ListsLost, 4),
    ("bytes", ListsBytes, 0),
    ("5000 msg/s: CPU us", ListsFastCpuUs, 2),
    ("lost", ListsFastLost, 4),
    ("KiB per connection in use", ListsKib, 1),
    ("deflated, 1000 msg/s: CPU us", ListsDeflatedCpuUs, 2),
    ("p99 ms", ListsDeflatedP99Ms, 1),
    ("lost", ListsDeflatedLost, 4),
    ("bytes", ListsDeflatedBytes, 0),
    ("KiB per connection in use", ListsDeflatedKib, 1),
];

/// What the verdict is about: heading, how to find it, whether more of it is better.
type Dimension = (&'static str, fn(&Row) -> f64, bool);

const DIMENSIONS: [Dimension; 13] = [
    ("deliveries/s", |row| row[PerSecond as usize], true),
    ("CPU per delivery", |row| row[CpuUs as usize], false),
    ("memory per connection", |row| row[Kib as usize], false),
    ("bytes, plain", |row| row[Bytes as usize], false),
    ("bytes, compressed by who can", |row| row[Bytes as usize].min(row[DeflatedBytes as usize]), false),
    ("deflated, 100 msg/s: CPU", |row| row[DeflatedCpuUs as usize], false),
    ("deflated: memory", |row| row[DeflatedKib as usize], false),
    ("deflated, 10 msg/s: CPU", |row| row[SlowCpuUs as usize], false),
    ("deflated, 10 msg/s: bytes", |row| row[SlowBytes as usize], false),
    ("lists, 1000 msg/s: CPU", |row| row[ListsCpuUs as usize], false),
    ("lists, 5000 msg/s: CPU", |row| row[ListsFastCpuUs as usize], false),
    ("lists, deflated: CPU", |row| row[ListsDeflatedCpuUs as usize], false),
    ("lists, deflated: bytes", |row| row[ListsDeflatedBytes as usize], false),
];

impl Rounds {
    pub fn begin(&mut self) {
        self.0.push([None; SERVERS.len()]);
    }

    pub fn note(&mut self, server: usize, row: Row) {
        if let Some(round) = self.0.last_mut() {
            round[server] = Some(row);
        }
    }

    pub fn tables(&self) -> String {
        let mut out = String::from("\n## Plain, at 100 msg/s and saturated\n");
        self.table(&mut out, &PLAIN, true);
        out.push_str("\n## With permessage-deflate\n");
        self.table(&mut out, &DEFLATED, false);
        out.push_str("\n## 2000 clients, each with its own 20 of 1000 topics\n");
        self.table(&mut out, &LISTS, false);
        out.push_str("\n## fanline's figure by the peer's\n");
        self.verdict(&mut out);
        out
    }

    fn table(&self, out: &mut String, columns: &[Column], with_bare: bool) {
        let mut headings: Vec<&str> = columns.iter().map(|column| column.0).collect();
        if with_bare {
            headings.insert(1, "by the bare loop's");
        }
        head(out, &headings);
        for (server, peer) in SERVERS.iter().enumerate() {
            let mut cells: Vec<String> =
                columns.iter().map(|(_, figure, digits)| self.median(server, *figure, *digits)).collect();
            if cells.iter().all(|cell| cell == NONE) {
                continue;
            }
            if with_bare {
                let ratio = self.ratio(server, BARE, |row| row[CpuUs as usize]);
                cells.insert(1, ratio.map_or(NONE.into(), |ratio| format!("{ratio:.2}")));
            }
            line(out, peer.name, &cells);
        }
    }

    fn verdict(&self, out: &mut String) {
        let mut headings: Vec<&str> = DIMENSIONS.iter().map(|dimension| dimension.0).collect();
        headings.push("not ahead in");
        head(out, &headings);
        for (server, peer) in SERVERS.iter().enumerate().skip(OURS + 1) {
            let mut not_ahead = Vec::new();
            let mut cells = Vec::new();
            for (heading, figure, more_is_better) in DIMENSIONS {
                let ratio = self.ratio(OURS, server, figure);
                let verdict = ratio.map(|ratio| verdict(ratio, more_is_better));
                // Every server has plain figures for all, unless it could not carry the load.
                let may_lack = ["deflated", "lists"].iter().any(|some| heading.starts_with(some));
                let is_missing = verdict.is_none() && !may_lack;
                if is_missing || verdict.is_some_and(|verdict| verdict != "ahead") {
                    not_ahead.push(heading);
                }
                cells.push(ratio.zip(verdict).map_or(NONE.into(), |(ratio, verdict)| format!("{ratio:.3} {verdict}")));
            }
            if cells.iter().any(|cell| cell != NONE) {
                cells.push(if not_ahead.is_empty() { "nothing".into() } else { not_ahead.join("; ") });
                line(out, peer.name, &cells);
            }
        }
    }

    /// Of the rounds in which the server was measured.
    fn median(&self, server: usize, figure: Figure, digits: usize) -> String {
        let values = self.0.iter().filter_map(|round| Some(round[server].as_ref()?[figure as usize]));
        median(values).map_or(NONE.into(), |value| format!("{value:.digits$}"))
    }

    /// Median of the rounds' ratios, since the machine's speed drifts between rounds.
    fn ratio(&self, server: usize, other: usize, figure: fn(&Row) -> f64) -> Option<f64> {
        let pairs = self.0.iter().filter_map(|round| round[server].as_ref().zip(round[other].as_ref()));
        median(pairs.map(|(row, other)| figure(row) / figure(other)))
    }
}

const NONE: &str = "-";

fn verdict(ratio: f64, more_is_better: bool) -> &'static str {
    let gain = if more_is_better { ratio - 1.0 } else { 1.0 - ratio };
    match gain {
        gain if gain > LEVEL => "ahead",
        gain if gain < -LEVEL => "BEHIND",
        _ => "level",
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((low + high) / 2.0)
}

fn head(out: &mut String, headings: &[&str]) {
    let _ = writeln!(out, "| server | {} |\n|---{}|", headings.join(" | "), "|---".repeat(headings.len()));
}

fn line(out: &mut String, name: &str, cells: &[String]) {
    let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
}
