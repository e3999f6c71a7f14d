//! Sealing of events: AES-256-GCM under a key of the source and the day (HKDF-SHA256, RFC 5869), so that each key seals
//! far fewer than 2^32 values, bound to the place of the event, so that none opens anywhere else.
//!
//! `version 1 B | key id 4 B | nonce 12 B | ciphertext | tag 16 B`, key id = that of the encryption key behind it.

use std::sync::Arc;

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Generate, Payload},
};
use hkdf::Hkdf;
use migrations::sealed::{KeyId, SealKeys};
use quick_cache::sync::Cache;
use sha2::Sha256;
use time::Date;
use uuid::Uuid;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const HEADER: usize = 5;
const NONCE: usize = 12;
/// Text that keys for the log are derived with.
const INFO: &[u8] = b"event-log-v1";
/// Keys of sources and days that are remembered.
const MAX_CIPHERS: usize = 1024;

/// The place of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The organisation whose data it is.
    pub org: Uuid,
    /// The source that it came by.
    pub source: Uuid,
    /// The ID of the event.
    pub event: Uuid,
    /// The day of its arrival, in UTC.
    pub day: Date,
}

/// The reason why something does not open. It tells nothing about the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is too short, or of an unknown version.
    #[error("not a sealed event")]
    Malformed,
    /// It was sealed with a key that is not configured.
    #[error("sealed with an unknown key")]
    UnknownKey,
    /// It is damaged, or was moved from another place.
    #[error("does not open here")]
    Refused,
}

/// The keys that seal and open events, derived from the encryption keys.
pub struct LogKeys {
    keys: Arc<SealKeys>,
    ciphers: Cache<(KeyId, Uuid, Date), Arc<Aes256Gcm>>,
}

/// The cipher of one source and day.
pub struct Cipher {
    id: KeyId,
    cipher: Arc<Aes256Gcm>,
}

impl LogKeys {
    /// Keys that are derived from `keys`.
    pub fn derive(keys: Arc<SealKeys>) -> Self {
        Self { keys, ciphers: Cache::new(MAX_CIPHERS) }
    }

    /// The cipher that seals what arrives at a source on a day.
    pub fn cipher(&self, source: Uuid, day: Date) -> Cipher {
        let key = self.keys.current();
        Cipher { id: key.id(), cipher: self.of(key.id(), key.expose(), source, day) }
    }

    /// Opens what was sealed for `place`, with whichever configured key sealed it.
    pub fn open(&self, place: Place, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (header, rest) = sealed.split_at_checked(HEADER).ok_or(OpenError::Malformed)?;
        let (nonce, body) = rest.split_at_checked(NONCE).ok_or(OpenError::Malformed)?;
        let [VERSION, id @ ..] = header else { return Err(OpenError::Malformed) };
        let id = KeyId::try_from(id).map_err(|_| OpenError::Malformed)?;
        let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| OpenError::Malformed)?;
        let key = self.keys.by_id(id).ok_or(OpenError::UnknownKey)?;
        let cipher = self.of(id, key.expose(), place.source, place.day);
        let aad = associated_data(id, place);
        let opened = cipher.decrypt(&nonce.into(), Payload { msg: body, aad: &aad });
        opened.map(Zeroizing::new).map_err(|_| OpenError::Refused)
    }

    fn of(&self, id: KeyId, secret: &[u8; 32], source: Uuid, day: Date) -> Arc<Aes256Gcm> {
        let made = self.ciphers.get_or_insert_with(&(id, source, day), || {
            let mut key = Zeroizing::new([0_u8; 32]);
            let info = [INFO, source.as_bytes(), &day.to_julian_day().to_be_bytes()];
            #[expect(clippy::expect_used, reason = "HKDF refuses only keys of over 8,160 bytes")]
            Hkdf::<Sha256>::new(None, secret).expand_multi_info(&info, &mut *key).expect("32 bytes");
            Ok::<_, std::convert::Infallible>(Arc::new(Aes256Gcm::new((&*key).into())))
        });
        let Ok(cipher) = made;
        cipher
    }
}

impl Cipher {
    /// Seals `plain` for `place`, which has to be of the cipher's source and day.
    pub fn seal(&self, place: Place, plain: &[u8]) -> Vec<u8> {
        let aad = associated_data(self.id, place);
        let nonce = Nonce::generate();
        #[expect(clippy::expect_used, reason = "AES-GCM refuses only texts of over 64 GiB")]
        let body = self.cipher.encrypt(&nonce, Payload { msg: plain, aad: &aad }).expect("a short text");
        let mut sealed = Vec::with_capacity(HEADER + NONCE + body.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&body);
        sealed
    }
}

/// Header, organisation, source, event and day: all of one length, so that no two places look alike.
fn associated_data(id: KeyId, place: Place) -> Vec<u8> {
    let day = place.day.to_julian_day().to_be_bytes();
    let parts: [&[u8]; 6] =
        [&[VERSION], &id, place.org.as_bytes(), place.source.as_bytes(), place.event.as_bytes(), &day];
    parts.concat()
}

#[cfg(test)]
mod tests {
    use migrations::sealed::SealKey;
    use proptest::prelude::*;
    use time::macros::date;

    use super::*;

    fn keys(current: u8, previous: Option<u8>) -> LogKeys {
        let key = |byte: u8| SealKey::from_hex(&hex(byte).into()).unwrap();
        LogKeys::derive(Arc::new(SealKeys::new(key(current), previous.map(key))))
    }

    fn hex(byte: u8) -> String {
        format!("{byte:02x}").repeat(32)
    }

    fn place() -> Place {
        let id = Uuid::from_u128;
        Place { org: id(1), source: id(2), event: id(3), day: date!(2026 - 11 - 30) }
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_in_its_place_alone(plain in proptest::collection::vec(any::<u8>(), 0..200), at in any::<proptest::sample::Index>()) {
            let log = keys(1, None);
            let place = place();
            let sealed = log.cipher(place.source, place.day).seal(place, &plain);
            prop_assert_eq!(&*log.open(place, &sealed).unwrap(), &plain);
            let other = Uuid::from_u128(9);
            for moved in [
                Place { org: other, ..place },
                Place { source: other, ..place },
                Place { event: other, ..place },
                Place { day: date!(2026 - 12 - 01), ..place },
            ] {
                prop_assert_eq!(log.open(moved, &sealed), Err(OpenError::Refused));
            }
            let mut broken = sealed.clone();
            let at = at.index(broken.len());
            broken[at] ^= 1;
            prop_assert!(log.open(place, &broken).is_err());
            prop_assert!(log.open(place, &sealed[..at]).is_err());
        }
    }

    #[test]
    fn the_previous_key_opens_and_another_does_not() {
        let place = place();
        let sealed = keys(1, None).cipher(place.source, place.day).seal(place, b"x");
        assert_eq!(&*keys(2, Some(1)).open(place, &sealed).unwrap(), b"x");
        assert_eq!(keys(2, None).open(place, &sealed), Err(OpenError::UnknownKey));
        let moved = Place { source: Uuid::from_u128(9), ..place };
        assert_eq!(keys(2, Some(1)).open(moved, &sealed), Err(OpenError::Refused));
    }
}
