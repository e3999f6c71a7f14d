//! UID2's envelopes (IABTechLab/uid2docs, gs-encryption-decryption): what goes to an operator and comes back is
//! encrypted with AES-256-GCM, under the client secret; what answers a refresh, under the key that came with the token.

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Payload},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretBox};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const IV: usize = 12;
const NONCE: usize = 8;
const TIME: usize = 8;

/// The number that binds an answer to its request.
pub type RequestNonce = [u8; NONCE];

/// A key of 256 bits.
pub struct Key(SecretBox<[u8; 32]>);

/// The reason why an answer is not what it should be. It tells nothing of the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an envelope for this request")]
pub struct NotAnEnvelope;

impl Key {
    /// Reads a key in base64; none where it is not one of 32 bytes.
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).ok()?);
        let bytes: [u8; 32] = bytes.as_slice().try_into().ok()?;
        Some(Self(SecretBox::new(Box::new(bytes))))
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(self.0.expose_secret().into())
    }
}

/// Writes a request: `version | IV | encrypted (time in ms | nonce | JSON) | tag`, in base64.
pub fn seal(key: &Key, at_ms: i64, nonce: RequestNonce, iv: [u8; IV], json: &[u8]) -> Option<String> {
    let plain = Zeroizing::new([&at_ms.to_be_bytes(), nonce.as_slice(), json].concat());
    let sealed = key.cipher().encrypt(&iv.into(), Payload { msg: &plain, aad: &[] }).ok()?;
    Some(STANDARD.encode([&[VERSION], iv.as_slice(), &sealed].concat()))
}

/// Reads the answer to a request of that nonce: `IV | encrypted (time in ms | nonce | JSON) | tag`, in base64.
pub fn open(key: &Key, nonce: RequestNonce, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotAnEnvelope> {
    let plain = decrypt(key, body)?;
    let rest = plain.get(TIME..).ok_or(NotAnEnvelope)?;
    let json = rest.strip_prefix(nonce.as_slice()).ok_or(NotAnEnvelope)?;
    Ok(Zeroizing::new(json.to_vec()))
}

/// Reads the answer to a refresh: `IV | encrypted JSON | tag`, in base64. It names no request.
pub fn open_refreshed(key: &Key, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotAnEnvelope> {
    decrypt(key, body)
}

fn decrypt(key: &Key, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotAnEnvelope> {
    let sealed = STANDARD.decode(body.trim_ascii()).map_err(|_| NotAnEnvelope)?;
    let (iv, sealed) = sealed.split_at_checked(IV).ok_or(NotAnEnvelope)?;
    let iv: [u8; IV] = iv.try_into().map_err(|_| NotAnEnvelope)?;
    let plain = key.cipher().decrypt(&iv.into(), Payload { msg: sealed, aad: &[] });
    plain.map(Zeroizing::new).map_err(|_| NotAnEnvelope)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Vectors that two public repositories publish with their tests; the file names them.
    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../../fixtures/uid2-vectors.json")).unwrap()
    }

    fn key(of: &Value, name: &str) -> Key {
        Key::from_base64(of[name].as_str().unwrap()).unwrap()
    }

    fn bytes<const N: usize>(of: &Value, name: &str) -> [u8; N] {
        hex::decode(of[name].as_str().unwrap()).unwrap().try_into().unwrap()
    }

    #[test]
    fn requests_are_the_published_ones_byte_for_byte() {
        let vectors = &vectors()["request"];
        let (key, at) = (key(vectors, "secret_b64"), vectors["timestamp_ms"].as_i64().unwrap());
        let cases = vectors["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 6);
        for case in cases {
            let json = case["json"].as_str().unwrap().as_bytes();
            let sealed = seal(&key, at, bytes(vectors, "nonce_hex"), bytes(vectors, "iv_hex"), json).unwrap();
            assert_eq!(sealed, case["envelope_b64"].as_str().unwrap());
        }
    }

    #[test]
    fn published_answers_open_and_nothing_else_does() {
        let vectors = vectors();
        let generated = &vectors["generate_response"];
        let (secret, nonce) = (key(generated, "secret_b64"), bytes(generated, "nonce_hex"));
        let body = generated["response_b64"].as_str().unwrap().as_bytes();
        let json: Value = serde_json::from_slice(&open(&secret, nonce, body).unwrap()).unwrap();
        assert_eq!(json, generated["json"]);
        assert!(open(&secret, [0; 8], body).is_err(), "of another request");

        let refreshed = &vectors["refresh_response"];
        let other = key(refreshed, "refresh_response_key_b64");
        let answer = refreshed["response_b64"].as_str().unwrap().as_bytes();
        let json: Value = serde_json::from_slice(&open_refreshed(&other, answer).unwrap()).unwrap();
        assert_eq!(json, refreshed["json"]);
        assert!(open(&other, nonce, body).is_err(), "under another key");
        for cut in 0..body.len() {
            assert!(open(&secret, nonce, &body[..cut]).is_err(), "{cut}");
        }
        for odd in [&b""[..], b"{}", b"{\"status\":\"success\"}", b"AAAA", b"\xff"] {
            assert!(open(&secret, nonce, odd).is_err() && open_refreshed(&other, odd).is_err());
        }
    }

    #[test]
    fn keys_have_32_bytes() {
        assert!(Key::from_base64(&STANDARD.encode([1; 32])).is_some());
        for bad in ["", "x", &STANDARD.encode([1; 31]), &"ab".repeat(32)] {
            assert!(Key::from_base64(bad).is_none(), "{bad}");
        }
    }
}
