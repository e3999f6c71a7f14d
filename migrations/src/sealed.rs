//! The sealed column: AES-256-GCM with the key's ID in the header and the place it lives in as associated
//! data, so that a blob moved to another row, column, table or organisation does not open.
//!
//! `version 1 B | key id 4 B | nonce 12 B | ciphertext | tag 16 B`, key id = first 4 bytes of SHA-256 of the
//! key (design section 6). Keys are found by ID; none is tried blindly, as GCM does not commit to its key.

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Generate, Payload},
};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const HEADER: usize = 5;
const NONCE: usize = 12;

/// ID of a key: the first 4 bytes of its SHA-256.
pub type KeyId = [u8; 4];

/// One 256-bit key.
pub struct SealKey {
    id: KeyId,
    bytes: SecretBox<[u8; 32]>,
}

/// The key that seals, and the previous one, which still opens.
pub struct SealKeys {
    current: SealKey,
    previous: Option<SealKey>,
}

/// The place a sealed value belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The organisation.
    pub org: Uuid,
    /// Table name.
    pub table: &'a str,
    /// The row's ID.
    pub row: Uuid,
    /// Column name.
    pub column: &'a str,
}

/// Why a value was not sealed or opened. Tells nothing about the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not 32 bytes as 64 hex digits.
    #[error("must be 32 bytes as 64 hex digits")]
    BadKey,
    /// Too short, or of an unknown version.
    #[error("not a sealed value")]
    Malformed,
    /// Sealed with a key that is not configured.
    #[error("sealed with an unknown key")]
    UnknownKey,
    /// Damaged, or moved from another place.
    #[error("does not open here")]
    Refused,
}

impl SealKey {
    /// Reads a key of 64 hex digits.
    pub fn from_hex(text: &SecretString) -> Result<Self, SealError> {
        let mut bytes = Box::new([0_u8; 32]);
        hex::decode_to_slice(text.expose_secret(), bytes.as_mut_slice()).map_err(|_| SealError::BadKey)?;
        let digest: [u8; 32] = Sha256::digest(bytes.as_slice()).into();
        let [a, b, c, d, ..] = digest;
        Ok(Self { id: [a, b, c, d], bytes: SecretBox::new(bytes) })
    }

    /// The key's public ID.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key itself, to derive others from.
    pub fn expose(&self) -> &[u8; 32] {
        self.bytes.expose_secret()
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(self.bytes.expose_secret().into())
    }
}

impl SealKeys {
    /// Keys to seal with and to open with.
    pub fn new(current: SealKey, previous: Option<SealKey>) -> Self {
        Self { current, previous }
    }

    /// The key that seals now.
    pub fn current(&self) -> &SealKey {
        &self.current
    }

    /// The key that still opens.
    pub fn previous(&self) -> Option<&SealKey> {
        self.previous.as_ref()
    }

    /// The key of that ID, current or previous.
    pub fn by_id(&self, id: KeyId) -> Option<&SealKey> {
        [Some(&self.current), self.previous.as_ref()].into_iter().flatten().find(|key| key.id == id)
    }

    /// Seals `plain` for `place` under the current key.
    pub fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut sealed = vec![VERSION];
        sealed.extend_from_slice(&self.current.id);
        let aad = associated_data(&sealed, place);
        let nonce = Nonce::generate();
        let body = self
            .current
            .cipher()
            .encrypt(&nonce, Payload { msg: plain, aad: &aad })
            .map_err(|_| SealError::Refused)?;
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// Opens what was sealed for `place`, with whichever configured key sealed it.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (header, rest) = sealed.split_at_checked(HEADER).ok_or(SealError::Malformed)?;
        let (nonce, body) = rest.split_at_checked(NONCE).ok_or(SealError::Malformed)?;
        let [VERSION, id @ ..] = header else { return Err(SealError::Malformed) };
        let id = KeyId::try_from(id).map_err(|_| SealError::Malformed)?;
        let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| SealError::Malformed)?;
        let key = self.by_id(id).ok_or(SealError::UnknownKey)?;
        let aad = associated_data(header, place);
        key.cipher()
            .decrypt(&nonce.into(), Payload { msg: body, aad: &aad })
            .map(Zeroizing::new)
            .map_err(|_| SealError::Refused)
    }
}

/// Header, organisation, table, row and column, each with its length, so that no two places look alike.
fn associated_data(header: &[u8], place: Place<'_>) -> Vec<u8> {
    let parts: [&[u8]; 5] =
        [header, place.org.as_bytes(), place.table.as_bytes(), place.row.as_bytes(), place.column.as_bytes()];
    let mut aad = Vec::with_capacity(96);
    for part in parts {
        aad.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        aad.extend_from_slice(part);
    }
    aad
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: &str) -> SealKey {
        SealKey::from_hex(&SecretString::from(byte.repeat(32))).unwrap()
    }

    fn place(org: u128, table: &'static str, row: u128, column: &'static str) -> Place<'static> {
        Place { org: Uuid::from_u128(org), table, row: Uuid::from_u128(row), column }
    }

    #[test]
    fn keys_are_64_hex_digits() {
        for bad in ["", "00", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64)] {
            assert_eq!(SealKey::from_hex(&SecretString::from(bad)).err(), Some(SealError::BadKey), "{bad}");
        }
    }

    #[test]
    fn the_previous_key_still_opens_and_a_third_does_not() {
        let here = place(1, "t", 2, "c");
        let sealed = SealKeys::new(key("11"), None).seal(here, b"secret").unwrap();
        let rotated = SealKeys::new(key("22"), Some(key("11")));
        assert_eq!(rotated.open(here, &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(SealKeys::new(key("22"), None).open(here, &sealed), Err(SealError::UnknownKey));
    }

    #[test]
    fn a_moved_value_does_not_open() {
        let keys = SealKeys::new(key("11"), None);
        let sealed = keys.seal(place(1, "table", 2, "column"), b"secret").unwrap();
        for elsewhere in [
            place(9, "table", 2, "column"),
            place(1, "other", 2, "column"),
            place(1, "table", 9, "column"),
            place(1, "table", 2, "other"),
            place(1, "tablec", 2, "olumn"),
        ] {
            assert_eq!(keys.open(elsewhere, &sealed), Err(SealError::Refused), "{elsewhere:?}");
        }
    }

    proptest! {
        #[test]
        fn opens_what_was_sealed_and_no_changed_byte(plain: Vec<u8>, at: prop::sample::Index, flip in 1_u8..) {
            let keys = SealKeys::new(key("11"), None);
            let here = place(1, "t", 2, "c");
            let mut sealed = keys.seal(here, &plain).unwrap();
            let opened = keys.open(here, &sealed).unwrap();
            prop_assert_eq!(opened.as_slice(), plain.as_slice());
            let at = at.index(sealed.len());
            sealed[at] ^= flip;
            prop_assert!(keys.open(here, &sealed).is_err());
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
            prop_assert!(SealKeys::new(key("11"), None).open(place(1, "t", 2, "c"), &bytes).is_err());
        }
    }
}
