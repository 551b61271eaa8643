//! A row of the table of all attacks.

use std::fmt::Write;

use crate::stand::row::Row;

/// One line of Markdown.
pub fn line(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

pub fn cells(row: &Row) -> Vec<String> {
    let (quiet, attacked) = (&row.quiet, &row.attacked);
    let skips = if attacked.skips > 0 { format!(" ({} skips)", attacked.skips) } else { String::new() };
    let lost = if row.ends_server { "-".into() } else { format!("{}{skips}", attacked.lost) };
    vec![
        row.attack.into(),
        (row.sent_bytes >> 10).to_string(),
        format!("{:.2}, {:.2}", quiet.p50_ms, quiet.p99_ms),
        format!("{:.2}, {:.2}", attacked.p50_ms, attacked.p99_ms),
        format!("{:.1}", row.p99_ratio()),
        format!("{:.0}", attacked.longest_ms),
        lost,
        format!("{:.0}, {:.0}", attacked.newcomers.join_ms, attacked.newcomers.snapshot_ms),
        format!("{:.2}, {:.2}", quiet.cpu, attacked.cpu),
        format!("+{}", row.growth_bytes >> 20),
        verdict(row),
    ]
}

fn verdict(row: &Row) -> String {
    let mut said = [row.faults(), row.delays()].concat();
    let held = if said.is_empty() { "held" } else { "NOT HELD: " };
    let mut text = format!("{held}{}", said.join(", "));
    said.clear();
    if row.turned_away > 0 {
        said.push(format!("{} attackers turned away", row.turned_away));
    }
    if !row.found.note.is_empty() {
        said.push(row.found.note.clone());
    }
    if let Some(after) = row.after.as_ref().filter(|after| after.longest_ms > 250.0) {
        said.push(format!("{:.0} ms still after it", after.longest_ms));
    }
    if !said.is_empty() {
        let _ = write!(text, " ({})", said.join("; "));
    }
    text
}
