//! `fanline admin`: the operator's calls to a running server, shown as tables or as the JSON that the server answers.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use crate::cli::admin_client::{AdminClient, AdminError};
use crate::cli::admin_target::AdminTarget;
use crate::cli::answer_table::{moment, rows, table, text, texts};
use crate::settings::table::Admin;

/// `drain.handover_timeout` is at most an hour.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(3660);

const EXAMPLES: &str = "\
Examples:
  fanline admin sessions --tier free --limit 20
  fanline admin disconnect --sub alice --reconnect 30s
  fanline admin revoke --sub alice
  fanline admin revoke --jti 4f2a6c
  fanline admin reload
  fanline admin handover
  fanline admin usage --from 2027-01-01 --to 2027-01-31
  fanline admin --address 10.0.0.7:9090 --key-file /run/secrets/fanline-admin-key sessions

Without --address and --socket, the server of this configuration on this machine is asked (admin.listen).";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct AdminOptions {
    #[command(flatten)]
    pub target: AdminTarget,
    #[command(subcommand)]
    call: AdminCall,
}

#[derive(Debug, Subcommand)]
enum AdminCall {
    /// List sessions: who is connected, from where, to what, and who is slow.
    Sessions {
        /// Only those of this subject.
        #[arg(long)]
        sub: Option<String>,
        /// Only those of this tier.
        #[arg(long)]
        tier: Option<String>,
        /// Only those that receive this topic.
        #[arg(long)]
        topic: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "N", default_value = "100")]
        limit: u32,
        /// Only those with a higher number: the next page.
        #[arg(long, value_name = "NUMBER")]
        after: Option<u64>,
    },
    /// End sessions. Their clients may come back, unless the code is `revoked`.
    #[command(group = clap::ArgGroup::new("whom").required(true).args(["number", "sub", "tier", "jti", "all"]))]
    Disconnect {
        /// The session with this number.
        #[arg(value_name = "NUMBER")]
        number: Option<u64>,
        /// Those of this subject.
        #[arg(long)]
        sub: Option<String>,
        /// With --sub: of this issuer alone.
        #[arg(long, requires = "sub")]
        iss: Option<String>,
        /// Those of this tier.
        #[arg(long)]
        tier: Option<String>,
        /// Those with this token, by its claim `jti`.
        #[arg(long)]
        jti: Option<String>,
        /// All sessions.
        #[arg(long)]
        all: bool,
        /// Why.
        #[arg(long, value_enum, default_value = "kicked", conflicts_with = "number")]
        code: CodeChoice,
        /// Clients come back after a random time up to this one.
        #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
        reconnect: Duration,
    },
    /// Refuse tokens that are not expired, and end their sessions.
    #[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["sub", "iss", "jti"]))]
    Revoke {
        /// Tokens of this subject.
        #[arg(long, conflicts_with = "jti")]
        sub: Option<String>,
        /// Tokens of this issuer; with --sub, of both.
        #[arg(long, conflicts_with = "jti")]
        iss: Option<String>,
        /// The token with this claim `jti`.
        #[arg(long)]
        jti: Option<String>,
        /// Only tokens issued before this moment, in milliseconds since the Unix epoch. Default: now.
        #[arg(long, value_name = "MS", conflicts_with = "jti")]
        issued_before_ms: Option<u64>,
        /// Forget the revocation at this moment. Default: when the longest-lived token has expired.
        #[arg(long, value_name = "MS")]
        until_ms: Option<u64>,
    },
    /// List the revocations in force.
    Revocations,
    /// Read the configuration anew, and apply what needs no restart; live sessions follow.
    Reload,
    /// Have the program that is on disk now take over, without refusing or losing a client. Waits until it serves.
    Handover,
    /// Count subjects and sessions from the audit log of the server.
    Usage {
        /// The first day, in UTC.
        #[arg(long, value_name = "YYYY-MM-DD")]
        from: String,
        /// The last day.
        #[arg(long, value_name = "YYYY-MM-DD")]
        to: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CodeChoice {
    /// Clients may come back, with a new token.
    Kicked,
    /// Clients stay away.
    Revoked,
}

/// Performs the call; returns what is to be printed. What the options leave open is as in the configuration.
pub(super) fn perform(options: &AdminOptions, config: &Admin) -> Result<String, AdminError> {
    let client = options.target.client(config)?;
    let answer = ask(&options.call, &client)?;
    if options.target.json {
        return Ok(format!("{answer:#}"));
    }
    Ok(match &options.call {
        AdminCall::Sessions { .. } => sessions_table(&answer),
        AdminCall::Disconnect { .. } => format!("sessions that end: {}", text(&answer["sessions"])),
        AdminCall::Revoke { .. } => {
            let (until, sessions) = (moment(&answer["until_ms"]), text(&answer["sessions"]));
            format!("revoked until {until}; sessions that end: {sessions}")
        }
        AdminCall::Revocations => revocations_table(&answer),
        AdminCall::Reload => reload_lines(&answer),
        AdminCall::Handover => format!("handed over to process {}", text(&answer["pid"])),
        AdminCall::Usage { .. } => usage_table(&answer),
    })
}

fn ask(call: &AdminCall, client: &AdminClient) -> Result<Value, AdminError> {
    match call {
        AdminCall::Sessions { sub, tier, topic, limit, after } => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            for (name, value) in [("sub", sub), ("tier", tier), ("topic", topic)] {
                if let Some(value) = value {
                    query.append_pair(name, value);
                }
            }
            query.append_pair("limit", &limit.to_string());
            if let Some(after) = after {
                query.append_pair("after", &after.to_string());
            }
            client.ask("GET", &format!("/admin/sessions?{}", query.finish()), None)
        }
        AdminCall::Disconnect { number: Some(number), reconnect, .. } => {
            let path = format!("/admin/sessions/{number}?reconnect_ms={}", reconnect.as_millis());
            client.ask("DELETE", &path, None)
        }
        AdminCall::Disconnect { number: None, sub, iss, tier, jti, all, code, reconnect } => {
            let mut body = given(&[("sub", sub), ("iss", iss), ("tier", tier), ("jti", jti)]);
            if *all {
                body.insert("all".into(), true.into());
            }
            let code = match code {
                CodeChoice::Kicked => "kicked",
                CodeChoice::Revoked => "revoked",
            };
            body.insert("code".into(), code.into());
            body.insert("reconnect_ms".into(), json!(u64::try_from(reconnect.as_millis()).unwrap_or(u64::MAX)));
            client.ask("POST", "/admin/disconnect", Some(&body.into()))
        }
        AdminCall::Revoke { sub, iss, jti, issued_before_ms, until_ms } => {
            let mut body = given(&[("sub", sub), ("iss", iss), ("jti", jti)]);
            for (name, value) in [("issued_before_ms", issued_before_ms), ("until_ms", until_ms)] {
                if let Some(value) = value {
                    body.insert(name.into(), json!(value));
                }
            }
            client.ask("POST", "/admin/revoke", Some(&body.into()))
        }
        AdminCall::Revocations => client.ask("GET", "/admin/revocations", None),
        AdminCall::Reload => client.ask("POST", "/admin/reload", Some(&json!({}))),
        AdminCall::Handover => client.ask_within("POST", "/admin/handover", Some(&json!({})), HANDOVER_TIMEOUT),
        AdminCall::Usage { from, to } => {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("from", from)
                .append_pair("to", to)
                .finish();
            client.ask("GET", &format!("/admin/usage?{query}"), None)
        }
    }
}

fn given(members: &[(&str, &Option<String>)]) -> Map<String, Value> {
    let given = members.iter().filter_map(|(name, value)| Some(((*name).to_owned(), json!(value.as_deref()?))));
    given.collect()
}

fn sessions_table(answer: &Value) -> String {
    let rows = rows(&answer["sessions"]);
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let header = ["NUMBER", "SUBJECT", "TIER", "ADDRESS", "AGE", "STATE", "LAG", "UNSENT", "TRANSPORT"];
    let mut cells = vec![header.map(str::to_owned).to_vec()];
    let shows_certificates = rows.iter().any(|row| !row["certificate"].is_null());
    cells[0].extend(shows_certificates.then(|| "CERTIFICATE".into()));
    cells[0].push("PATTERNS".into());
    for row in rows {
        let seconds = now_ms.saturating_sub(row["since_ms"].as_u64().unwrap_or(now_ms)) / 1000;
        let shown = row["patterns"].as_array().map_or(0, Vec::len) as u64;
        let more = row["patterns_count"].as_u64().unwrap_or(shown).saturating_sub(shown);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let mut cells_of_row = vec![
            text(&row["number"]),
            text(&row["sub"]),
            text(&row["tier"]),
            text(&row["address"]),
            humantime::format_duration(Duration::from_secs(seconds)).to_string(),
            text(&row["state"]),
            text(&row["lag"]),
            text(&row["unsent_bytes"]),
            text(&row["transport"]),
        ];
        cells_of_row.extend(shows_certificates.then(|| text(&row["certificate"])));
        cells_of_row.push(format!("{}{more}", texts(&row["patterns"])));
        cells.push(cells_of_row);
    }
    let mut table = table(&cells);
    if let Some(next) = answer["next"].as_u64() {
        // A `String` takes everything.
        let _ = writeln!(table, "more: --after {next}");
    }
    table
}

fn revocations_table(answer: &Value) -> String {
    let mut cells = vec![["JTI SHA-256", "ISSUER", "SUBJECT", "ISSUED BEFORE", "UNTIL"].map(str::to_owned).to_vec()];
    for row in rows(&answer["revocations"]) {
        cells.push(vec![
            text(&row["jti_sha256"]),
            text(&row["iss"]),
            text(&row["sub"]),
            moment(&row["issued_before_ms"]),
            moment(&row["until_ms"]),
        ]);
    }
    table(&cells)
}

/// One line for each setting that changed or needs a restart.
fn reload_lines(answer: &Value) -> String {
    let mut lines = format!("read anew: {}\n", texts(&answer["reloaded"]));
    for row in rows(&answer["changed"]) {
        let values = match (&row["before"], &row["now"]) {
            (Value::Null, _) => String::new(),
            (before, now) => format!(" from {} to {}", text(before), text(now)),
        };
        lines += &format!("changed: {}{values}\n", text(&row["name"]));
    }
    for name in rows(&answer["restart"]) {
        lines += &format!("unchanged until a restart: {}\n", text(name));
    }
    lines + &format!("digest: {}\n", text(&answer["digest"]))
}

fn usage_table(answer: &Value) -> String {
    let header = ["TIER", "STATUS", "PATTERNS", "DELAY", "SUBJECTS", "PEAK", "PEAK OF ONE", "FIRST DAY", "LAST DAY"];
    let mut cells = vec![header.map(str::to_owned).to_vec()];
    for row in rows(&answer["groups"]) {
        let delay = row["delay_ms"].as_u64().map(Duration::from_millis);
        cells.push(vec![
            text(&row["tier"]),
            text(&row["status"]),
            if row["patterns"].is_null() { "(all)".into() } else { text(&row["patterns"]) },
            delay.map_or_else(|| "-".into(), |delay| humantime::format_duration(delay).to_string()),
            text(&row["subjects"]),
            text(&row["peak_sessions"]),
            text(&row["peak_sessions_of_one"]),
            text(&row["first_day"]),
            text(&row["last_day"]),
        ]);
    }
    let total = format!(
        "{} to {}: subjects {}, sessions {}, queries {}, peak {}, peak of one subject {}\n",
        text(&answer["from"]),
        text(&answer["to"]),
        text(&answer["subjects"]),
        text(&answer["sessions"]),
        text(&answer["queries"]),
        text(&answer["peak_sessions"]),
        text(&answer["peak_sessions_of_one"]),
    );
    total + &table(&cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let answer = json!({"sessions": [{
            "number": 7, "sub": "a\u{1b}[2J\u{202e}\r\nb", "since_ms": 0, "patterns": ["x\u{9b}y"], "patterns_count": 3
        }], "next": 7});
        let table = sessions_table(&answer);
        assert!(table.contains("a\\u{1b}[2J\\u{202e}\\u{d}\\u{a}b"), "{table}");
        assert!(table.contains("x\\u{9b}y and 2 more\nmore: --after 7\n"), "{table}");
        assert!(table.chars().all(|c| c == '\n' || !c.is_control()), "{table:?}");
        assert_eq!(table.lines().count(), 3);
    }
}
