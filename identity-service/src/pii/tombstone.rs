//! Remains of people who were erased: digests under a key of the organisation's, which only recognise an
//! identifier that is shown again.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use migrations::sealed::{SealKey, SealKeys};
use secrecy::{ExposeSecret, SecretBox};
use sha2::Sha256;
use uuid::{Builder, Uuid};

use super::Digest;
use crate::identifiers::Identifier;

const INFO: &[u8] = b"erasure-v1";

/// A key of the digests of one organisation.
pub struct OrgKey(SecretBox<[u8; 32]>);

impl OrgKey {
    /// The key of these bytes; none where they are not 32.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(SecretBox::new(Box::new(bytes.try_into().ok()?))))
    }

    /// The key itself, to be sealed.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose_secret()
    }

    /// The key's ID, by which it is stored once.
    pub fn id(&self) -> Uuid {
        let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = mac(self.expose(), &[b"id"]);
        Builder::from_random_bytes(first).into_uuid()
    }

    fn digest(&self, id: &Identifier) -> Digest {
        mac(self.expose(), &[id.kind.word().as_bytes(), b"\0", id.value.as_bytes()])
    }
}

/// The keys of digests. An organisation's first key is derived from the encryption key, and stored with its first
/// tombstone: from then on it stays, whatever becomes of the encryption key.
pub struct TombstoneKeys {
    /// Keys that those of organisations are derived from, the current encryption key's first.
    derived: Vec<SecretBox<[u8; 32]>>,
    /// Stored keys of organisations, the oldest first.
    stored: RwLock<HashMap<Uuid, Vec<OrgKey>>>,
}

impl TombstoneKeys {
    /// Derives one key from each of `keys`, the current one first.
    pub fn derive(keys: &SealKeys) -> Self {
        let derived = [Some(keys.current()), keys.previous()].into_iter().flatten().map(derived).collect();
        Self { derived, stored: RwLock::default() }
    }

    /// The keys of an organisation that has none stored, the current encryption key's first.
    pub fn derived(&self, org: Uuid) -> Vec<OrgKey> {
        let own = |key: &SecretBox<[u8; 32]>| mac(key.expose_secret(), &[org.as_bytes()]);
        self.derived.iter().map(|key| OrgKey(SecretBox::new(Box::new(own(key))))).collect()
    }

    /// Takes the stored keys of an organisation, the oldest first.
    pub fn take(&self, org: Uuid, keys: Vec<OrgKey>) {
        self.stored.write().unwrap_or_else(PoisonError::into_inner).insert(org, keys);
    }

    /// True where a key of the organisation is known to be stored.
    pub fn has_stored(&self, org: Uuid) -> bool {
        let stored = self.stored.read().unwrap_or_else(PoisonError::into_inner);
        stored.get(&org).is_some_and(|keys| !keys.is_empty())
    }

    /// The digests under which an identifier may be found; the first is the one to store. Until a stored key is known
    /// on every core, and for what was erased before there were any, those of derived keys count too.
    pub fn digests(&self, org: Uuid, id: &Identifier) -> Vec<Digest> {
        let stored = self.stored.read().unwrap_or_else(PoisonError::into_inner);
        let mut digests: Vec<Digest> = Vec::with_capacity(3);
        for key in stored.get(&org).into_iter().flatten().chain(&self.derived(org)) {
            let digest = key.digest(id);
            if !digests.contains(&digest) {
                digests.push(digest);
            }
        }
        digests
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

    #[test]
    fn a_stored_key_comes_first_and_outlives_the_key_that_it_was_derived_from() {
        let key = |byte: &str| SealKey::from_hex(&SecretString::from(byte.repeat(32))).unwrap();
        let old = TombstoneKeys::derive(&SealKeys::new(key("11"), None));
        let new = TombstoneKeys::derive(&SealKeys::new(key("22"), None));
        let (org, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let anna = Identifier { kind: Kind::UserId, value: "anna".to_owned() };
        let erased = old.digests(org, &anna);
        assert!(!new.digests(org, &anna).contains(&erased[0]));
        let stored = old.derived(org).remove(0);
        assert_eq!(stored.id(), old.derived(org)[0].id());
        assert_ne!(stored.id(), new.derived(org)[0].id());
        let read = OrgKey::from_bytes(stored.expose()).unwrap();
        for keys in [&old, &new] {
            assert!(!keys.has_stored(org));
            keys.take(org, vec![OrgKey::from_bytes(read.expose()).unwrap()]);
            assert!(keys.has_stored(org) && !keys.has_stored(other));
            assert_eq!(keys.digests(org, &anna).first(), erased.first());
        }
        assert_eq!((old.digests(org, &anna).len(), new.digests(org, &anna).len()), (1, 2));
        assert!(OrgKey::from_bytes(b"short").is_none());
    }
}
