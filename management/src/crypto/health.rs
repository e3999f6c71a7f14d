//! Health of the encryption keys. They are what they are for the life of a process, so they are tried once.

use migrations::sealed::{Place, SealKeys};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// State of the encryption keys of the process that answers. All but `status` is for those alone who may rotate.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Health {
    /// `healthy`, or `degraded`: a check below is false.
    status: &'static str,
    /// True where there is a previous key, which still opens.
    #[serde(skip_serializing_if = "Option::is_none")]
    dual_key_mode: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Checks>,
    /// ID of the key that seals: the first 4 bytes of its SHA-256, as hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
struct Checks {
    /// The current key works: it seals and opens.
    key_valid: bool,
    /// A value that is sealed as settings are opens in its place, and in no other.
    round_trip: bool,
    /// The previous key works, and is another one. Null: there is none.
    previous_key_valid: Option<bool>,
}

impl Health {
    /// Tries the keys, and notes what does not work.
    pub fn of(keys: &SealKeys) -> Self {
        let checks = Checks {
            key_valid: keys.current().works(),
            round_trip: round_trip(keys),
            previous_key_valid: keys.previous().map(|key| key.works() && key.id() != keys.current().id()),
        };
        let well = checks.key_valid && checks.round_trip && checks.previous_key_valid != Some(false);
        Self {
            status: if well { "healthy" } else { "degraded" },
            dual_key_mode: Some(keys.previous().is_some()),
            checks: Some(checks),
            key_id: Some(hex::encode(keys.current().id())),
        }
    }

    /// The bare state, without the details.
    pub fn bare(&self) -> Self {
        Self { status: self.status, dual_key_mode: None, checks: None, key_id: None }
    }

    /// True where no check has failed.
    pub fn is_well(&self) -> bool {
        self.status == "healthy"
    }
}

fn round_trip(keys: &SealKeys) -> bool {
    let here = Place { org: Uuid::nil(), table: "health", row: Uuid::nil(), column: "sealed" };
    let elsewhere = Place { row: Uuid::max(), ..here };
    keys.seal(here, b"round trip").is_ok_and(|sealed| {
        keys.open(here, &sealed).is_ok_and(|opened| opened.as_slice() == b"round trip")
            && keys.open(elsewhere, &sealed).is_err()
    })
}

#[cfg(test)]
mod tests {
    use migrations::sealed::SealKey;
    use secrecy::SecretString;

    use super::*;

    fn health(current: &str, previous: Option<&str>) -> Health {
        let key = |byte: &str| SealKey::from_hex(&SecretString::from(byte.repeat(32))).unwrap();
        Health::of(&SealKeys::new(key(current), previous.map(key)))
    }

    #[test]
    fn two_keys_are_two() {
        let one = health("11", None);
        let previous = |health: &Health| health.checks.as_ref().unwrap().previous_key_valid;
        assert_eq!((one.status, one.dual_key_mode, previous(&one)), ("healthy", Some(false), None));
        let two = health("11", Some("22"));
        assert_eq!((two.status, two.dual_key_mode, previous(&two)), ("healthy", Some(true), Some(true)));
        let same = health("11", Some("11"));
        assert_eq!((same.status, previous(&same)), ("degraded", Some(false)));
        assert_eq!(one.key_id, same.key_id);
    }
}
