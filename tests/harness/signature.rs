//! The signature of a customer's server.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Value of `X-Datafly-Signature` for a text.
pub fn sign(secret: &str, text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}
