//! The cost of verifying a token, on one thread and without waiting: structure, signature, claims, rights.
//!
//! `cargo bench --bench tokens -- [ROUNDS]`. Prints microseconds of CPU for a token of each algorithm, and for tokens
//! that are refused: what a client can make the server do with rubbish.

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanline::access::identity::ClaimedRights;
use fanline::identity::keys::algorithm::SigningAlgorithm;
use fanline::identity::keys::key::VerificationKey;
use fanline::identity::keys::key_set::{KeySet, SignatureVerdict};
use fanline::identity::tables;
use fanline::identity::tiers::Tiers;
use fanline::identity::token::claims::Claims;
use fanline::identity::token::jws::Jws;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair,
};
use serde_json::{Value, json};

/// One kind of token: its name, its algorithm, the keys of its issuer, and its text.
type TokenKind = (&'static str, SigningAlgorithm, KeySet, String);

fn main() {
    let rounds = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(5000_u32);
    let tiers = tiers();
    println!("{:<28} {:>8} {:>8}", "token", "bytes", "us each");
    for (name, algorithm, keys, token) in kinds() {
        let began = Instant::now();
        for _ in 0..rounds {
            let jws = Jws::read(&token).expect("a token");
            let verdict = keys.verify(algorithm, jws.key_id.as_deref(), jws.message, &jws.signature, 0);
            assert_eq!(verdict, SignatureVerdict::Good, "{name}");
            let claims = Claims::read(&jws.payload, "fanline").expect("claims");
            tiers.grant(&claims.rights, None).expect("a tier");
        }
        show(name, &token, began, rounds);
        if algorithm == SigningAlgorithm::Es256 {
            let wrong = format!("{}{}", &token[..token.len() - 86], URL_SAFE_NO_PAD.encode([7; 64]));
            let began = Instant::now();
            for _ in 0..rounds {
                let jws = Jws::read(&wrong).expect("a token");
                let verdict = keys.verify(algorithm, None, jws.message, &jws.signature, 0);
                assert_eq!(verdict, SignatureVerdict::Bad);
            }
            show("ES256, wrong signature", &wrong, began, rounds);
        }
    }
    for (name, text) in [("8 KiB of letters", "a".repeat(8 << 10)), ("8 KiB of brackets", brackets())] {
        let began = Instant::now();
        for _ in 0..rounds {
            assert!(Jws::read(&text).is_err());
        }
        show(name, &text, began, rounds);
    }
}

fn show(name: &str, token: &str, began: Instant, rounds: u32) {
    println!("{name:<28} {:>8} {:>8.1}", token.len(), began.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
}

fn brackets() -> String {
    let part = URL_SAFE_NO_PAD.encode("[".repeat(3 << 10));
    format!("{part}.{part}.AA")
}

fn tiers() -> Tiers {
    let text = "[auth.tier.pro]\ntopics = ['ticker.>', 'book.>']\n";
    let table = toml::de::DeTable::parse(text).expect("TOML").into_inner();
    let auth = table.get("auth").and_then(|auth| auth.get_ref().as_table()).expect("[auth]");
    let tiers = Tiers::new(&tables::read(auth).expect("good tables"), None, None).expect("good tiers");
    tiers.grant(&ClaimedRights { tier: Some("pro".into()), ..ClaimedRights::default() }, None).expect("the tier");
    tiers
}

fn message(header: Value) -> String {
    let payload = json!({
        "iss": "https://id.example.com/", "aud": ["fanline", "https://api.example.com"], "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
        "iat": 1_800_000_000, "exp": 1_800_003_600, "jti": "5f7c8ec7-c33c-6c00-4bba-fe825f7c8ec7", "azp": "my_client",
        "scope": "openid profile", "fanline": { "tier": "pro", "status": "nonprofessional" },
    });
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload.to_string()))
}

fn kinds() -> Vec<TokenKind> {
    let random = SystemRandom::new();
    let secret = [7; 64];
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let text = message(json!({ "alg": "HS256" }));
    let token = format!("{text}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes())));
    let secrets = KeySet::of_secrets(vec![VerificationKey::of_secret(&secret, None)]);
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key");
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": URL_SAFE_NO_PAD.encode(pair.public_key()) });
    let text = message(json!({ "alg": "EdDSA", "kid": "k" }));
    let signed = format!("{text}.{}", URL_SAFE_NO_PAD.encode(pair.sign(text.as_bytes())));
    vec![
        ("HS256", SigningAlgorithm::Hs256, secrets, token),
        ("EdDSA", SigningAlgorithm::EdDsa, set(&jwk), signed),
        ecdsa("ES256", SigningAlgorithm::Es256, &ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"),
        ecdsa("ES384", SigningAlgorithm::Es384, &ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
    ]
}

fn ecdsa(
    name: &'static str,
    algorithm: SigningAlgorithm,
    signing: &'static EcdsaSigningAlgorithm,
    curve: &str,
) -> TokenKind {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(signing, &random).expect("a key");
    let pair = EcdsaKeyPair::from_pkcs8(signing, pkcs8.as_ref(), &random).expect("a key");
    let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let jwk = json!({ "kty": "EC", "crv": curve, "kid": "k", "x": x, "y": y });
    let text = message(json!({ "alg": name, "kid": "k" }));
    let signature = pair.sign(&random, text.as_bytes()).expect("a signature");
    (name, algorithm, set(&jwk), format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn set(jwk: &Value) -> KeySet {
    KeySet::read(&json!({ "keys": [jwk] }).to_string(), &SigningAlgorithm::ALL).expect("a key")
}
