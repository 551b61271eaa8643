//! Floor 5: puts the rooms together, one function per command.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::config;
use crate::config::Config;
use crate::config::error::ConfigError;

/// Why a command ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("expected a readable file, found `{}`: {error}; check the path and its permissions", .path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("expected a finished command, found `{command}`, which is not wired yet")]
    NotWired { command: &'static str },
}

impl AppError {
    /// Whether what the operator wrote is wrong (exit code 2), rather than what happened (1).
    pub fn is_usage(&self) -> bool {
        matches!(self, AppError::Config(_) | AppError::Unreadable { .. })
    }
}

/// How fast a recording is replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// Times the recorded pace.
    Times(f64),
    /// As fast as the readers take it.
    Max,
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Speed, String> {
        let positive = |number: &f64| number.is_finite() && *number > 0.0;
        match text {
            "max" => Ok(Speed::Max),
            _ => text.parse().ok().filter(positive).map(Speed::Times).ok_or_else(|| {
                format!("expected a positive number (2 is twice the recorded pace) or `max`, found `{text}`")
            }),
        }
    }
}

/// What `fanline replay` serves, and how.
#[derive(Clone, Debug)]
pub struct Replay {
    pub capture: PathBuf,
    pub listen: SocketAddr,
    pub speed: Speed,
    /// Start over at the end.
    pub looped: bool,
}

/// Serves the feed until SIGTERM or SIGINT.
pub async fn serve(config: Config) -> Result<(), AppError> {
    let _ = config;
    Err(AppError::NotWired { command: "serve" })
}

/// Serves the simulated market of `config.simulate` on `listen` until SIGTERM or SIGINT.
pub async fn simulate(listen: SocketAddr, config: Config) -> Result<(), AppError> {
    let _ = (listen, config);
    Err(AppError::NotWired { command: "simulate" })
}

/// Serves a recording as if it were the venue until SIGTERM or SIGINT.
pub async fn replay(replay: Replay) -> Result<(), AppError> {
    let _ = replay;
    Err(AppError::NotWired { command: "replay" })
}

/// Listens to `config.upstream` for `duration` and answers what was found.
pub async fn probe(config: Config, duration: Duration) -> Result<impl fmt::Display, AppError> {
    let _ = (config, duration);
    Err::<String, _>(AppError::NotWired { command: "probe" })
}

/// Checks a configuration or a profile, whichever the file is; answers one sentence about it.
pub fn check(path: &Path) -> Result<String, AppError> {
    let text = std::fs::read_to_string(path).map_err(|error| AppError::Unreadable { path: path.into(), error })?;
    let shown = path.display();
    if is_profile(&text) {
        return Err(AppError::NotWired { command: "check PROFILE" });
    }
    let settings = config::check(path)?;
    Ok(format!("{shown}: a valid configuration, settings: {settings}"))
}

/// A profile says `profile = 1` before its first section. Judged by lines, so that a broken file is told what is wrong
/// with it as what it was meant to be.
fn is_profile(text: &str) -> bool {
    let top = text.lines().map(str::trim_start).take_while(|line| !line.starts_with('['));
    let mut keys = top.filter_map(|line| line.split_once('=')).map(|(key, _)| key.trim());
    keys.any(|key| key == "profile")
}
