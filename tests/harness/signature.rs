//! Signatures and hashes that a customer's server makes with its secret.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

/// Value of `X-Datafly-Signature` for a text.
pub fn sign(secret: &str, text: &str) -> String {
    sign_bytes(secret, text.as_bytes())
}

/// Value of `X-Datafly-Signature` for a body that is no text.
pub fn sign_bytes(secret: &str, body: &[u8]) -> String {
    format!("sha256={}", hex::encode(mac(secret, body)))
}

/// Value of `context.userHash`, which vouches for a user ID.
pub fn user_hash(secret: &str, user_id: &str) -> String {
    hmac(secret, &format!("user:{user_id}"))
}

/// Value of `context.identityToken`: a JWT with these claims.
pub fn identity_token(secret: &str, claims: &Value) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(&claims.to_string()));
    let tag = URL_SAFE_NO_PAD.encode(mac(secret, signed.as_bytes()));
    format!("{signed}.{tag}")
}

/// HMAC-SHA256 of a text, in hex.
pub fn hmac(secret: &str, text: &str) -> String {
    hex::encode(mac(secret, text.as_bytes()))
}

fn mac(secret: &str, bytes: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(bytes);
    mac.finalize().into_bytes().to_vec()
}
