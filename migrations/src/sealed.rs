//! The sealed column: AES-256-GCM with the key's ID in the header and the place it lives in as associated
//! data, so that a blob moved to another row, column, table or organisation does not open.
//!
//! `version 1 B | key id 4 B | nonce 12 B | ciphertext | tag 16 B`, key id = first 4 bytes of SHA-256 of the
//! key. Keys are found by ID; none is tried blindly, as GCM does not commit to its key.

pub mod audience;
pub mod columns;
mod counted;

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Generate, Payload},
};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

pub use self::counted::{CountedError, MOST_SEALINGS, count};

const VERSION: u8 = 1;
const HEADER: usize = 5;
const NONCE: usize = 12;

/// ID of a key: the first 4 bytes of its SHA-256.
pub type KeyId = [u8; 4];

/// A key of 256 bits, with its ID.
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
    /// The organisation that owns the row.
    pub org: Uuid,
    /// Name of the table.
    pub table: &'a str,
    /// ID of the row.
    pub row: Uuid,
    /// Name of the column.
    pub column: &'a str,
}

/// Reason for which a value was not sealed or opened. It tells nothing about the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key is not 32 bytes as 64 hex digits.
    #[error("must be 32 bytes as 64 hex digits")]
    BadKey,
    /// The key is one byte over and over, as nobody's random key is.
    #[error("must be random, and is one byte over and over")]
    ChosenKey,
    /// The value is too short, or of an unknown version.
    #[error("not a sealed value")]
    Malformed,
    /// The value was sealed with a key that is not configured.
    #[error("sealed with an unknown key")]
    UnknownKey,
    /// The value is damaged, or was moved from another place.
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

    /// Reads a key that is to seal from now on, which has to be random: one byte over and over is a
    /// placeholder that somebody forgot, and is refused.
    pub fn random_from_hex(text: &SecretString) -> Result<Self, SealError> {
        let key = Self::from_hex(text)?;
        let [first, rest @ ..] = key.expose();
        if rest.iter().all(|byte| byte == first) { Err(SealError::ChosenKey) } else { Ok(key) }
    }

    /// The key's public ID.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key itself, to derive others from.
    pub fn expose(&self) -> &[u8; 32] {
        self.bytes.expose_secret()
    }

    /// Checks that the key opens what it seals.
    pub fn works(&self) -> bool {
        let nonce = Nonce::generate();
        let sealed = self.cipher().encrypt(&nonce, b"works".as_slice());
        sealed
            .and_then(|sealed| self.cipher().decrypt(&nonce, sealed.as_slice()))
            .is_ok_and(|opened| opened == b"works")
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(self.bytes.expose_secret().into())
    }
}

impl SealKeys {
    /// The variables that have the two keys, the current one first.
    pub const VARIABLES: [&'static str; 2] = ["DATAFLY_ENCRYPTION_KEY", "DATAFLY_ENCRYPTION_KEY_PREVIOUS"];

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

    /// Seals `plain` for `place` under the current key. What is stored has to be counted: see
    /// [`Self::seal_counted`].
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

/// ID of the key that sealed a value; none where it is too short to say.
pub fn key_id(sealed: &[u8]) -> Option<KeyId> {
    let (header, _) = sealed.split_at_checked(HEADER)?;
    let [_, id @ ..] = header else { return None };
    id.try_into().ok()
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
mod tests;
