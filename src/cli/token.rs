//! `fanline token`: issues a token for development.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::{Map, Value};

use crate::identity::error::Error;
use crate::identity::keys::algorithm::SigningAlgorithm;
use crate::identity::token::issue::{TokenOrder, issue};
use crate::identity::verifier::read_secret_file;

/// Claims of the token, and the secret to sign it with.
#[derive(Debug, Args)]
pub(super) struct TokenOptions {
    /// File of the secret, as `secret_file` of the issuer names it.
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
    /// Whose token it is: the claim `sub`.
    #[arg(long, value_name = "NAME")]
    sub: String,
    /// The tier; without it the one that the issuer has for such tokens.
    #[arg(long, value_name = "TIER")]
    tier: Option<String>,
    /// Only these topics of the tier; repeat for more.
    #[arg(long, value_name = "PATTERN")]
    topic: Vec<String>,
    /// Reported in lists and logs, such as `professional`.
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// How long it is valid; at most auth.life_max.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    expires: Duration,
    /// `issuer` of the issuer.
    #[arg(long, value_name = "NAME", default_value = "development")]
    issuer: String,
    /// One of the `audience` of the issuer.
    #[arg(long, value_name = "NAME", default_value = "fanline")]
    audience: String,
}

/// A token, and how to use it.
pub(super) struct IssuedToken {
    pub token: String,
    pub hint: String,
}

impl TokenOptions {
    pub(super) fn issue(self) -> Result<IssuedToken, Error> {
        let secret = read_secret_file(&self.secret_file)?;
        let algorithm = SigningAlgorithm::Hs256;
        let min = algorithm.secret_bytes_min().unwrap_or_default();
        if secret.len() < min {
            let (path, bytes) = (self.secret_file, secret.len());
            return Err(Error::ShortSecret { path, algorithm: algorithm.name(), min, bytes });
        }
        let mut rights = Map::new();
        rights.extend(self.tier.map(|tier| ("tier".to_owned(), Value::from(tier))));
        rights.extend(self.status.map(|status| ("status".to_owned(), Value::from(status))));
        if !self.topic.is_empty() {
            rights.insert("topics".to_owned(), Value::from(self.topic));
        }
        let hint = format!(
            "a token of `{}` for {}; show it in the command {{\"op\":\"auth\",\"token\":\"…\"}}, or:\n\
             curl -H \"Authorization: Bearer $(fanline token …)\" http://127.0.0.1:8080/v1/topics\n\
             The server needs [[auth.issuer]] with issuer = \"{}\", audience = [\"{}\"], algorithms = [\"HS256\"]",
            self.sub.escape_debug(),
            humantime::format_duration(self.expires),
            self.issuer.escape_debug(),
            self.audience.escape_debug(),
        );
        let order =
            TokenOrder { issuer: self.issuer, audience: self.audience, subject: self.sub, rights, life: self.expires };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or_default();
        Ok(IssuedToken { token: issue(&secret, &order, now_ms), hint })
    }
}
