//! Tokens and keys, from whoever sends them.

use fanline::identity::keys::algorithm::SigningAlgorithm;
use fanline::identity::keys::key::VerificationKey;
use fanline::identity::keys::key_set::{KeySet, SignatureVerdict};
use fanline::identity::token::claims::Claims;
use fanline::identity::token::jws::Jws;

/// The first byte chooses: a token, the payload of a token, or a set of keys. A token has one text: another one with the
/// same bytes is refused, whatever is changed in it is not signed, and dates stay within what a number holds.
pub fn token(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match kind % 3 {
        0 => {
            let Ok(jws) = Jws::read(text) else { return };
            assert_eq!(text.matches('.').count(), 2);
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{text}");
            let keys = KeySet::of_secrets(vec![VerificationKey::of_secret(b"nobody knows this", None)]);
            for algorithm in SigningAlgorithm::ALL {
                let verdict = keys.verify(algorithm, jws.key_id.as_deref(), jws.message, &jws.signature, 0);
                assert_ne!(verdict, SignatureVerdict::Good, "{text}");
            }
            check_claims(&jws.payload);
        }
        1 => {
            if let Ok(serde_json::Value::Object(payload)) = serde_json::from_str(text) {
                check_claims(&payload);
            }
        }
        _ => {
            if let Ok(keys) = KeySet::read(text, &SigningAlgorithm::ALL) {
                assert!((1..=100).contains(&keys.count()));
                for algorithm in SigningAlgorithm::ALL {
                    assert_ne!(keys.verify(algorithm, None, b"message", &[1; 64], 0), SignatureVerdict::Good);
                }
            }
        }
    }
}

fn check_claims(payload: &serde_json::Map<String, serde_json::Value>) {
    for claim in ["fanline", "/a/b"] {
        let Ok(claims) = Claims::read(payload, claim) else { continue };
        assert!(!claims.subject.is_empty() && !claims.subject.contains(char::is_control));
        assert!(claims.issued_ms <= (1 << 53) * 1000 && claims.expires_ms <= (1 << 53) * 1000);
    }
}
