//! `fanline cluster`: how a cluster stands, as one of its servers knows it.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cli::admin_client::AdminError;
use crate::cli::admin_target::AdminTarget;
use crate::cli::answer_table::{moment, rows, table, text};
use crate::settings::table::Admin;

const EXAMPLES: &str = "\
Examples:
  fanline cluster status
  fanline cluster --address 10.0.0.7:9090 --key-file /run/secrets/fanline-admin-key status --json

Without --address and --socket, the server of this configuration on this machine is asked (admin.listen).";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ClusterOptions {
    #[command(flatten)]
    pub target: AdminTarget,
    #[command(subcommand)]
    call: ClusterCall,
}

#[derive(Debug, Subcommand)]
enum ClusterCall {
    /// Show who holds the feed, how far each server is, and the last takeover.
    Status,
}

/// Performs the call; returns what is to be printed.
pub(super) fn perform(options: &ClusterOptions, config: &Admin) -> Result<String, AdminError> {
    let client = options.target.client(config)?;
    match options.call {
        ClusterCall::Status => {
            let answer = client.ask("GET", "/admin/cluster", None)?;
            Ok(if options.target.json { format!("{answer:#}") } else { status(&answer) })
        }
    }
}

fn status(answer: &Value) -> String {
    let takeover = &answer["takeover"];
    let takeover = if takeover.is_null() {
        "-".to_owned()
    } else {
        let (node, reason) = (text(&takeover["node_name"]), text(&takeover["reason"]));
        format!("{} by {node} ({reason})", moment(&takeover["at_ms"]))
    };
    let facts = [
        ("feed", text(&answer["feed"])),
        ("server", text(&answer["node_name"])),
        ("role", text(&answer["role"])),
        ("state", text(&answer["state"])),
        ("term", text(&answer["term"])),
        ("ingester", text(&answer["ingester"])),
        ("epoch", text(&answer["epoch"])),
        ("offset", format!("{} of {}", text(&answer["offset"]), text(&answer["log_offset"]))),
        ("lag", milliseconds(&answer["lag_ms"])),
        ("last takeover", takeover),
        ("heals", text(&answer["heals"])),
    ];
    let facts: Vec<Vec<String>> = facts.into_iter().map(|(name, fact)| vec![name.to_owned(), fact]).collect();
    let mut members = vec![["OTHER SERVERS", "ROLE", "TERM", "OFFSET", "HEARD"].map(str::to_owned).to_vec()];
    for row in rows(&answer["members"]) {
        members.push(vec![
            text(&row["node_name"]),
            text(&row["role"]),
            text(&row["term"]),
            text(&row["offset"]),
            format!("{} ago", milliseconds(&row["heard_ms_ago"])),
        ]);
    }
    format!("{}\n{}", table(&facts), table(&members))
}

fn milliseconds(value: &Value) -> String {
    let duration = Duration::from_millis(value.as_u64().unwrap_or_default());
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_is_shown_as_facts_and_a_table_of_the_other_servers() {
        let member = json!({"node_name": "b\u{1b}", "role": "follower", "term": 3, "offset": 11, "heard_ms_ago": 1500});
        let answer = json!({
            "feed": "f", "node_name": "a", "role": "ingester", "state": "ready", "term": 3, "ingester": "a",
            "epoch": "0f", "offset": 11, "log_offset": 12, "lag_ms": 1, "heals": 0, "takeover": null, "members": [member]
        });
        let shown = status(&answer);
        assert!(shown.contains("offset         11 of 12\n") && shown.contains("last takeover  -\n"), "{shown}");
        assert!(shown.ends_with("b\\u{1b}        follower  3     11      1s 500ms ago\n"), "{shown}");
    }
}
