//! Files beside a profile that `fanline check` runs: each line is a JSON object, and holds one step.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::profile::section::ProfileError;

/// Runs the steps in their order, up to the first that fails; gives their number. `example` is a step, for whoever wrote
/// something else.
pub(crate) fn run_steps<Step: DeserializeOwned>(
    (text, origin): (&str, &str),
    example: &str,
    mut take: impl FnMut(&Step) -> Result<(), String>,
) -> Result<usize, ProfileError> {
    let mut steps = 0;
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let step = serde_json::from_str(line);
        let step = step.map_err(|error| format!("expected a step such as `{example}`, found another: {error}"));
        step.and_then(|step| take(&step)).map_err(|problem| ProfileError {
            origin: origin.to_string(),
            line: index + 1,
            key: "step".to_string(),
            problem,
        })?;
        steps += 1;
    }
    Ok(steps)
}

/// A message in a step: a string stands for a text that is not JSON.
pub(crate) fn message_text(message: &RawValue) -> String {
    serde_json::from_str::<String>(message.get()).unwrap_or_else(|_| message.get().to_string())
}

/// The same the other way round. A step is a line, so a message of several lines becomes a string as well.
pub(crate) fn message_value(text: &str) -> Box<RawValue> {
    // A level less than the deepest message leaves room for the step around it.
    let is_one_line = text.starts_with(['{', '[']) && !text.contains(['\n', '\r']);
    let is_value = is_one_line && serde_json::from_str::<Value>(&format!("[{text}]")).is_ok();
    let value = is_value.then(|| RawValue::from_string(text.to_string()).ok()).flatten();
    value.unwrap_or_else(|| serde_json::value::to_raw_value(text).expect("a string is JSON"))
}

/// What was sent, as a step shows it.
pub(crate) fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}
