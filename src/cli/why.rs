//! `fanline why`: why sessions have ended, and connections were refused, as the server's journal of ends has it.

use std::fmt::Write;
use std::net::IpAddr;

use clap::Args;
use serde_json::Value;
use url::form_urlencoded;

use crate::cli::admin_client::AdminError;
use crate::cli::admin_target::AdminTarget;
use crate::cli::answer_table::{moment, rows, text, texts};
use crate::settings::table::Admin;

const EXAMPLES: &str = "\
Examples:
  fanline why 60480000000017        the session with this number: `session` of its client's `welcome`
  fanline why 203.0.113.7           the last sessions and refused connections of this address
  fanline why alice                 the last sessions of this subject
  fanline why --limit 100 --json    the last ends of all

Without --address and --socket, the server of this configuration on this machine is asked (admin.listen).";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct WhyOptions {
    #[command(flatten)]
    pub target: AdminTarget,
    /// The number of a session, an IP address, or a subject. Default: all.
    #[arg(value_name = "ID|ADDRESS|SUBJECT")]
    whom: Option<String>,
    /// A subject that looks like a number or an address.
    #[arg(long, conflicts_with = "whom")]
    sub: Option<String>,
    /// At most so many, newest first.
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

/// Asks; returns what is to be printed.
pub(super) fn perform(options: &WhyOptions, config: &Admin) -> Result<String, AdminError> {
    let client = options.target.client(config)?;
    let mut query = form_urlencoded::Serializer::new(String::new());
    match (&options.whom, &options.sub) {
        (Some(whom), _) => query.append_pair(named(whom), whom),
        (None, Some(sub)) => query.append_pair("sub", sub),
        (None, None) => &mut query,
    };
    query.append_pair("limit", &options.limit.to_string());
    let answer = client.ask("GET", &format!("/admin/ends?{}", query.finish()), None)?;
    Ok(if options.target.json { format!("{answer:#}") } else { paragraphs(&answer) })
}

/// What a word names.
fn named(whom: &str) -> &'static str {
    if whom.parse::<u64>().is_ok() {
        "session"
    } else if whom.parse::<IpAddr>().is_ok() {
        "address"
    } else {
        "sub"
    }
}

fn paragraphs(answer: &Value) -> String {
    let ends = rows(&answer["ends"]);
    if ends.is_empty() {
        return "nothing is known of it: it is still connected (`fanline admin sessions`), it was on another server, or \
                later ends have displaced it (journal.ends_max)"
            .into();
    }
    let mut out = String::new();
    for end in ends {
        // A `String` takes everything.
        let _ = writeln!(out, "{}", paragraph(end));
    }
    out
}

fn paragraph(end: &Value) -> String {
    let given = |name: &str, value: &Value| match value {
        Value::Null => String::new(),
        value => format!(" {name} {}", text(value)),
    };
    let who = format!("{}{}{}", given("sub", &end["sub"]), given("tier", &end["tier"]), given("from", &end["address"]));
    let code = given("close code", &end["close_code"]);
    let (reason, transport) = (text(&end["reason"]), text(&end["transport"]));
    let mut lines = match end["session"].as_u64() {
        Some(number) => format!(
            "{}  session {number}{who} over {transport}, since {}\n",
            moment(&end["ended_ms"]),
            moment(&end["opened_ms"])
        ),
        None => format!(
            "{}  no session{who} over {transport}, {} times since {}\n",
            moment(&end["ended_ms"]),
            text(&end["times"]),
            moment(&end["opened_ms"])
        ),
    };
    lines += &format!("  why:     {reason}{code}: {}\n", text(&end["detail"]));
    if !end["remedy"].is_null() {
        lines += &format!("  remedy:  {}\n", text(&end["remedy"]));
    }
    let standing = &end["standing"];
    if !standing.is_null() {
        let shown = rows(&standing["patterns"]).len() as u64;
        let more = standing["patterns_count"].as_u64().unwrap_or(shown).saturating_sub(shown);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let patterns = if shown == 0 { "nothing".into() } else { texts(&standing["patterns"]) };
        let pace = standing["every_ms"].as_u64().map_or_else(String::new, |ms| format!(" every {ms} ms"));
        lines += &format!(
            "  stream:  {patterns}{more}{pace}; sent up to {}, {} behind, {} bytes unsent, {} skips\n",
            text(&standing["sent_offset"]),
            text(&standing["lag"]),
            text(&standing["unsent_bytes"]),
            text(&standing["skips"])
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_word_is_a_number_an_address_or_a_subject() {
        let cases = [("17", "session"), ("192.0.2.1", "address"), ("2001:db8::1", "address"), ("alice", "sub")];
        for (word, name) in cases {
            assert_eq!(named(word), name, "{word}");
        }
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let end = json!({
            "session": 7, "sub": "a\u{1b}[2J\nb", "transport": "websocket", "opened_ms": 0, "ended_ms": 1000,
            "reason": "too_slow", "close_code": 4410, "detail": "fell behind", "remedy": "read", "times": 1,
            "standing": {"patterns": ["x\u{9b}y"], "patterns_count": 3, "sent_offset": 5, "lag": 2}
        });
        let shown = paragraphs(&json!({"ends": [end]}));
        assert!(shown.contains("sub a\\u{1b}[2J\\u{a}b over websocket"), "{shown}");
        assert!(shown.contains("too_slow close code 4410: fell behind\n  remedy:  read\n"), "{shown}");
        assert!(shown.contains("x\\u{9b}y and 2 more; sent up to 5, 2 behind"), "{shown}");
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
    }
}
