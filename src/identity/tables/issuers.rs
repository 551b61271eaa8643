//! Reading `[[auth.issuer]]`.

use std::ops::Range;
use std::path::PathBuf;

use toml::de::DeTable;
use url::Url;

use crate::identity::keys::algorithm::SigningAlgorithm;
use crate::identity::keys::fetch::is_allowed;
use crate::identity::tables::values::{TomlValue, nearest, shown};
use crate::identity::tables::{IssuerTable, KeySource, TablesReader};

/// More would be data, not configuration: each token is compared with all of them.
const ISSUERS_MAX: usize = 32;

impl TablesReader {
    pub(super) fn issuers(&mut self, value: &TomlValue<'_>) {
        let Some(issuers) = value.get_ref().as_array() else {
            return self.problem(
                value.span(),
                "auth.issuer: expected `[[auth.issuer]]`, found another value; write double brackets",
            );
        };
        if issuers.len() > ISSUERS_MAX {
            let found = issuers.len();
            self.problem(
                value.span(),
                &format!("auth.issuer: expected at most {ISSUERS_MAX} issuers, found {found}; remove some"),
            );
        }
        for issuer in issuers.iter() {
            let Some(keys) = self.table(issuer, "auth.issuer", "[[auth.issuer]]") else { continue };
            let known = [
                "issuer",
                "audience",
                "algorithms",
                "jwks",
                "keys_file",
                "secret_file",
                "secret_previous_file",
                "previous_until",
                "claim",
                "tier",
            ];
            self.refuse_unknown(keys, "auth.issuer", &known);
            if let Some(table) = self.issuer(keys, issuer.span()) {
                if self.tables.issuers.iter().any(|other| other.issuer == table.issuer) {
                    let sentence = "auth.issuer: expected each issuer once, found it again; give its keys in one table";
                    self.problem(issuer.span(), sentence);
                }
                self.tables.issuers.push(table);
            }
        }
    }

    fn issuer(&mut self, keys: &DeTable<'_>, span: Range<usize>) -> Option<IssuerTable> {
        let name = self.required(keys, &span, "auth.issuer", "issuer", "`issuer = \"https://id.example.com/\"`")?;
        let issuer = self.text(name, "auth.issuer.issuer");
        let audience = self.required(keys, &span, "auth.issuer", "audience", "`audience = [\"fanline\"]`")?;
        let audience = self.texts(audience, "auth.issuer.audience", "`audience = [\"fanline\"]`");
        let listed = self.required(keys, &span, "auth.issuer", "algorithms", "`algorithms = [\"ES256\"]`")?;
        let names = self.texts(listed, "auth.issuer.algorithms", "`algorithms = [\"ES256\"]`");
        let mut algorithms = Vec::new();
        for name in names.iter().flatten() {
            match SigningAlgorithm::find(name) {
                Some(algorithm) => algorithms.push(algorithm),
                None => {
                    let valid = SigningAlgorithm::ALL.map(SigningAlgorithm::name);
                    let remedy = nearest(name, &valid);
                    let shown = shown(name);
                    self.problem(
                        listed.span(),
                        &format!("auth.issuer.algorithms: expected algorithms, found `{shown}`; {remedy}"),
                    );
                }
            }
        }
        let source = self.key_source(keys, &span);
        let is_secret = matches!(source, Some(KeySource::Secret { .. }));
        if source.is_some() && algorithms.iter().any(|algorithm| algorithm.secret_bytes_min().is_some() != is_secret) {
            let sentence = "auth.issuer.algorithms: expected HS256, HS384 or HS512 with `secret_file`, and only others \
                            with `jwks` or `keys_file`, found them mixed; make two issuers of it";
            self.problem(listed.span(), sentence);
        }
        let claim = self.optional_text(keys, "auth.issuer", "claim").unwrap_or_else(|| "fanline".into());
        let tier = self.optional_text(keys, "auth.issuer", "tier");
        Some(IssuerTable { issuer: issuer?, audience: audience?, algorithms, keys: source?, claim, tier })
    }

    fn key_source(&mut self, keys: &DeTable<'_>, span: &Range<usize>) -> Option<KeySource> {
        let given: Vec<&str> =
            ["jwks", "keys_file", "secret_file"].into_iter().filter(|name| keys.contains_key(*name)).collect();
        let previous = keys.contains_key("secret_previous_file") || keys.contains_key("previous_until");
        let [source] = given[..] else {
            let found = if given.is_empty() { "none".to_owned() } else { format!("`{}`", given.join("`, `")) };
            self.problem(
                span.clone(),
                &format!("auth.issuer: expected one of `jwks`, `keys_file` and `secret_file`, found {found}; keep one"),
            );
            return None;
        };
        if previous && source != "secret_file" {
            self.problem(span.clone(), "auth.issuer: expected `secret_previous_file` and `previous_until` beside `secret_file`, found them without; remove them");
            return None;
        }
        let value = keys.get(source)?;
        let text = self.text(value, &format!("auth.issuer.{source}"))?;
        match source {
            "jwks" => match Url::parse(&text).ok().filter(is_allowed) {
                Some(url) => Some(KeySource::Url(url)),
                None => {
                    self.problem(value.span(), "auth.issuer.jwks: expected a URL https:// without user and password, found another one; http:// is allowed only to localhost");
                    None
                }
            },
            "keys_file" => Some(KeySource::File(PathBuf::from(&*text))),
            _ if !previous => Some(KeySource::Secret { file: PathBuf::from(&*text), previous: None }),
            _ => {
                let remedy = "`secret_previous_file` and `previous_until = 2027-01-31T00:00:00Z`";
                let file = self.required(keys, span, "auth.issuer", "secret_previous_file", remedy)?;
                let until = self.required(keys, span, "auth.issuer", "previous_until", remedy)?;
                let file = self.text(file, "auth.issuer.secret_previous_file")?;
                let until_ms = self.moment(until, "auth.issuer.previous_until")?;
                Some(KeySource::Secret {
                    file: PathBuf::from(&*text),
                    previous: Some((PathBuf::from(&*file), until_ms)),
                })
            }
        }
    }
}
