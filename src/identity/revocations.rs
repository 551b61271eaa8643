//! Revocations: which tokens count no more, although they are signed and not expired.
//!
//! Each has an end, after which every token it concerns has expired. They are in memory, and in a file that is appended to
//! and read at the start.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use serde::{Deserialize, Serialize};

use crate::access::identity::{Identity, TokenId};
use crate::access::selector::SessionSelector;
use crate::identity::error::Error;

/// About 20 MiB of memory.
pub const REVOCATIONS_MAX: usize = 100_000;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationRule {
    pub target: RevocationTarget,
    /// From then on it does not count, in milliseconds since the Unix epoch.
    pub until_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationTarget {
    /// The token with this `jti`, as SHA-256 in hex.
    Token(#[serde(with = "token_hex")] TokenId),
    /// Tokens of one subject that were issued before a moment.
    Subject {
        /// None: of any issuer.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        issuer: Option<Arc<str>>,
        subject: Arc<str>,
        issued_before_ms: u64,
    },
    /// Tokens of one issuer that were issued before a moment.
    Issuer { issuer: Arc<str>, issued_before_ms: u64 },
}

mod token_hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::access::identity::TokenId;

    pub fn serialize<S: Serializer>(token: &TokenId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(token.0))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TokenId, D::Error> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(String::deserialize(deserializer)?, &mut bytes).map_err(D::Error::custom)?;
        Ok(TokenId(bytes))
    }
}

impl RevocationTarget {
    /// The sessions that it concerns, or more of them.
    pub fn selector(&self) -> SessionSelector {
        match self {
            RevocationTarget::Token(token) => SessionSelector::Token(*token),
            RevocationTarget::Subject { issuer: Some(issuer), subject, issued_before_ms } => {
                SessionSelector::IssuedBefore {
                    issuer: issuer.clone(),
                    subject: Some(subject.clone()),
                    before_ms: *issued_before_ms,
                }
            }
            RevocationTarget::Subject { issuer: None, subject, .. } => {
                SessionSelector::Subject { issuer: None, subject: subject.clone() }
            }
            RevocationTarget::Issuer { issuer, issued_before_ms } => {
                SessionSelector::IssuedBefore { issuer: issuer.clone(), subject: None, before_ms: *issued_before_ms }
            }
        }
    }
}

/// All revocations in force.
pub struct Revocations {
    /// Held for a look-up or one change.
    rules: RwLock<RevocationRules>,
    /// Held while writing to the disk. Nobody who verifies waits for it.
    file: Mutex<Option<RevocationFile>>,
}

struct RevocationFile {
    path: PathBuf,
    file: File,
}

#[derive(Default)]
struct RevocationRules {
    /// End by token.
    tokens: HashMap<TokenId, u64>,
    subjects: HashMap<Arc<str>, Vec<RevocationRule>>,
    issuers: HashMap<Arc<str>, Vec<RevocationRule>>,
}

impl Revocations {
    /// Reads the file, which need not exist, and leaves out what has ended.
    pub fn open(path: Option<&Path>, now_ms: u64) -> Result<Revocations, Error> {
        let Some(path) = path else {
            return Ok(Revocations { rules: RwLock::default(), file: Mutex::new(None) });
        };
        let unreadable = |error| Error::Unreadable { what: "file of revocations", path: path.into(), error };
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(unreadable)?,
        };
        let mut rules = RevocationRules::default();
        for (line, text_of_line) in (1..).zip(text.lines()) {
            match serde_json::from_str::<RevocationRule>(text_of_line) {
                Ok(revocation) if revocation.until_ms > now_ms => rules.add(revocation),
                Ok(_) => {}
                // The end of the process may have cut the last line: it was not acknowledged.
                Err(_) if line == text.lines().count() && !text.ends_with('\n') => {}
                Err(_) => return Err(Error::Revocation { path: path.into(), line }),
            }
        }
        if rules.count() > REVOCATIONS_MAX {
            return Err(Error::TooManyRevocations { max: REVOCATIONS_MAX });
        }
        let file = rewrite(path, &rules).map_err(unreadable)?;
        let file = Mutex::new(Some(RevocationFile { path: path.into(), file }));
        Ok(Revocations { rules: RwLock::new(rules), file })
    }

    /// In force at once, also if it could not be written.
    ///
    /// Errors: too many, and then it is not in force; or not written.
    pub fn add(&self, revocation: RevocationRule, now_ms: u64) -> Result<(), Error> {
        let mut file = self.file.lock().expect("no holder panics");
        let mut rules = self.rules.write().expect("no holder panics");
        if rules.count() >= REVOCATIONS_MAX {
            rules.forget(now_ms);
        }
        if rules.count() >= REVOCATIONS_MAX {
            return Err(Error::TooManyRevocations { max: REVOCATIONS_MAX });
        }
        rules.add(revocation.clone());
        drop(rules);
        let Some(RevocationFile { path, file }) = &mut *file else { return Ok(()) };
        let line = line_of(&revocation);
        let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_data());
        written.map_err(|error| Error::RevocationNotWritten { path: path.clone(), error })
    }

    /// Those in force.
    pub fn list(&self, now_ms: u64) -> Vec<RevocationRule> {
        self.rules.read().expect("no holder panics").all().filter(|revocation| revocation.until_ms > now_ms).collect()
    }

    pub fn count(&self) -> usize {
        self.rules.read().expect("no holder panics").count()
    }

    pub fn is_revoked(&self, identity: &Identity, now_ms: u64) -> bool {
        let rules = self.rules.read().expect("no holder panics");
        let concerns = |revocation: &RevocationRule| {
            let is_target = match &revocation.target {
                RevocationTarget::Token(token) => identity.token_id == *token,
                RevocationTarget::Subject { issuer, subject, issued_before_ms } => {
                    identity.subject == *subject
                        && issuer.as_ref().is_none_or(|issuer| identity.issuer == *issuer)
                        && identity.issued_ms < *issued_before_ms
                }
                RevocationTarget::Issuer { issuer, issued_before_ms } => {
                    identity.issuer == *issuer && identity.issued_ms < *issued_before_ms
                }
            };
            is_target && revocation.until_ms > now_ms
        };
        let any = |found: Option<&Vec<RevocationRule>>| found.is_some_and(|found| found.iter().any(concerns));
        rules.tokens.get(&identity.token_id).is_some_and(|until_ms| *until_ms > now_ms)
            || any(rules.subjects.get(&identity.subject))
            || any(rules.issuers.get(&identity.issuer))
    }
}

impl RevocationRules {
    fn add(&mut self, revocation: RevocationRule) {
        let list = match &revocation.target {
            RevocationTarget::Token(token) => {
                let until_ms = self.tokens.entry(*token).or_default();
                *until_ms = revocation.until_ms.max(*until_ms);
                return;
            }
            RevocationTarget::Subject { subject, .. } => self.subjects.entry(subject.clone()).or_default(),
            RevocationTarget::Issuer { issuer, .. } => self.issuers.entry(issuer.clone()).or_default(),
        };
        if !list.contains(&revocation) {
            list.push(revocation);
        }
    }

    fn count(&self) -> usize {
        let lists = self.subjects.values().chain(self.issuers.values());
        self.tokens.len() + lists.map(Vec::len).sum::<usize>()
    }

    fn forget(&mut self, now_ms: u64) {
        self.tokens.retain(|_, until_ms| *until_ms > now_ms);
        for lists in [&mut self.subjects, &mut self.issuers] {
            lists.retain(|_, list| {
                list.retain(|revocation| revocation.until_ms > now_ms);
                !list.is_empty()
            });
        }
    }

    fn all(&self) -> impl Iterator<Item = RevocationRule> + '_ {
        let tokens = self.tokens.iter();
        let tokens = tokens
            .map(|(token, until_ms)| RevocationRule { target: RevocationTarget::Token(*token), until_ms: *until_ms });
        tokens.chain(self.subjects.values().chain(self.issuers.values()).flatten().cloned())
    }
}

fn line_of(revocation: &RevocationRule) -> String {
    serde_json::to_string(revocation).expect("a revocation has only texts and numbers") + "\n"
}

/// Replaces the file by one with these rules, in one step, and opens it to append.
fn rewrite(path: &Path, rules: &RevocationRules) -> io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut file = File::create(&new)?;
    let lines: String = rules.all().map(|revocation| line_of(&revocation)).collect();
    file.write_all(lines.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    OpenOptions::new().append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    fn identity(issuer: &str, subject: &str, token: &str, issued_ms: u64) -> Identity {
        Identity { issuer: issuer.into(), token_id: TokenId::of(token), issued_ms, ..Identity::of_subject(subject) }
    }

    fn path(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("fanline-revocations-{}-{name}", std::process::id()));
        std::fs::remove_file(&path).ok();
        path
    }

    fn all() -> Vec<RevocationRule> {
        let targets = [
            RevocationTarget::Token(TokenId::of("stolen")),
            RevocationTarget::Subject { issuer: None, subject: "mallory".into(), issued_before_ms: NOW },
            RevocationTarget::Subject { issuer: Some("a".into()), subject: "bob".into(), issued_before_ms: NOW },
            RevocationTarget::Issuer { issuer: "c".into(), issued_before_ms: NOW },
        ];
        targets.map(|target| RevocationRule { target, until_ms: 2 * NOW }).to_vec()
    }

    #[test]
    fn what_is_revoked_stays_so_after_a_restart_until_it_ends() {
        let path = path("restart");
        let revocations = Revocations::open(Some(&path), NOW).expect("a new file");
        for revocation in all() {
            revocations.add(revocation, NOW).expect("written");
        }
        let reopened = Revocations::open(Some(&path), NOW).expect("the file");
        for revocations in [&revocations, &reopened] {
            for (issuer, subject, token, issued_ms, is_revoked) in [
                ("a", "alice", "stolen", NOW, true),
                ("a", "alice", "other", 0, false),
                ("a", "mallory", "x", NOW - 1, true),
                ("b", "mallory", "x", NOW - 1, true),
                ("b", "mallory", "x", NOW, false),
                ("a", "bob", "x", NOW - 1, true),
                ("b", "bob", "x", NOW - 1, false),
                ("c", "alice", "x", NOW - 1, true),
                ("c", "alice", "x", NOW, false),
            ] {
                let identity = identity(issuer, subject, token, issued_ms);
                assert_eq!(
                    revocations.is_revoked(&identity, NOW),
                    is_revoked,
                    "{issuer} {subject} {token} {issued_ms}"
                );
                assert!(!revocations.is_revoked(&identity, 2 * NOW), "it has ended");
            }
        }
        assert_eq!((reopened.list(NOW).len(), reopened.list(2 * NOW).len()), (4, 0));
        assert_eq!(Revocations::open(Some(&path), 2 * NOW).expect("the file").count(), 0);
        assert_eq!(std::fs::read_to_string(&path).expect("the file"), "", "what has ended is left out");
    }

    #[test]
    fn a_line_that_was_cut_at_the_end_is_left_out_and_a_broken_one_is_named() {
        let path = path("cut");
        let whole: String = all().iter().map(line_of).collect();
        for cut in 1..line_of(&all()[3]).len() {
            std::fs::write(&path, &whole[..whole.len() - cut]).expect("a file");
            let count = Revocations::open(Some(&path), NOW).expect("the file").count();
            assert_eq!(count, if cut == 1 { 4 } else { 3 }, "{cut} bytes cut");
        }
        std::fs::write(&path, format!("{}nonsense\n{whole}", line_of(&all()[0]))).expect("a file");
        let error = Revocations::open(Some(&path), NOW).err().expect("a broken line").to_string();
        assert!(error.contains(":2:") && !error.contains("nonsense"), "{error}");
    }

    #[test]
    fn revocations_are_bounded_and_those_that_have_ended_make_room() {
        let revocations = Revocations::open(None, NOW).expect("no file");
        let token = |number: usize| RevocationTarget::Token(TokenId::of(&number.to_string()));
        for number in 0..REVOCATIONS_MAX {
            revocations.add(RevocationRule { target: token(number), until_ms: 2 * NOW }, NOW).expect("room");
        }
        let further = RevocationRule { target: token(REVOCATIONS_MAX), until_ms: 3 * NOW };
        assert!(matches!(revocations.add(further.clone(), NOW), Err(Error::TooManyRevocations { .. })));
        revocations.add(further, 2 * NOW).expect("room again");
        assert_eq!(revocations.count(), 1);
    }
}
