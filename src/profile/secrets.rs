//! Keys and passwords from the environment, and the signatures made with them.
//!
//! A profile names variables, never values. They are read once, at the start, so that a missing or invalid one is
//! reported before anything connects. One newline at the end is not part of a value: files and shells add it.

use std::collections::BTreeMap;
use std::fmt;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use hmac::{Hmac, KeyInit, Mac};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::DecodePrivateKey;
use sha2::{Sha256, Sha384, Sha512};

use crate::profile::hidden::Hidden;
use crate::profile::keys::{SIGN, SIGN_KEY};
use crate::profile::placeholders::{Context, Missing, Placeholder, TemplateSite};
use crate::profile::section::{ProfileEntry, ProfileError, ProfileSection, did_you_mean, one_of};
use crate::profile::template::Template;

const ALGORITHMS: [&str; 5] = ["hmac-sha256", "hmac-sha384", "hmac-sha512", "jwt-hs256", "jwt-es256"];
const CLAIMS: &str = "claims = '{\"exp\":${now.s|add:120}}'";

/// How one signature is made.
#[derive(Clone, Debug)]
pub(crate) struct SignRule {
    name: String,
    algorithm: Algorithm,
    variable: String,
    decoding: Decoding,
    encoding: SignatureEncoding,
    optional: bool,
}

#[derive(Clone, Debug)]
enum Algorithm {
    HmacSha256(Template<Placeholder>),
    HmacSha384(Template<Placeholder>),
    HmacSha512(Template<Placeholder>),
    /// A JSON Web Token (RFC 7519), signed with HS256: header and claims.
    JwtHs256(Template<Placeholder>, Template<Placeholder>),
    /// The same, signed with ES256.
    JwtEs256(Template<Placeholder>, Template<Placeholder>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decoding {
    Raw,
    Base64,
    Hex,
    Pem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SignatureEncoding {
    Hex,
    Base64,
}

/// Why a variable cannot be used; the value itself is never shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("profile `{profile}` needs the environment variable `{variable}`, which is not set")]
    Missing { profile: String, variable: String },
    #[error("expected a key in `{variable}` that can be read as {expected}; set it as the venue gave it to you")]
    Unreadable { variable: String, expected: &'static str },
    #[error(
        "expected a value of one line without control characters in `{variable}`, found U+{code:04X} in it; remove it"
    )]
    Control { variable: String, code: u32 },
}

/// The values of a profile's variables, and its keys.
#[derive(Clone, Default)]
pub(crate) struct Secrets {
    variables: BTreeMap<String, String>,
    signers: Vec<KeyedSign>,
    /// The texts of the keys.
    keys: Vec<String>,
}

#[derive(Clone)]
struct KeyedSign {
    rule: SignRule,
    key: KeyMaterial,
}

#[derive(Clone)]
enum KeyMaterial {
    Bytes(Vec<u8>),
    P256(Box<SigningKey>),
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.variables.keys()).finish()
    }
}

/// Reads the sections `[sign.NAME]`.
pub(crate) fn read_signs(entry: Option<ProfileEntry<'_>>) -> Result<Vec<SignRule>, ProfileError> {
    let Some(entry) = entry else { return Ok(Vec::new()) };
    entry.members()?.into_iter().map(|(name, entry)| read_sign(name, &entry.section(SIGN)?)).collect()
}

fn read_sign(name: &str, section: &ProfileSection<'_>) -> Result<SignRule, ProfileError> {
    let template = |key: &str, example: &str| {
        let entry = section.require(key, example)?;
        Placeholder::template(entry.text()?, TemplateSite::Signed).map_err(|problem| entry.error(problem))
    };
    let algorithm = section.require("alg", "alg = \"hmac-sha256\"")?;
    let message = || template("message", "message = \"${now.s}GET/users/self/verify\"");
    let algorithm = match algorithm.text()? {
        "hmac-sha256" => Algorithm::HmacSha256(message()?),
        "hmac-sha384" => Algorithm::HmacSha384(message()?),
        "hmac-sha512" => Algorithm::HmacSha512(message()?),
        "jwt-hs256" => {
            Algorithm::JwtHs256(template("header", "header = '{\"alg\":\"HS256\"}'")?, template("claims", CLAIMS)?)
        }
        "jwt-es256" => {
            Algorithm::JwtEs256(template("header", "header = '{\"alg\":\"ES256\"}'")?, template("claims", CLAIMS)?)
        }
        other => return Err(algorithm.error(choice(other, &ALGORITHMS))),
    };
    let key = section.require("key", "key = { env = \"MY_SECRET\" }")?.section(SIGN_KEY)?;
    let decoding = match key.get("decode") {
        None => Decoding::Raw,
        Some(entry) => match entry.text()? {
            "raw" => Decoding::Raw,
            "base64" => Decoding::Base64,
            "hex" => Decoding::Hex,
            "pem" => Decoding::Pem,
            other => return Err(entry.error(choice(other, &["raw", "base64", "hex", "pem"]))),
        },
    };
    let encoding = match section.get("encode") {
        None => SignatureEncoding::Hex,
        Some(entry) => match entry.text()? {
            "hex" => SignatureEncoding::Hex,
            "base64" => SignatureEncoding::Base64,
            other => return Err(entry.error(choice(other, &["hex", "base64"]))),
        },
    };
    Ok(SignRule {
        name: name.to_string(),
        algorithm,
        variable: key.require("env", "env = \"MY_SECRET\"")?.text()?.to_string(),
        decoding,
        encoding,
        optional: section.get("optional").map(|entry| entry.flag()).transpose()?.unwrap_or(false),
    })
}

fn choice(found: &str, known: &[&str]) -> String {
    format!("expected {}, found `{found}`{}", one_of(known), did_you_mean(found, known))
}

impl SignRule {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What is signed.
    pub(crate) fn templates(&self) -> impl Iterator<Item = &Template<Placeholder>> + Clone {
        let (first, second) = match &self.algorithm {
            Algorithm::HmacSha256(message) | Algorithm::HmacSha384(message) | Algorithm::HmacSha512(message) => {
                (message, None)
            }
            Algorithm::JwtHs256(header, claims) | Algorithm::JwtEs256(header, claims) => (header, Some(claims)),
        };
        std::iter::once(first).chain(second)
    }

    fn key(&self, value: &str) -> Option<KeyMaterial> {
        let unfolded = || value.replace("\\n", "\n");
        match (&self.algorithm, self.decoding) {
            (Algorithm::JwtEs256(..), _) => {
                let pem = unfolded();
                let key = SigningKey::from_pkcs8_pem(&pem).ok();
                let key = key.or_else(|| p256::SecretKey::from_sec1_pem(&pem).ok().map(SigningKey::from));
                key.map(|key| KeyMaterial::P256(Box::new(key)))
            }
            (_, Decoding::Raw | Decoding::Pem) => Some(KeyMaterial::Bytes(value.as_bytes().to_vec())),
            (_, Decoding::Base64) => BASE64_STANDARD.decode(value.trim()).ok().map(KeyMaterial::Bytes),
            (_, Decoding::Hex) => hex::decode(value.trim()).ok().map(KeyMaterial::Bytes),
        }
    }

    fn expected(&self) -> &'static str {
        match (&self.algorithm, self.decoding) {
            (Algorithm::JwtEs256(..), _) => "a P-256 private key in PEM (PKCS #8 or SEC 1)",
            (_, Decoding::Raw | Decoding::Pem) => "text",
            (_, Decoding::Base64) => "base64",
            (_, Decoding::Hex) => "hexadecimal digits",
        }
    }
}

impl Secrets {
    /// Reads the variables that templates and signatures name. `variable` is the environment.
    pub(crate) fn gather<'t>(
        profile: &str,
        templates: impl Iterator<Item = &'t Template<Placeholder>> + Clone,
        signs: &'t [SignRule],
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Secrets, SecretError> {
        let variable = |name: &str| variable(name).map(of_one_line).filter(|value| !value.is_empty());
        let mut secrets = Secrets::default();
        let missing = |name: &str| SecretError::Missing { profile: profile.to_string(), variable: name.to_string() };
        let signed = signs.iter().flat_map(SignRule::templates);
        for template in templates.clone().chain(signed) {
            for placeholder in template.sources() {
                if let Placeholder::Env(name) = placeholder
                    && let Some(value) = variable(name)
                {
                    check_controls(name, &value)?;
                    secrets.variables.insert(name.clone(), value);
                }
            }
        }
        for template in templates {
            for placeholder in template.required_sources() {
                if let Placeholder::Env(name) = placeholder
                    && !secrets.variables.contains_key(name)
                {
                    return Err(missing(name));
                }
            }
        }
        for rule in signs {
            match variable(&rule.variable) {
                Some(value) => {
                    if rule.decoding == Decoding::Raw && !matches!(rule.algorithm, Algorithm::JwtEs256(..)) {
                        check_controls(&rule.variable, &value)?;
                    }
                    let key = rule.key(&value).ok_or_else(|| SecretError::Unreadable {
                        variable: rule.variable.clone(),
                        expected: rule.expected(),
                    })?;
                    secrets.signers.push(KeyedSign { rule: rule.clone(), key });
                    secrets.keys.push(value);
                }
                None if rule.optional => {}
                None => return Err(missing(&rule.variable)),
            }
        }
        Ok(secrets)
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.variables.is_empty() && self.keys.is_empty()
    }

    /// All secret values that must not appear in the log, and these texts.
    pub(crate) fn hidden(&self, others: impl Iterator<Item = String>) -> Hidden {
        Hidden::new(self.variables.values().chain(&self.keys).cloned().chain(others))
    }

    /// The signature of that name; none if it is optional and there is no key.
    pub(crate) fn sign(&self, name: &str, context: &Context<'_>) -> Option<Result<String, Missing>> {
        let signer = self.signers.iter().find(|signer| signer.rule.name == name)?;
        Some(signer.sign(context))
    }
}

fn of_one_line(mut value: String) -> String {
    for end in ['\n', '\r'] {
        if value.ends_with(end) {
            value.pop();
        }
    }
    value
}

fn check_controls(variable: &str, value: &str) -> Result<(), SecretError> {
    match value.chars().find(|c| c.is_control()) {
        None => Ok(()),
        Some(control) => Err(SecretError::Control { variable: variable.to_string(), code: control.into() }),
    }
}

impl KeyedSign {
    fn sign(&self, context: &Context<'_>) -> Result<String, Missing> {
        let unusable = || Missing(format!("sign.{}", self.rule.name));
        let bytes = match (&self.rule.algorithm, &self.key) {
            (Algorithm::HmacSha256(message), KeyMaterial::Bytes(key)) => {
                mac::<Hmac<Sha256>>(key, &context.fill(message)?).ok_or_else(unusable)?
            }
            (Algorithm::HmacSha384(message), KeyMaterial::Bytes(key)) => {
                mac::<Hmac<Sha384>>(key, &context.fill(message)?).ok_or_else(unusable)?
            }
            (Algorithm::HmacSha512(message), KeyMaterial::Bytes(key)) => {
                mac::<Hmac<Sha512>>(key, &context.fill(message)?).ok_or_else(unusable)?
            }
            (Algorithm::JwtHs256(header, claims), KeyMaterial::Bytes(key)) => {
                let signed = token(header, claims, context)?;
                let signature = mac::<Hmac<Sha256>>(key, &signed).ok_or_else(unusable)?;
                return Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)));
            }
            (Algorithm::JwtEs256(header, claims), KeyMaterial::P256(key)) => {
                let signed = token(header, claims, context)?;
                let signature: Signature = key.sign(signed.as_bytes());
                return Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.to_bytes())));
            }
            _ => return Err(unusable()),
        };
        Ok(match self.rule.encoding {
            SignatureEncoding::Hex => hex::encode(bytes),
            SignatureEncoding::Base64 => BASE64_STANDARD.encode(bytes),
        })
    }
}

/// The part of a JSON Web Token that is signed (RFC 7515 section 5.1).
fn token(
    header: &Template<Placeholder>,
    claims: &Template<Placeholder>,
    context: &Context<'_>,
) -> Result<String, Missing> {
    let part = |template| context.fill(template).map(|text| BASE64_URL_SAFE_NO_PAD.encode(text));
    Ok(format!("{}.{}", part(header)?, part(claims)?))
}

fn mac<M: Mac + KeyInit>(key: &[u8], message: &str) -> Option<Vec<u8>> {
    let mut mac = <M as KeyInit>::new_from_slice(key).ok()?;
    mac.update(message.as_bytes());
    Some(mac.finalize().into_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::VerifyingKey;
    use p256::ecdsa::signature::Verifier;
    use p256::pkcs8::EncodePrivateKey;

    use super::*;
    use crate::profile::check;
    use crate::profile::request::TakenValues;
    use crate::words::stamp::Stamp;

    fn secrets(sign: &str, value: &str) -> Result<Secrets, SecretError> {
        let text = format!("profile = 1\nname = \"t\"\n[sign.s]\n{sign}\n[[on]]\nname = \"n\"\nas = \"ignore\"\n");
        let profile = check(&text, "t").expect("a good profile");
        let lookup = |name: &str| (name == "K").then(|| value.to_string());
        Secrets::gather("t", [].iter(), &profile.signs, lookup)
    }

    fn signed(sign: &str, value: &str) -> String {
        let secrets = secrets(sign, value).expect("a good key");
        let now = Stamp { wall_ms: 1_538_054_050_123, mono_ns: 0 };
        secrets.sign("s", &Context::plain(&secrets, now, 1)).expect("a key").expect("all placeholders")
    }

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        // Test case 2 of section 4.3.
        let sign = "alg = \"hmac-sha256\"\nkey = { env = \"K\" }\nmessage = \"what do ya want for nothing?\"";
        assert_eq!(signed(sign, "Jefe"), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let sign = sign.replace("{ env = \"K\" }", "{ env = \"K\", decode = \"base64\" }");
        let sign = format!("{}\nencode = \"base64\"", sign);
        assert_eq!(signed(&sign, "SmVmZQ=="), "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=");
    }

    #[test]
    fn times_are_part_of_what_is_signed() {
        let sign = |message: &str| {
            signed(&format!("alg = \"hmac-sha512\"\nkey = {{ env = \"K\" }}\nmessage = \"{message}\""), "k")
        };
        assert_eq!(sign("${now.s}GET"), sign("1538054050GET"));
        assert_ne!(sign("${now.ms}GET"), sign("1538054050GET"));
    }

    #[test]
    fn a_token_can_be_verified() {
        let key = SigningKey::from_slice(&[7; 32]).expect("a scalar");
        let pem = key.to_pkcs8_pem(Default::default()).expect("PEM");
        let sign = "alg = \"jwt-es256\"\nkey = { env = \"K\", decode = \"pem\" }\nheader = '{\"alg\":\"ES256\"}'\nclaims = '{\"nbf\":${now.s}}'";
        let token = signed(sign, &pem.replace('\n', "\\n"));
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        let signature = Signature::from_slice(&signature).expect("64 bytes");
        VerifyingKey::from(&key).verify(signed.as_bytes(), &signature).expect("it is ours");
        let claims = signed.split_once('.').expect("two parts").1;
        assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(claims).expect("base64url"), b"{\"nbf\":1538054050}");
    }

    #[test]
    fn a_token_ends_when_the_profile_says() {
        let sign = "alg = \"jwt-hs256\"\nkey = { env = \"K\" }\nheader = '{\"alg\":\"HS256\"}'\n\
            claims = '{\"nbf\":${now.s|add:-5},\"exp\":${now.s|add:120}}'";
        let token = signed(sign, "Jefe");
        let (text, signature) = token.rsplit_once('.').expect("three parts");
        let expected = mac::<Hmac<Sha256>>(b"Jefe", text).expect("a key");
        assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(signature).expect("base64url"), expected);
        let claims = BASE64_URL_SAFE_NO_PAD.decode(text.split_once('.').expect("two parts").1).expect("base64url");
        assert_eq!(claims, br#"{"nbf":1538054045,"exp":1538054170}"#);
    }

    #[test]
    fn a_key_that_cannot_be_used_is_named_but_not_shown() {
        let sign = "alg = \"hmac-sha256\"\nkey = { env = \"K\", decode = \"hex\" }\nmessage = \"m\"";
        let error = secrets(sign, "geheim").expect_err("no digits").to_string();
        assert_eq!(
            error,
            "expected a key in `K` that can be read as hexadecimal digits; set it as the venue gave it to you"
        );
        let other = sign.replace("\"K\"", "\"L\"");
        assert_eq!(
            secrets(&other, "").expect_err("not set").to_string(),
            "profile `t` needs the environment variable `L`, which is not set"
        );
        assert!(secrets(&format!("{other}\noptional = true"), "").is_ok());
    }

    fn sent(login: &str, value: &str) -> Result<String, SecretError> {
        let template = Placeholder::template(login, TemplateSite::Frame).expect("a template");
        let lookup = |name: &str| (name == "K").then(|| value.to_string());
        let secrets = Secrets::gather("t", [&template].into_iter(), &[], lookup)?;
        Ok(Context::plain(&secrets, Stamp::default(), 1).fill(&template).expect("all placeholders"))
    }

    #[test]
    fn a_newline_at_the_end_of_a_variable_is_no_part_of_it() {
        for value in ["key", "key\n", "key\r\n"] {
            assert_eq!(sent("PASS ${env.K}", value).as_deref(), Ok("PASS key"));
        }
        let sign = "alg = \"hmac-sha256\"\nkey = { env = \"K\" }\nmessage = \"m\"";
        assert_eq!(signed(sign, "Jefe\n"), signed(sign, "Jefe"));
        assert!(matches!(sent("PASS ${env.K}", "\n"), Err(SecretError::Missing { .. })), "nothing is left");
    }

    #[test]
    fn a_variable_with_control_characters_is_named_but_not_shown() {
        let error = sent("PASS ${env.K}", "ge\nheim").expect_err("two lines").to_string();
        let expected = "expected a value of one line without control characters in `K`, found U+000A in it; remove it";
        assert_eq!(error, expected);
        let sign = "alg = \"hmac-sha256\"\nkey = { env = \"K\" }\nmessage = \"m\"";
        assert_eq!(secrets(sign, "ge\nheim").expect_err("two lines").to_string(), expected);
    }

    #[test]
    fn no_value_can_end_the_json_string_that_it_is_put_into() {
        for (login, value) in [
            (r#"{"key":"${env.K}","n":1}"#, "a\"b\\c"),
            (r#"{"key":${env.K|json}}"#, "a\"b\\c"),
            (r#"{"key":"${env.K?${env.K}}","s":"\"x"}"#, "a\"b\\c"),
        ] {
            let text = sent(login, value).expect("it can be used");
            let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(json["key"], value, "{text}");
        }
        assert_eq!(sent(r#"PASS "${env.K}""#, "a\"b").as_deref(), Ok(r#"PASS "a"b""#), "this is no JSON");
    }

    #[test]
    fn every_built_in_message_survives_any_key_and_any_name() {
        for name in crate::profile::Profile::built_in_names() {
            let profile = crate::profile::Profile::built_in(name).expect("built in");
            let key = "k\"e\\y";
            let templates = || profile.templates().filter(|template| !template.source().starts_with("ws"));
            let secrets = Secrets::gather(name, templates(), &[], |_| Some(key.to_string())).expect("a good key");
            let item = profile.subscribe.as_ref().map(|subscribe| subscribe.item(r#"a","b":"c.d"#));
            let (venue, channel, symbol) = match &item {
                Some(item) => (item.venue.clone(), &*item.channel, item.symbol.clone()),
                None => ("i".to_string(), "", "s".to_string()),
            };
            let (items, symbols) = ([venue], [symbol]);
            let taken = TakenValues(profile.taken().map(|name| (name.to_string(), "1".to_string())).collect());
            for template in templates().filter(|template| template.source().starts_with('{')) {
                let context = Context {
                    items: &items,
                    symbols: &symbols,
                    channel,
                    bind_key: Some("7"),
                    data: Some("8"),
                    taken: Some(&taken),
                    ..Context::plain(&secrets, Stamp::default(), 1)
                };
                let text = context.fill(template).unwrap_or_else(|missing| panic!("{name}: {missing}"));
                let json: Result<serde_json::Value, _> = serde_json::from_str(&text);
                let json = json.unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
                assert!(json.get("b").is_none(), "{name}: {text}");
            }
        }
    }
}
