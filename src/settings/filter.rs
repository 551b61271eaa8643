//! Directives of `log.level`, checked before the start.

use tracing_subscriber::EnvFilter;

use crate::words::nearest::distance;

const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];

/// Checks the directives of a filter; the error is the remedy.
///
/// `EnvFilter` reads a lone word that is not a level as the name of a module, and then logs nothing else. So a misspelt
/// level is refused here.
pub fn check_filter(text: &str) -> Result<(), String> {
    let remedy = "write a level (trace, debug, info, warn, error, off), or `info,fanline=debug`";
    if text.is_empty() || EnvFilter::builder().parse(text).is_err() {
        return Err(remedy.into());
    }
    for directive in text.split(',').map(str::trim) {
        let lower = directive.to_lowercase();
        let near = LEVELS.iter().find(|level| distance(&lower, level) <= 1);
        match near {
            Some(level) if *level != lower => return Err(format!("did you mean `{level}`?")),
            Some(_) => (),
            // A lone word would be read as a module, and nothing else logged.
            None if is_word(directive) => return Err(remedy.into()),
            None => (),
        }
    }
    Ok(())
}

/// Not a number, which is also a level, not a target of fanline, and not `MODULE=LEVEL`.
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
