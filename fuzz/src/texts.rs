//! The parsers of texts: commands, patterns, profiles, recordings.

use std::path::Path;

use fanline::json::is_json;
use fanline::profile;
use fanline::protocol::command::{self, Command, CommandId, EVERY_MAX, EVERY_MIN, Policy, TIMEOUT_MAX, TIMEOUT_MIN};
use fanline::simulator::recording::{Recording, RecordingError};
use fanline::words::topic::{Pattern, check_topic};
use serde_json::json;

/// 640 bytes: the longest fixed sentence has some 150, foreign text in it at most 64 characters.
const REFUSAL_BYTES_MAX: usize = 640;

/// A command is read or refused with a bounded answer; what was read can be written and read again.
pub fn command(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (id, result) = command::parse(text, 1000);
    if let Some(CommandId(id)) = &id {
        assert!(id.len() <= 66, "an id of {} bytes is repeated", id.len());
        // Put into the answer as it is; a number may be out of every range, such as 1e999.
        assert!(is_json(id) && !id.starts_with(['{', '[', 't', 'f', 'n']), "{id}");
    }
    match result {
        Ok(command) => {
            let again = written(&command, id.as_ref());
            assert_eq!(command::parse(&again, 1000), (id, Ok(command)), "{again}");
        }
        Err(refusal) => {
            assert!(refusal.message.len() <= REFUSAL_BYTES_MAX, "{} bytes: {refusal:?}", refusal.message.len());
            assert!(!refusal.message.contains(char::is_control), "{refusal:?}");
        }
    }
}

fn written(command: &Command, id: Option<&CommandId>) -> String {
    let mut members = match command {
        Command::Subscribe { patterns, every, since, policy, brief } => {
            let mut members = json!({ "op": "subscribe", "topics": texts(patterns), "brief": brief });
            if let Some(every) = every {
                assert!(every.is_zero() || (EVERY_MIN..=EVERY_MAX).contains(every), "{every:?}");
                members["every_ms"] = json!(every.as_millis() as u64);
            }
            if let Some(since) = since {
                members["since"] = json!(since.to_string());
            }
            if let Some(policy) = policy {
                members["policy"] = json!(match policy {
                    Policy::Conflate => "conflate",
                    Policy::Lossless => "lossless",
                    Policy::Disconnect => "disconnect",
                });
            }
            members
        }
        Command::Unsubscribe { patterns, brief } => {
            json!({ "op": "unsubscribe", "topics": texts(patterns), "brief": brief })
        }
        Command::Send { topic, data } => {
            assert!(check_topic(topic).is_ok() && is_json(data), "{topic} {data}");
            json!({ "op": "send", "topic": topic })
        }
        Command::Request { data, timeout } => {
            assert!((TIMEOUT_MIN..=TIMEOUT_MAX).contains(timeout) && data.starts_with('{'), "{timeout:?} {data}");
            json!({ "op": "request", "timeout_ms": timeout.as_millis() as u64 })
        }
        Command::Auth { token } => json!({ "op": "auth", "token": &*token.0 }),
        Command::Ping => json!({ "op": "ping" }),
    }
    .to_string();
    if let Command::Send { data, .. } | Command::Request { data, .. } = command {
        // As it came: a number in it may have more digits than any type.
        members.insert_str(1, &format!("\"data\":{data},"));
    }
    if let Some(CommandId(id)) = id {
        members.insert_str(1, &format!("\"id\":{id},"));
    }
    members
}

fn texts(patterns: &[Pattern]) -> Vec<&str> {
    patterns.iter().map(Pattern::as_str).collect()
}

/// The input is a pattern, a line feed, and a topic: the matching is what its definition says.
pub fn pattern(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let Some((pattern_text, topic)) = input.split_once('\n') else { return };
    let Ok(pattern) = Pattern::parse(pattern_text) else { return };
    assert_eq!(pattern.as_str(), pattern_text);
    if check_topic(topic).is_err() {
        return;
    }
    let pattern_tokens: Vec<&str> = pattern_text.split('.').collect();
    let topic_tokens: Vec<&str> = topic.split('.').collect();
    assert_eq!(pattern.matches(topic), tokens_match(&pattern_tokens, &topic_tokens), "{pattern_text} {topic}");
    assert_eq!(pattern.is_exact(), check_topic(pattern_text).is_ok());
    if pattern.is_exact() {
        assert_eq!(pattern.matches(topic), pattern_text == topic);
    }
}

fn tokens_match(pattern: &[&str], topic: &[&str]) -> bool {
    match (pattern, topic) {
        ([">"], [_, ..]) => true,
        ([], []) => true,
        ([first, pattern @ ..], [token, topic @ ..]) => {
            token_matches(first.as_bytes(), token.as_bytes()) && tokens_match(pattern, topic)
        }
        _ => false,
    }
}

/// By a table of which part of the pattern matches which part of the token.
fn token_matches(pattern: &[u8], token: &[u8]) -> bool {
    let mut matched = vec![false; token.len() + 1];
    matched[0] = true;
    for letter in pattern {
        let before = matched.clone();
        for end in 0..=token.len() {
            matched[end] = match letter {
                b'*' => before[..=end].contains(&true),
                letter => end > 0 && before[end - 1] && token[end - 1] == *letter,
            };
        }
    }
    matched[token.len()]
}

/// A profile is understood or refused with a line that is there.
pub fn profile(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Err(error) = profile::check(text, "fuzz.toml") {
        let lines = 1 + text.bytes().filter(|&byte| byte == b'\n').count();
        assert!((1..=lines).contains(&error.line), "line {} of {lines}: {error}", error.line);
        assert!(!error.problem.is_empty());
    }
}

/// A recording is read or refused with the number of the line.
pub fn recording(input: &[u8]) {
    let lines = input.iter().filter(|&&byte| byte == b'\n').count() + 1;
    match Recording::read(Path::new("fuzz.jsonl"), input) {
        Ok(recording) => {
            assert!((1..=lines).contains(&recording.len()));
            assert!(!recording.is_empty());
            // However long the pauses are, their sum is a duration.
            recording.duration();
        }
        Err(RecordingError::BadLine { line, .. }) => assert!((1..=lines).contains(&line), "line {line} of {lines}"),
        Err(RecordingError::Empty { lines: found, .. }) => assert!(found <= lines),
        Err(error) => panic!("bytes in memory can be read: {error}"),
    }
}
