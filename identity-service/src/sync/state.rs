//! The sealed state that travels with a browser to the vendor and back.
//!
//! It takes the place of `aid` and `pipeline_key`, which the specification's example puts in the callback in
//! clear: they would sit in every vendor's logs and let anyone write an ID into a person's identity.

use migrations::sealed::SealKeys;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{auth::sealed_token::Sealer, clock, identifiers};

/// Longest time that a browser may take to the vendor and back.
pub const LIFETIME: Duration = Duration::minutes(10);
/// Largest lead of a state's time over our clock: the clocks of our own instances differ by less.
const MAX_SKEW: Duration = Duration::seconds(30);
/// Longest sealed text: the longest vendor name and anonymous ID make 270 characters.
pub const MAX_CHARS: usize = 300;

/// The content of a sealed state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncState {
    /// The pipeline key that the sync began with, which says whose data it may touch: revoked meanwhile, it opens
    /// nothing.
    pub key: Uuid,
    /// Name of the vendor.
    pub vendor: String,
    /// The browser, 1 to 128 bytes.
    pub anonymous_id: String,
    /// Time at which the browser was sent off, to the millisecond.
    pub issued_at: OffsetDateTime,
}

/// Reason for not accepting a state. For a log line; the outside learns only `bad_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadState {
    /// Not one of ours, or changed.
    Forged,
    /// Older than ten minutes, or from the future.
    Expired,
}

/// Seals and opens the states of syncs.
pub struct StateKeys(Sealer);

impl StateKeys {
    /// Derives the sealing keys from `keys`; states sealed under the previous one still open.
    pub fn derive(keys: &SealKeys) -> Self {
        Self(Sealer::derive(keys, "sync-state-v1"))
    }

    /// The state as URL-safe text of at most [`MAX_CHARS`] characters; none where the anonymous ID or the
    /// vendor's name is too long, or the cipher fails.
    pub fn seal(&self, state: &SyncState) -> Option<String> {
        if state.anonymous_id.len() > identifiers::MAX_BROWSER_BYTES {
            return None;
        }
        let mut plain = Vec::with_capacity(192);
        plain.extend_from_slice(state.key.as_bytes());
        plain.extend_from_slice(&clock::unix_ms(state.issued_at).to_be_bytes());
        plain.push(u8::try_from(state.vendor.len()).ok()?);
        plain.extend_from_slice(state.vendor.as_bytes());
        plain.extend_from_slice(state.anonymous_id.as_bytes());

        let text = self.0.seal(&plain)?;
        (text.len() <= MAX_CHARS).then_some(text)
    }

    /// Opens a state that is valid at `now`.
    pub fn open(&self, text: &str, now: OffsetDateTime) -> Result<SyncState, BadState> {
        let state = self.unseal(text).ok_or(BadState::Forged)?;
        if now - state.issued_at > LIFETIME || state.issued_at - now > MAX_SKEW {
            return Err(BadState::Expired);
        }
        Ok(state)
    }

    fn unseal(&self, text: &str) -> Option<SyncState> {
        if text.len() > MAX_CHARS {
            return None;
        }
        let plain = self.0.open(text)?;
        let (key, rest) = plain.split_at_checked(16)?;
        let (issued, rest) = rest.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first()?;
        let (vendor, anonymous_id) = rest.split_at_checked(usize::from(*length))?;
        Some(SyncState {
            key: Uuid::from_slice(key).ok()?,
            vendor: str::from_utf8(vendor).ok()?.to_owned(),
            anonymous_id: str::from_utf8(anonymous_id).ok()?.to_owned(),
            issued_at: clock::from_unix_ms(i64::from_be_bytes(*issued))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use migrations::sealed::SealKey;
    use proptest::prelude::*;
    use secrecy::SecretString;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);

    fn key(byte: &str) -> SealKey {
        SealKey::from_hex(&SecretString::from(byte.repeat(32))).unwrap()
    }

    fn state(anonymous_id: &str, vendor: &str) -> SyncState {
        SyncState {
            key: Uuid::from_u128(1),
            vendor: vendor.to_owned(),
            anonymous_id: anonymous_id.to_owned(),
            issued_at: NOW,
        }
    }

    #[test]
    fn the_longest_state_fits() {
        let keys = StateKeys::derive(&SealKeys::new(key("11"), None));
        let longest = state(&"a".repeat(128), &"v".repeat(16));
        let text = keys.seal(&longest).unwrap();
        assert!(text.len() <= MAX_CHARS, "{}", text.len());
        assert_eq!(keys.open(&text, NOW), Ok(longest));
        assert_eq!(keys.seal(&state(&"a".repeat(129), "criteo")), None);
    }

    #[test]
    fn it_lives_ten_minutes() {
        let keys = StateKeys::derive(&SealKeys::new(key("11"), None));
        let text = keys.seal(&state("a", "criteo")).unwrap();
        assert!(keys.open(&text, NOW + LIFETIME).is_ok());
        assert_eq!(keys.open(&text, NOW + LIFETIME + Duration::milliseconds(1)), Err(BadState::Expired));
        assert_eq!(keys.open(&text, NOW - Duration::minutes(1)), Err(BadState::Expired));
    }

    #[test]
    fn the_previous_key_opens_another_does_not() {
        let text = StateKeys::derive(&SealKeys::new(key("11"), None)).seal(&state("a", "criteo")).unwrap();
        let rotated = StateKeys::derive(&SealKeys::new(key("22"), Some(key("11"))));
        assert!(rotated.open(&text, NOW).is_ok());
        let foreign = StateKeys::derive(&SealKeys::new(key("22"), None));
        assert_eq!(foreign.open(&text, NOW), Err(BadState::Forged));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_refused(anonymous_id in "[ -~]{1,128}", at: prop::sample::Index, bit in 0_u8..8) {
            let keys = StateKeys::derive(&SealKeys::new(key("11"), None));
            let text = keys.seal(&state(&anonymous_id, "criteo")).unwrap();
            prop_assert!(!text.contains(&anonymous_id) || anonymous_id.len() < 4);
            let mut bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(keys.open(&URL_SAFE_NO_PAD.encode(bytes), NOW), Err(BadState::Forged));
        }

        #[test]
        fn any_text_is_refused_without_a_panic(text in ".{0,400}") {
            let keys = StateKeys::derive(&SealKeys::new(key("11"), None));
            prop_assert_eq!(keys.open(&text, NOW), Err(BadState::Forged));
        }
    }
}
