//! A token is accepted if its issuer has signed it for this server and this moment, and for no other reason.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fanline::access::gatekeeper::{AuthRequest, Credential, Gatekeeper};
use fanline::access::selector::ReachedSessions;
use fanline::identity::keys::algorithm::SigningAlgorithm;
use fanline::identity::keys::issuer_keys::FetchTimes;
use fanline::identity::keys::key::{KeyError, VerificationKey};
use fanline::identity::keys::key_set::{KeySet, SignatureVerdict};
use fanline::identity::tables;
use fanline::identity::token_gatekeeper::{TokenGatekeeper, TokenGatekeeperParts};
use fanline::settings::table::AuthSettings;
use fanline::words::metrics::Meters;
use kit::{DEADLINE, project, skip_without_tool, tool};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde::Deserialize;
use serde_json::{Value, json};

const SECRET: &str = "a secret of more than thirty-two bytes";
const ISSUER: &str = "https://id.example.com/";

/// The path of a file for one test.
fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A gatekeeper with these tables.
fn gatekeeper(tables: &str) -> TokenGatekeeper {
    let text = toml::de::DeTable::parse(tables).expect("TOML").into_inner();
    let tables = tables::read(text.get("auth").and_then(|auth| auth.get_ref().as_table()).expect("[auth]"));
    let settings = AuthSettings { failures_per_address_max: 0, ..AuthSettings::default() };
    let fetch_times = FetchTimes::with_stale_max(settings.jwks_stale_max);
    let tables = tables.expect("good tables");
    let parts = TokenGatekeeperParts {
        settings,
        tables,
        fetch_times,
        orders: Arc::new(|_, _| ReachedSessions::none()),
        meters: Meters::unread(),
    };
    TokenGatekeeper::start(parts).expect("a gatekeeper")
}

/// What becomes of a token: `accepted`, or the reason against it.
fn verdict(gatekeeper: &TokenGatekeeper, token: &str) -> &'static str {
    let (sender, receiver) = channel();
    let credential = Credential::Token(token.into());
    let request = AuthRequest { credential, address: None, origin: None, current: None, session: None };
    let reply = Box::new(move |admitted: Result<_, _>| sender.send(admitted.err()).expect("the test waits"));
    gatekeeper.authenticate(request, reply);
    receiver.recv_timeout(DEADLINE).expect("an answer").map_or("accepted", |refusal| refusal.reason)
}

fn encoded(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A token of these texts, signed with the secret by HS256.
fn signed(header: &str, payload: &str) -> String {
    let message = format!("{}.{}", encoded(header), encoded(payload));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = encoded(ring::hmac::sign(&key, message.as_bytes()));
    format!("{message}.{signature}")
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs()
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "fanline", "sub": "alice", "iat": now() - 5, "exp": now() + 600, "jti": "1",
        "fanline": { "tier": "pro" },
    })
}

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn secret_tables() -> String {
    /// Written once: tests run side by side.
    static SECRET_FILE: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = scratch("identity-secret");
        std::fs::write(&path, format!("{SECRET}\n")).expect("a writable folder");
        path
    });
    format!(
        "[[auth.issuer]]\nissuer = '{ISSUER}'\naudience = ['fanline']\nalgorithms = ['HS256']\nsecret_file = '{}'\n\
         [auth.tier.pro]\ntopics = ['>']\n",
        SECRET_FILE.display()
    )
}

#[test]
fn each_rule_refuses_a_token_that_breaks_it_alone() {
    let gatekeeper = gatekeeper(&secret_tables());
    let changed = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        signed(HEADER, &claims.to_string())
    };
    let with_header = |header: &str| signed(header, &claims().to_string());
    let whole = claims().to_string();
    let good = signed(HEADER, &whole);
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let inserted = |member: &str| signed(HEADER, &whole.replacen('{', &format!("{{{member},"), 1));
    // The last character of 43 has two bits that say nothing.
    let other_end = {
        let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let place = letters.find(signature.chars().last().expect("a signature")).expect("base64url");
        format!("{header}.{payload}.{}{}", &signature[..42], &letters[place + 1..=place + 1])
    };
    for (name, token, expected) in [
        ("a good one", good.clone(), "accepted"),
        ("at+jwt", with_header(r#"{"alg":"HS256","typ":"application/at+JWT"}"#), "accepted"),
        ("an unknown header", with_header(r#"{"alg":"HS256","x":[{}]}"#), "accepted"),
        (
            "a key in the header",
            with_header(r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AA"},"jku":"http://x"}"#),
            "accepted",
        ),
        ("too large", format!("{good}{}", "A".repeat(9000)), "too_large"),
        ("empty", String::new(), "malformed"),
        ("two parts", format!("{header}.{payload}"), "malformed"),
        ("four parts", format!("{good}.{signature}"), "malformed"),
        ("no signature", format!("{header}.{payload}."), "malformed"),
        ("padding", format!("{good}="), "malformed"),
        ("base64 of another alphabet", format!("{header}.{payload}.+{}", &signature[1..]), "malformed"),
        ("a line break", format!("{header}.\n{payload}.{signature}"), "malformed"),
        ("spare bits", other_end, "malformed"),
        (
            "a JSON form",
            json!({ "payload": payload, "protected": header, "signature": signature }).to_string(),
            "malformed",
        ),
        ("a header that is no object", with_header("[]"), "malformed"),
        ("a header without alg", with_header("{}"), "malformed"),
        ("alg that is no text", with_header(r#"{"alg":["HS256"]}"#), "malformed"),
        ("alg twice", with_header(r#"{"alg":"none","alg":"HS256"}"#), "malformed"),
        ("crit", with_header(r#"{"alg":"HS256","crit":["exp"]}"#), "malformed"),
        ("b64", with_header(r#"{"alg":"HS256","b64":false}"#), "malformed"),
        ("kid that is no text", with_header(r#"{"alg":"HS256","kid":7}"#), "malformed"),
        ("kid that is long", with_header(&json!({ "alg": "HS256", "kid": "k".repeat(257) }).to_string()), "malformed"),
        ("another kind of token", with_header(r#"{"alg":"HS256","typ":"logout+jwt"}"#), "malformed"),
        ("none", with_header(r#"{"alg":"none"}"#), "algorithm"),
        ("None", with_header(r#"{"alg":"None"}"#), "algorithm"),
        ("hs256", with_header(r#"{"alg":"hs256"}"#), "algorithm"),
        ("another algorithm", with_header(r#"{"alg":"HS384"}"#), "algorithm"),
        ("a payload that is no object", signed(HEADER, "[]"), "malformed"),
        ("more behind the payload", signed(HEADER, &format!("{whole}{{}}")), "malformed"),
        ("a claim twice", inserted(r#""sub":"mallory""#), "malformed"),
        ("a member twice, inside", inserted(r#""x":[{"a":1,"a":2}]"#), "malformed"),
        ("an unknown claim", inserted(r#""x":[{"a":1,"A":2}]"#), "accepted"),
        (
            "a payload that is not UTF-8",
            {
                let message = format!("{header}.{}", encoded([0xff]));
                format!("{message}.{signature}")
            },
            "malformed",
        ),
        ("another issuer", changed("iss", json!("https://id.example.com")), "unknown_issuer"),
        ("an issuer that is no text", changed("iss", json!([ISSUER])), "unknown_issuer"),
        ("another signature", format!("{header}.{payload}.{}", encoded([7; 32])), "signature"),
        ("a shorter signature", format!("{header}.{payload}.{}", encoded([7; 16])), "signature"),
        ("another payload", format!("{header}.{}.{signature}", encoded(whole.replace("alice", "admin"))), "signature"),
        ("no audience of ours", changed("aud", json!(["other", "Fanline"])), "audience"),
        ("one audience of ours", changed("aud", json!(["other", "fanline"])), "accepted"),
        ("no audience", changed("aud", json!([])), "audience"),
        ("exp that is a text", changed("exp", json!((now() + 600).to_string())), "claims"),
        ("exp with a fraction", changed("exp", json!(now() as f64 + 600.5)), "accepted"),
        ("expired", changed("exp", json!(now() - 1 - 31)), "claims"),
        ("not yet", changed("nbf", json!(now() + 60)), "not_yet_valid"),
        ("nbf that is a text", changed("nbf", json!("0")), "claims"),
        ("too long", changed("exp", json!(now() + 2 * 24 * 3600)), "too_long_lived"),
        ("no subject", changed("sub", json!(null)), "claims"),
        ("no such tier", changed("fanline", json!({ "tier": "gold" })), "unknown_tier"),
        ("no tier", changed("fanline", json!({})), "unknown_tier"),
    ] {
        assert_eq!(verdict(&gatekeeper, &token), expected, "{name}");
    }
    let mut expired = claims();
    (expired["iat"], expired["exp"]) = (json!(now() - 600), json!(now() - 60));
    assert_eq!(verdict(&gatekeeper, &signed(HEADER, &expired.to_string())), "expired");
}

/// RFC 7515 appendices A.1 to A.3, RFC 7520 sections 4.1 and 4.4, RFC 8037 appendix A.4: message, signature, key.
#[test]
fn the_vectors_of_the_rfcs_are_verified() {
    const JOE: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const FRODO: &str = "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUg\
        cm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9m\
        ZiB0by4";
    let secret = |text: &str| {
        KeySet::of_secrets(vec![VerificationKey::of_secret(&URL_SAFE_NO_PAD.decode(text).expect("base64url"), None)])
    };
    let public =
        |jwk: Value| KeySet::read(&json!({ "keys": [jwk] }).to_string(), &SigningAlgorithm::ALL).expect("a good key");
    let rows = [
        (
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            JOE,
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            SigningAlgorithm::Hs256,
            secret("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"),
        ),
        (
            "eyJhbGciOiJSUzI1NiJ9",
            JOE,
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr\
             7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--\
             xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_I\
             oypGlUPQGe77Rw",
            SigningAlgorithm::Rs256,
            public(json!({ "kty": "RSA", "e": "AQAB", "n":
                "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-\
                 pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2C\
                 apHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9g\
                 b54h4FRWyuXpoQ" })),
        ),
        (
            "eyJhbGciOiJFUzI1NiJ9",
            JOE,
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            SigningAlgorithm::Es256,
            public(json!({ "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" })),
        ),
        (
            "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
            FRODO,
            "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBw\
             A78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0\
             ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7v\
             jbU5y18kDquDg",
            SigningAlgorithm::Rs256,
            public(json!({ "kty": "RSA", "e": "AQAB", "kid": "bilbo.baggins@hobbiton.example", "use": "sig", "n":
                "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqV\
                 wGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJl\
                 sde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQ\
                 kqgc5gHdrNP5zw" })),
        ),
        (
            "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9",
            FRODO,
            "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0",
            SigningAlgorithm::Hs256,
            secret("hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg"),
        ),
        (
            "eyJhbGciOiJFZERTQSJ9",
            "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
            SigningAlgorithm::EdDsa,
            public(json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" })),
        ),
    ];
    for (header, payload, signature, algorithm, keys) in rows {
        let message = format!("{header}.{payload}");
        let mut signature = URL_SAFE_NO_PAD.decode(signature).expect(signature);
        let verify =
            |algorithm, message: &str, signature: &[u8]| keys.verify(algorithm, None, message.as_bytes(), signature, 0);
        assert_eq!(verify(algorithm, &message, &signature), SignatureVerdict::Good, "{header}");
        for other in SigningAlgorithm::ALL.into_iter().filter(|other| *other != algorithm) {
            assert_ne!(verify(other, &message, &signature), SignatureVerdict::Good, "{header} as {other:?}");
        }
        assert_eq!(verify(algorithm, &message[1..], &signature), SignatureVerdict::Bad, "{header}");
        for length in [0, 1, signature.len() - 1] {
            assert_eq!(verify(algorithm, &message, &signature[..length]), SignatureVerdict::Bad, "{header} {length}");
        }
        assert_eq!(verify(algorithm, &message, &[&signature[..], &[0]].concat()), SignatureVerdict::Bad, "{header}");
        for at in 0..signature.len() {
            signature[at] ^= 1;
            assert_eq!(verify(algorithm, &message, &signature), SignatureVerdict::Bad, "{header} byte {at}");
            signature[at] ^= 1;
        }
    }
}

/// The signatures that were mistaken for good ones elsewhere (CVE-2022-21449 and its like): r or s of zero or of the order,
/// DER in place of r and s.
#[test]
fn an_ecdsa_signature_of_special_numbers_is_refused() {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).expect("a key");
    let point = pair.public_key().as_ref();
    let jwk = json!({ "kty": "EC", "crv": "P-256", "x": encoded(&point[1..33]), "y": encoded(&point[33..]) });
    let keys = KeySet::read(&json!({ "keys": [jwk] }).to_string(), &[SigningAlgorithm::Es256]).expect("a key");
    let verify = |signature: &[u8]| keys.verify(SigningAlgorithm::Es256, None, b"message", signature, 0);
    let good = pair.sign(&random, b"message").expect("a signature");
    assert_eq!(verify(good.as_ref()), SignatureVerdict::Good);
    let (r, s) = good.as_ref().split_at(32);
    let order = hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551").expect("hex");
    let (zero, one, most) = ([0; 32], [vec![0; 31], vec![1]].concat(), [0xff; 32]);
    for (r, s) in [
        (&zero[..], &zero[..]),
        (&zero, s),
        (r, &zero),
        (&order, s),
        (r, &order),
        (&order, &order),
        (&most, &most),
        (&one, &one),
        (s, r),
    ] {
        assert_eq!(verify(&[r, s].concat()), SignatureVerdict::Bad, "{r:?} {s:?}");
    }
    let integer = |bytes: &[u8]| [&[2, 33, 0], bytes].concat();
    let der = [vec![0x30, 70], integer(r), integer(s)].concat();
    assert_eq!(verify(&der), SignatureVerdict::Bad);
}

#[test]
fn only_public_keys_that_fit_the_algorithms_are_taken() {
    let random = SystemRandom::new();
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key");
    let x = encoded(pair.public_key());
    let good = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
    let set = |jwk: &Value| json!({ "keys": [jwk] }).to_string();
    let read = |text: &str| KeySet::read(text, &[SigningAlgorithm::EdDsa]).map(|keys| keys.count());
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        set(&changed)
    };
    let spki = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], pair.public_key().as_ref()]
        .concat();
    let pem = |kind: &str, bytes: &[u8]| {
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(bytes))
    };
    let small_rsa = json!({ "kty": "RSA", "e": "AQAB", "n": encoded([0xff; 128]) });
    let huge_rsa = json!({ "kty": "RSA", "e": "AQAB", "n": encoded([0xff; 1025]) });
    for (name, text, expected) in [
        ("a good one", set(&good), Ok(1)),
        ("in PEM", pem("PUBLIC KEY", &spki), Ok(1)),
        ("two in PEM", pem("PUBLIC KEY", &spki).repeat(2), Ok(2)),
        ("for signatures", with("use", json!("sig")), Ok(1)),
        ("for encryption", with("use", json!("enc")), Err(KeyError::NoneUsable)),
        ("to verify", with("key_ops", json!(["verify"])), Ok(1)),
        ("to sign", with("key_ops", json!(["sign"])), Err(KeyError::NoneUsable)),
        ("of another algorithm", with("alg", json!("ES256")), Err(KeyError::NoneUsable)),
        ("of no algorithm", with("alg", json!("none")), Err(KeyError::NoneUsable)),
        ("a kid that is no text", with("kid", json!(7)), Err(KeyError::NoneUsable)),
        ("of another curve", with("crv", json!("X25519")), Err(KeyError::NoneUsable)),
        ("too short", with("x", json!(encoded([7; 31]))), Err(KeyError::NoneUsable)),
        ("private", with("d", json!(x)), Err(KeyError::Private)),
        ("private in PEM", pem("PRIVATE KEY", pkcs8.as_ref()), Err(KeyError::Private)),
        ("a secret", set(&json!({ "kty": "oct", "k": encoded(SECRET) })), Err(KeyError::NoneUsable)),
        ("none", json!({ "keys": [] }).to_string(), Err(KeyError::NoneUsable)),
        ("no set", good.to_string(), Err(KeyError::NotKeys)),
        ("a page", "<html>".into(), Err(KeyError::NotKeys)),
        ("cut PEM", pem("PUBLIC KEY", &spki[..20]), Err(KeyError::NoneUsable)),
        ("more behind the key in PEM", pem("PUBLIC KEY", &[&spki[..], &[0]].concat()), Err(KeyError::NoneUsable)),
        ("many", json!({ "keys": vec![&good; 101] }).to_string(), Err(KeyError::TooMany { max: 100, found: 101 })),
        ("twice the same member", set(&good).replacen("\"x\"", "\"x\":\"AA\",\"x\"", 1), Err(KeyError::NotKeys)),
    ] {
        assert_eq!(read(&text), expected, "{name}");
    }
    for jwk in [small_rsa, huge_rsa] {
        assert_eq!(KeySet::read(&set(&jwk), &[SigningAlgorithm::Rs256]).err(), Some(KeyError::NoneUsable));
    }
}

#[test]
fn a_key_signs_only_tokens_that_name_it() {
    let random = SystemRandom::new();
    let pair = |_| {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key")
    };
    let pairs: Vec<Ed25519KeyPair> = (0..2).map(pair).collect();
    let jwk = |index: usize| {
        let x = encoded(pairs[index].public_key());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": format!("k{index}"), "x": x })
    };
    let keys =
        KeySet::read(&json!({ "keys": [jwk(0), jwk(1)] }).to_string(), &[SigningAlgorithm::EdDsa]).expect("keys");
    let signature = pairs[1].sign(b"message");
    let verify = |key_id| keys.verify(SigningAlgorithm::EdDsa, key_id, b"message", signature.as_ref(), 0);
    assert_eq!(verify(Some("k1")), SignatureVerdict::Good);
    assert_eq!(verify(None), SignatureVerdict::Good);
    assert_eq!(verify(Some("k0")), SignatureVerdict::Bad);
    assert_eq!(verify(Some("k2")), SignatureVerdict::NoKey);
    assert_eq!(verify(Some("../k1")), SignatureVerdict::NoKey);
}

/// What the second opinion begins with.
#[derive(Deserialize)]
struct Opening {
    secret: String,
    jwks: Value,
    tokens: Vec<String>,
}

#[test]
fn another_implementation_accepts_whatever_is_accepted_here() {
    const TOKENS: usize = 4000;
    let Some(python) = tool("python").filter(|python| python.ends_with("venv/bin/python")) else {
        return skip_without_tool("another_implementation_accepts_whatever_is_accepted_here", "PyJWT");
    };
    let mut command = Command::new(python);
    command.arg(project("tests/stock/tokens_jwt.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("Python starts");
    let (mut ask, mut answers) =
        (child.stdin.take().expect("piped"), BufReader::new(child.stdout.take().expect("piped")).lines());
    let mut answer = move || answers.next().expect("the second opinion lives").expect("text");
    let Opening { secret, jwks, tokens } = serde_json::from_str(&answer()).expect("its keys");
    let (secret_file, keys_file) = (scratch("identity-jwt-secret"), scratch("identity-jwt-keys"));
    std::fs::write(&secret_file, secret).expect("a writable folder");
    std::fs::write(&keys_file, jwks.to_string()).expect("a writable folder");
    let gatekeeper = gatekeeper(&format!(
        "[[auth.issuer]]\nissuer = 'https://secrets.example'\naudience = ['fanline']\n\
         algorithms = ['HS256', 'HS384', 'HS512']\nsecret_file = '{}'\n\
         [[auth.issuer]]\nissuer = 'https://keys.example'\naudience = ['fanline']\n\
         algorithms = ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA']\nkeys_file = '{}'\n[auth.tier.pro]\ntopics = ['>']\n",
        secret_file.display(),
        keys_file.display()
    ));
    for token in &tokens {
        assert_eq!(verdict(&gatekeeper, token), "accepted", "{token}");
    }
    let seed = 13;
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut both, mut stricter) = (0, 0);
    for round in 0..TOKENS {
        let token = mutated(&tokens, &mut rng);
        writeln!(ask, "{token}").and_then(|()| ask.flush()).expect("the second opinion lives");
        let (here, there) = (verdict(&gatekeeper, &token), answer() == "yes");
        let shown = format!("seed {seed} round {round}: {here} here, {there} there: {token}");
        match (here, there) {
            ("accepted", _) => assert!(there, "{shown}"),
            // Stricter only about what has two readings.
            ("malformed", true) => stricter += 1,
            (_, there) => assert!(!there, "{shown}"),
        }
        both += usize::from(here == "accepted");
    }
    drop(ask);
    child.wait().expect("Python ends");
    println!("{TOKENS} tokens, {both} accepted by both, {stricter} refused here alone as malformed");
    assert!(both > TOKENS / 50 && both < TOKENS, "{both} of {TOKENS}");
}

/// One of the tokens with something changed, or with parts of others; now and then as it was.
fn mutated(tokens: &[String], rng: &mut SmallRng) -> String {
    let pick = |rng: &mut SmallRng| tokens[rng.random_range(0..tokens.len())].clone();
    let token = pick(rng);
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let part = rng.random_range(0..3);
    let change_text = |text: &str, rng: &mut SmallRng| {
        let pieces =
            ["\"", "{", "}", ",", ":", "0", "null", "alice", "none", "HS256", "EdDSA", "\"exp\":9,", " ", "fanline"];
        let mut text = text.to_owned();
        let at = rng.random_range(0..=text.len());
        let piece = pieces[rng.random_range(0..pieces.len())];
        text.insert_str(if text.is_char_boundary(at) { at } else { 0 }, piece);
        text
    };
    match rng.random_range(0..8) {
        0 => {}
        1 => {
            let at = rng.random_range(0..parts[part].len());
            let letters = b"AQgwxyz0189-_.=+/ ";
            let letter = char::from(letters[rng.random_range(0..letters.len())]);
            parts[part].replace_range(at..=at, &letter.to_string());
        }
        2 => parts[part].truncate(rng.random_range(0..40)),
        3 => parts[part].push(['A', '=', '.', 'g'][rng.random_range(0..4)]),
        4 => parts[part] = pick(rng).split('.').nth(part).expect("three parts").to_owned(),
        5 => {
            let (mut last, letters) = (
                parts[2].pop().expect("a signature"),
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
            );
            let place = letters.find(last).expect("base64url");
            last = char::from(letters.as_bytes()[place ^ rng.random_range(0..4)]);
            parts[2].push(last);
        }
        _ if part < 2 => {
            let text = String::from_utf8(URL_SAFE_NO_PAD.decode(&parts[part]).expect("base64url")).expect("text");
            parts[part] = encoded(change_text(&text, rng));
        }
        _ => parts.swap(0, 1),
    }
    parts.join(".")
}

#[test]
fn a_predecessor_of_a_secret_counts_until_its_end() {
    let (new, old) = (scratch("identity-new"), scratch("identity-old"));
    std::fs::write(&new, "the new secret of more than thirty-two bytes").expect("a writable folder");
    std::fs::write(&old, SECRET).expect("a writable folder");
    let with_end = |until: &str| {
        gatekeeper(&format!(
            "[[auth.issuer]]\nissuer = '{ISSUER}'\naudience = ['fanline']\nalgorithms = ['HS256']\nsecret_file = '{}'\n\
             secret_previous_file = '{}'\nprevious_until = {until}\n[auth.tier.pro]\ntopics = ['>']\n",
            new.display(),
            old.display()
        ))
    };
    let token = signed(HEADER, &claims().to_string());
    assert_eq!(verdict(&with_end("9999-01-01"), &token), "accepted");
    assert_eq!(verdict(&with_end("2020-01-01T00:00:00Z"), &token), "signature");
}

#[test]
fn many_tokens_at_once_are_refused_beyond_the_bound_and_all_are_answered() {
    let gatekeeper = gatekeeper(&secret_tables());
    let (sender, receiver) = channel();
    const TOKENS: usize = 5000;
    let token = signed(HEADER, &claims().to_string());
    for _ in 0..TOKENS {
        let sender = sender.clone();
        let credential = Credential::Token(token.as_str().into());
        let request = AuthRequest { credential, address: None, origin: None, current: None, session: None };
        let reply = move |admitted: Result<_, fanline::access::gatekeeper::AuthRefusal>| {
            sender.send(admitted.err().map(|refusal| refusal.reason)).expect("the test waits");
        };
        gatekeeper.authenticate(request, Box::new(reply));
    }
    let mut answered = 0;
    for _ in 0..TOKENS {
        let reason = receiver.recv_timeout(DEADLINE).expect("an answer to each");
        assert!(matches!(reason, None | Some("busy")), "{reason:?}");
        answered += 1;
    }
    assert_eq!(answered, TOKENS);
    assert_eq!(receiver.recv_timeout(Duration::ZERO).ok(), None, "one answer to each");
}

/// A key of Wycheproof, and its tests: number, message, signature, verdict.
#[derive(Deserialize)]
struct VectorGroup {
    set: String,
    algorithm: String,
    key: String,
    tests: Vec<(u32, String, String, String)>,
}

#[test]
fn the_vectors_of_wycheproof_are_judged_as_they_should_be() {
    let text = std::fs::read_to_string(project("tests/wycheproof/signatures.jsonl")).expect("vectors");
    let mut judged = std::collections::BTreeMap::<&str, (u32, u32)>::new();
    for line in text.lines() {
        let group: VectorGroup = serde_json::from_str(line).expect("a group");
        let algorithm = SigningAlgorithm::find(&group.algorithm).expect("an algorithm of fanline");
        let key = hex::decode(&group.key).expect("hex");
        let keys = match algorithm.secret_bytes_min() {
            Some(_) => KeySet::of_secrets(vec![VerificationKey::of_secret(&key, None)]),
            None => {
                let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&key));
                KeySet::read(&pem, &[algorithm]).unwrap_or_else(|error| panic!("{}: {error}", group.set))
            }
        };
        for (number, message, signature, expected) in &group.tests {
            let (message, signature) = (hex::decode(message).expect("hex"), hex::decode(signature).expect("hex"));
            let is_good = keys.verify(algorithm, None, &message, &signature, 0) == SignatureVerdict::Good;
            // `acceptable`: either is right.
            assert!(is_good || expected != "valid", "{} {number}: a valid signature is refused", group.set);
            assert!(!is_good || expected != "invalid", "{} {number}: an invalid signature is accepted", group.set);
            let (good, bad) = judged.entry(algorithm.name()).or_default();
            *(if is_good { good } else { bad }) += 1;
        }
    }
    assert_eq!(judged.len(), SigningAlgorithm::ALL.len(), "each algorithm: {judged:?}");
    assert!(judged.values().all(|(good, bad)| *good > 0 && *bad > 30), "{judged:?}");
}
