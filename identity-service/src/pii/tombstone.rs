//! Remains of people who were erased: digests under a key of the organisation's, which only recognise an
//! identifier that is shown again.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use migrations::sealed::{SealKey, SealKeys};
use secrecy::{ExposeSecret, SecretBox};
use sha2::Sha256;
use uuid::Uuid;

use super::Digest;
use crate::identifiers::Identifier;

const INFO: &[u8] = b"erasure-v1";

/// The keys of digests, derived from the encryption key and the previous one.
pub struct TombstoneKeys(Vec<SecretBox<[u8; 32]>>);

impl TombstoneKeys {
    /// Derives one key from each of `keys`, the current one first.
    pub fn derive(keys: &SealKeys) -> Self {
        Self([Some(keys.current()), keys.previous()].into_iter().flatten().map(derived).collect())
    }

    /// The digests under which an identifier may be found; the first is the one to store.
    pub fn digests(&self, org: Uuid, id: &Identifier) -> Vec<Digest> {
        let digest = |key: &SecretBox<[u8; 32]>| {
            let own = mac(key.expose_secret(), &[org.as_bytes()]);
            mac(&own, &[id.kind.word().as_bytes(), b"\0", id.value.as_bytes()])
        };
        self.0.iter().map(digest).collect()
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Digest {
    #[expect(
        clippy::expect_used,
        reason = "an all-zero key would recognise nobody, and everybody's digests would be alike"
    )]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn derived(key: &SealKey) -> SecretBox<[u8; 32]> {
    let mut bytes = [0; 32];
    let expanded = Hkdf::<Sha256>::new(None, key.expose()).expand(INFO, &mut bytes);
    #[expect(clippy::expect_used, reason = "another key than the encryption key's would recognise nobody")]
    expanded.expect("HKDF expands to 32 bytes; its bound is 8,160");
    SecretBox::new(Box::new(bytes))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::identifiers::Kind;

    #[test]
    fn digests_differ_by_organisation_kind_value_and_key_and_the_previous_one_is_still_found() {
        let key = |byte: &str| SealKey::from_hex(&SecretString::from(byte.repeat(32))).unwrap();
        let old = TombstoneKeys::derive(&SealKeys::new(key("11"), None));
        let new = TombstoneKeys::derive(&SealKeys::new(key("22"), Some(key("11"))));
        let id = |kind, value: &str| Identifier { kind, value: value.to_owned() };
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let anna = id(Kind::UserId, "anna");
        let all = [
            old.digests(one, &anna),
            old.digests(two, &anna),
            old.digests(one, &id(Kind::AnonymousId, "anna")),
            old.digests(one, &id(Kind::UserId, "bert")),
        ];
        let mut distinct: Vec<&Digest> = all.iter().flatten().collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 4);
        assert_eq!(new.digests(one, &anna).len(), 2);
        assert!(new.digests(one, &anna).contains(&old.digests(one, &anna)[0]));
    }
}
