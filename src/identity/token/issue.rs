//! Making tokens, for development: an issuer of one secret.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Map, Value, json};

/// The claims of a token to be made.
#[derive(Clone, Debug)]
pub struct TokenOrder {
    pub issuer: String,
    pub audience: String,
    pub subject: String,
    /// Members of the claim `fanline`.
    pub rights: Map<String, Value>,
    pub life: Duration,
}

/// An HS256 token of this secret, issued `now_ms` after the Unix epoch.
pub fn issue(secret: &[u8], order: &TokenOrder, now_ms: u64) -> String {
    let now = now_ms / 1000;
    let mut claims = json!({
        "iss": order.issuer,
        "aud": order.audience,
        "sub": order.subject,
        "iat": now,
        "exp": now.saturating_add(order.life.as_secs()),
        "jti": hex::encode(rand::random::<[u8; 16]>()),
    });
    if !order.rights.is_empty() {
        claims["fanline"] = Value::Object(order.rights.clone());
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&json!({ "alg": "HS256", "typ": "JWT" })), part(&claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}
