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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::topic::Pattern;

    const ISSUER: &str =
        "[[auth.issuer]]\nissuer = 'i'\naudience = ['a']\nalgorithms = ['ES256']\njwks = 'https://i/k'\n";

    fn read_text(text: &str) -> Result<AuthTables, Vec<(usize, String)>> {
        let root = DeTable::parse(text).expect("TOML").into_inner();
        let auth = root.get("auth").and_then(|auth| auth.get_ref().as_table()).expect("[auth]");
        let with_line = |problem: TableProblem| (1 + text[..problem.at].matches('\n').count(), problem.sentence);
        read(auth).map_err(|problems| problems.into_iter().map(with_line).collect())
    }

    #[test]
    fn the_tables_of_the_documentation_are_understood() {
        let text = format!(
            "{ISSUER}[auth.tier.pro]\ntopics = ['a.>', {{ pattern = 'b.>', delay = '15m' }}]\ndelay = '1s'\nevery = '250ms'\n\
             sessions = 2\nover_sessions = 'replace_oldest'\nsend = [{{ topic = 'chat.*', where = {{ '/kind' = 'text', '/n' = [1, true] }} }}]\n\
             request = true\n[auth.tier.free]\ntopics = ['>']\n[auth.anonymous]\ntier = 'free'\n"
        );
        let tables = read_text(&text).expect("good tables");
        let granted = |pattern: &str, seconds| GrantedPattern {
            pattern: Pattern::parse(pattern).expect(pattern),
            delay: Duration::from_secs(seconds),
        };
        let [pro, free] = &tables.tiers[..] else { panic!("two tiers in their order: {tables:?}") };
        assert_eq!((&*pro.name, &*free.name, tables.anonymous.as_deref()), ("pro", "free", Some("free")));
        assert_eq!(*pro.topics, [granted("a.>", 1), granted("b.>", 900)]);
        assert_eq!((pro.pace_min, pro.sessions_max), (Some(Duration::from_millis(250)), Some(2)));
        assert_eq!((pro.over_sessions, &pro.request), (OverSessions::ReplaceOldest, &GrantedCommands::All));
        assert!(pro.send.allows(Some("chat.a"), r#"{"kind":"text","n":1}"#));
        assert!(!pro.send.allows(Some("chat.a"), r#"{"kind":"text","n":2}"#));
        assert_eq!((&free.send, free.sessions_max), (&GrantedCommands::None, None));
        assert_eq!(tables.issuers[0].keys, KeySource::Url(Url::parse("https://i/k").expect("a URL")));
        let secret = "[[auth.issuer]]\nissuer = 'i'\naudience = ['a']\nalgorithms = ['HS256']\nsecret_file = 's'\n\
                      secret_previous_file = 'p'\nprevious_until = 1970-01-01T00:00:01Z\n";
        let previous = Some((PathBuf::from("p"), 1000));
        let source = KeySource::Secret { file: "s".into(), previous };
        assert_eq!(read_text(secret).expect("good tables").issuers[0].keys, source);
    }

    #[test]
    fn each_problem_has_its_line_and_a_remedy() {
        let tier = |line: &str| format!("[auth.tier.pro]\ntopics = ['>']\n{line}\n");
        let issuer = |old: &str, new: &str| ISSUER.replacen(old, new, 1);
        for (text, line, part) in [
            (issuer("jwks", "jkws"), 5, "did you mean `jwks`?"),
            (issuer("audience = ['a']", ""), 1, "`audience"),
            (issuer("['a']", "'a'"), 3, "a list of texts"),
            (issuer("['a']", "[]"), 3, "a list of texts"),
            (issuer("ES256", "ES265"), 4, "did you mean `ES256`?"),
            (issuer("ES256", "none"), 4, "valid here: HS256"),
            (issuer("ES256", "HS256"), 4, "make two issuers"),
            (issuer("'ES256'", "'ES256', 'HS256'"), 4, "make two issuers"),
            (issuer("jwks = 'https://i/k'", "jwks = 'http://i/k'"), 5, "https://"),
            (issuer("https://i/k", "http://127.0.0.1.example.com/k"), 5, "https://"),
            (issuer("https://i/k", "https://me:word@i/k"), 5, "without user and password"),
            (issuer("https://i/k", "file:///k"), 5, "https://"),
            (issuer("jwks = 'https://i/k'", "jwks = 'https://i/k'\nkeys_file = 'k'"), 1, "keep one"),
            (issuer("jwks = 'https://i/k'", ""), 1, "found none"),
            (issuer("'i'", "7"), 2, "a text"),
            (format!("{ISSUER}{ISSUER}"), 6, "each issuer once"),
            (issuer("jwks", "previous_until = 2027-01-01\njwks"), 1, "remove them"),
            (tier("topcs = 1"), 3, "did you mean `topics`?"),
            (tier("every = 5"), 3, "a duration"),
            (tier("every = '2h'"), 3, "a duration"),
            (tier("delay = '2d'"), 3, "a duration"),
            (tier("sessions = 0"), 3, "from 1"),
            (tier("over_sessions = 'kick'"), 3, "`replace_oldest`"),
            (tier("send = 'yes'"), 3, "a list of rules"),
            (tier("send = [{}]"), 3, "`send = true`"),
            (tier("request = [{ topic = 'a' }]"), 3, "valid here: where"),
            (tier("request = [{ where = { kind = 'a' } }]"), 3, "JSON pointers"),
            (tier("request = [{ where = { '/kind' = 1.5 } }]"), 3, "JSON pointers"),
            ("[auth.tier.pro]\n".into(), 1, "`topics = [\">\"]`"),
            ("[auth.tier.pro]\ntopics = []\n".into(), 2, "a list of patterns"),
            ("[auth.tier.pro]\ntopics = ['a..b']\n".into(), 2, "empty token"),
            ("[auth.tier.'p o']\ntopics = ['>']\n".into(), 1, "letters, digits"),
            ("[auth]\ntier = 'pro'\n".into(), 2, "[auth.tier.NAME]"),
            ("[auth.anonymous]\ntiers = 'free'\n".into(), 2, "did you mean `tier`?"),
            ("[auth.anonymous]\n".into(), 1, "`tier = \"free\"`"),
        ] {
            let problems = read_text(&text).expect_err(&text);
            assert!(problems.iter().any(|(at, sentence)| *at == line && sentence.contains(part)), "{text}{problems:?}");
            for (_, sentence) in problems {
                assert!(
                    sentence.contains("expected") && sentence.contains("found") && sentence.contains(';')
                        || sentence.contains("empty token"),
                    "{sentence}"
                );
            }
        }
    }
}
