//! Signatures and hashes that a customer's server makes with its secret.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Value of `X-Datafly-Signature` for a text.
pub fn sign(secret: &str, text: &str) -> String {
    format!("sha256={}", hmac(secret, text))
}

/// Value of `context.userHash`, which vouches for a user ID.
pub fn user_hash(secret: &str, user_id: &str) -> String {
    hmac(secret, &format!("user:{user_id}"))
}

/// HMAC-SHA256 of a text, in hex.
pub fn hmac(secret: &str, text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}
