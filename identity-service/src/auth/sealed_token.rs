//! Small sealed texts that travel through browsers, under keys derived from the encryption key, one purpose
//! each. Only we can write or read them.
//!
//! AES-256-GCM-SIV (RFC 8452) and not plain GCM, whose random nonces last for 2^32 texts (NIST SP 800-38D, 8.3): a
//! busy edge sends so many in weeks, and a nonce that comes twice would let others seal. Here it would tell only that
//! two texts are the same, which two with the time in them are not.

use aes_gcm_siv::{
    Aes256GcmSiv, KeyInit, Nonce,
    aead::{Aead, Generate, Payload},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hkdf::Hkdf;
use migrations::sealed::{KeyId, SealKey, SealKeys};
use sha2::Sha256;

const VERSION: u8 = 1;
const HEADER: usize = 5;
const NONCE: usize = 12;

/// Seals and opens texts of one purpose: `version 1 B | key id 4 B | nonce 12 B | ciphertext | tag 16 B`.
pub struct Sealer {
    current: (KeyId, Aes256GcmSiv),
    previous: Option<(KeyId, Aes256GcmSiv)>,
}

impl Sealer {
    /// Derives the keys of `keys` for `purpose`; the previous one still opens.
    pub fn derive(keys: &SealKeys, purpose: &'static str) -> Self {
        let derived = |key| derived(key, purpose);
        Self { current: derived(keys.current()), previous: keys.previous().map(derived) }
    }

    /// Seals `plain` as URL-safe text; none where the cipher fails.
    pub fn seal(&self, plain: &[u8]) -> Option<String> {
        let (id, cipher) = &self.current;
        let mut sealed = vec![VERSION];
        sealed.extend_from_slice(id);
        let nonce = Nonce::generate();
        let body = cipher.encrypt(&nonce, Payload { msg: plain, aad: &sealed }).ok()?;
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&body);
        Some(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Opens a sealed text; none where it is none of ours for this purpose.
    pub fn open(&self, text: &str) -> Option<Vec<u8>> {
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (header, rest) = sealed.split_at_checked(HEADER)?;
        let (nonce, body) = rest.split_at_checked(NONCE)?;
        let [VERSION, id @ ..] = header else { return None };
        let (_, cipher) =
            [Some(&self.current), self.previous.as_ref()].into_iter().flatten().find(|(own, _)| own == id)?;
        let nonce: [u8; NONCE] = nonce.try_into().ok()?;
        cipher.decrypt(&nonce.into(), Payload { msg: body, aad: header }).ok()
    }
}

fn derived(key: &SealKey, purpose: &str) -> (KeyId, Aes256GcmSiv) {
    let mut bytes = [0; 32];
    let expanded = Hkdf::<Sha256>::new(None, key.expose()).expand(purpose.as_bytes(), &mut bytes);
    #[expect(
        clippy::expect_used,
        reason = "another key than the encryption key's would open no other core's tokens"
    )]
    expanded.expect("HKDF expands to 32 bytes; its bound is 8,160");
    (key.id(), Aes256GcmSiv::new(&bytes.into()))
}
