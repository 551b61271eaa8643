//! The named tables of `[auth]`: issuers, tiers, and what anonymous clients have. Each problem has its line.

mod issuers;
mod tiers;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeTable;
use url::Url;

use crate::access::rights::{GrantedCommands, GrantedPattern};
use crate::identity::keys::algorithm::SigningAlgorithm;
use crate::identity::tiers::OverSessions;

/// Keys of `[auth]` that are tables, not settings.
pub const TABLE_KEYS: [&str; 3] = ["issuer", "tier", "anonymous"];

/// What the file says below `[auth]` besides settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuthTables {
    pub issuers: Vec<IssuerTable>,
    /// In the order of the file.
    pub tiers: Vec<TierTable>,
    /// The tier of clients without a credential.
    pub anonymous: Option<Box<str>>,
}

/// `[[auth.issuer]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct IssuerTable {
    /// Compared with the claim `iss` as it is.
    pub issuer: Box<str>,
    /// One of these must be in the claim `aud`.
    pub audience: Vec<String>,
    pub algorithms: Vec<SigningAlgorithm>,
    pub keys: KeySource,
    /// The claim with tier, topics and so on: its name, or a JSON pointer.
    pub claim: Box<str>,
    /// The tier of tokens that name none.
    pub tier: Option<Box<str>>,
}

/// Where the keys of an issuer are.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySource {
    /// A shared secret, and its predecessor until a moment in milliseconds since the Unix epoch.
    Secret {
        file: PathBuf,
        previous: Option<(PathBuf, u64)>,
    },
    /// A JWK Set or PEM.
    File(PathBuf),
    Url(Url),
}

/// `[auth.tier.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TierTable {
    pub name: Box<str>,
    pub topics: Box<[GrantedPattern]>,
    pub pace_min: Option<Duration>,
    /// None: without limit.
    pub sessions_max: Option<u32>,
    pub over_sessions: OverSessions,
    pub send: GrantedCommands,
    pub request: GrantedCommands,
}

/// What is wrong, and where it begins in the text.
#[derive(Debug, PartialEq, Eq)]
pub struct TableProblem {
    pub at: usize,
    /// Expected before found, then the remedy.
    pub sentence: String,
}

/// Reads the tables below `[auth]`; all problems at once.
pub fn read(auth: &DeTable<'_>) -> Result<AuthTables, Vec<TableProblem>> {
    let mut reader = TablesReader::default();
    for (key, value) in auth.iter() {
        match &**key.get_ref() {
            "issuer" => reader.issuers(value),
            "tier" => reader.tiers(value),
            "anonymous" => reader.anonymous(value),
            _ => {}
        }
    }
    if reader.problems.is_empty() {
        reader.tables.tiers.sort_by_key(|(at, _)| *at);
        let TablesRead { issuers, tiers, anonymous } = reader.tables;
        return Ok(AuthTables { issuers, tiers: tiers.into_iter().map(|(_, tier)| tier).collect(), anonymous });
    }
    Err(reader.problems)
}

#[derive(Default)]
struct TablesReader {
    tables: TablesRead,
    problems: Vec<TableProblem>,
}

#[derive(Default)]
struct TablesRead {
    issuers: Vec<IssuerTable>,
    /// Each with its place in the file.
    tiers: Vec<(usize, TierTable)>,
    anonymous: Option<Box<str>>,
}
