//! The log: to stderr, as text for people or as JSON for machines.
//!
//! stdout is left to the few lines that other programs wait for.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::table::{Log, LogFormat};

const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];

/// Starts the log of this process. Later calls have no effect, so that several servers can live in one test process.
pub fn start(log: &Log) {
    let filter = EnvFilter::builder().parse_lossy(&log.level);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match log.format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    drop(started);
}

/// Checks the directives of a filter; the error is the remedy.
///
/// `EnvFilter` takes a lone word that is no level for the name of a module and then logs nothing of the rest; a
/// misspelt level is therefore refused here.
pub(super) fn check_filter(text: &str) -> Result<(), String> {
    let remedy = "write a level (trace, debug, info, warn, error, off), or `info,fanline=debug`";
    if text.is_empty() || EnvFilter::builder().parse(text).is_err() {
        return Err(remedy.into());
    }
    for directive in text.split(',').map(str::trim) {
        let lower = directive.to_lowercase();
        let near = LEVELS.iter().find(|level| strsim::damerau_levenshtein(level, &lower) <= 1);
        match near {
            Some(level) if *level != lower => return Err(format!("did you mean `{level}`?")),
            Some(_) => (),
            // A lone word would be taken for a module, and nothing of the rest be logged.
            None if is_word(directive) => return Err(remedy.into()),
            None => (),
        }
    }
    Ok(())
}

/// Neither a number, which is a level too, nor anything of fanline's, nor `MODULE=LEVEL`.
fn is_word(directive: &str) -> bool {
    !directive.contains(['=', '[', ':']) && !directive.starts_with("fanline") && directive.parse::<u8>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_refused() {
        for (text, good) in [
            ("info", true),
            ("INFO", true),
            ("info,fanline=debug", true),
            ("fanline", true),
            ("", false),
            ("inof", false),
            ("warning=7=8", false),
            ("info,debg", false),
            ("loud", false),
            ("info,verbose", false),
            ("info,hyper=warn", true),
            ("3", true),
        ] {
            assert_eq!(check_filter(text).is_ok(), good, "{text}");
        }
    }
}
