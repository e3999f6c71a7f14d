//! The names of the serving keys, the leases and the server's mark in Redis. Each that holds data begins with
//! its kind and the organisation, so no value a client sends can reach another organisation's keys.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::identifiers::{Identifier, Kind};

/// The Redis type of a serving key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// A string: one text.
    Text,
    /// A hash: fields, with `_v` among them.
    Hash,
}

/// The kinds of keys, which is what their names begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// The canonical identity of an identifier.
    Canonical,
    /// The consent signals of a browser.
    Consent,
    /// The vendor IDs of a canonical identity.
    VendorIds,
    /// The schedules of a canonical identity.
    Syncs,
    /// The vendor IDs of a browser, for other systems.
    Identity,
    /// The profiles of a canonical identity.
    Profiles,
    /// The leases on the syncs of a canonical identity.
    Offers,
    /// The calls of a provider within a second.
    Calls,
    /// The server's own mark.
    Server,
}

impl Family {
    /// Every kind that there is.
    pub const ALL: [Self; 9] = [
        Self::Canonical,
        Self::Consent,
        Self::VendorIds,
        Self::Syncs,
        Self::Identity,
        Self::Profiles,
        Self::Offers,
        Self::Calls,
        Self::Server,
    ];

    /// The part of the name before the first colon.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Canonical => "canonical",
            Self::Consent => "consent",
            Self::VendorIds => "cvid",
            Self::Syncs => "syncs",
            Self::Identity => "identity",
            Self::Profiles => "profile",
            Self::Offers => "offers",
            Self::Calls => "calls",
            Self::Server => "datafly",
        }
    }

    /// The kind of the key of this name; none where it is none of ours.
    pub fn of(name: &str) -> Option<Self> {
        let (prefix, _) = name.split_once(':')?;
        Self::ALL.into_iter().find(|family| family.prefix() == prefix)
    }

    /// True where keys of this kind serve what PostgreSQL knows.
    pub fn serves(self) -> bool {
        !matches!(self, Self::Offers | Self::Calls | Self::Server)
    }

    /// True where keys of this kind hold what rows of PostgreSQL say, word for word.
    pub fn mirrors(self) -> bool {
        self.serves() && self != Self::Profiles
    }
}

/// A key that serves what PostgreSQL knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Name of the key in Redis.
    pub name: String,
    /// The Redis type that it has.
    pub shape: Shape,
}

/// `canonical:{org_id}:{kind}:{value}` → canonical ID.
pub fn canonical(org: Uuid, id: &Identifier) -> Key {
    let value = match id.kind {
        Kind::AnonymousId => encoded(&id.value),
        Kind::UserId => hashed(&id.value).into(),
    };
    Key { name: name(Family::Canonical, org, &[id.kind.word(), &value]), shape: Shape::Text }
}

/// `cvid:{org_id}:{canonical_id}` → field → vendor ID, and `_{field}@{mark}` → a browser's own.
pub fn vendor_ids(org: Uuid, canonical: Uuid) -> Key {
    Key { name: of_canonical(Family::VendorIds, org, canonical), shape: Shape::Hash }
}

/// `syncs:{org_id}:{canonical_id}` → vendor → schedule, and `_{vendor}@{mark}` → that of a browser alone.
pub fn syncs(org: Uuid, canonical: Uuid) -> Key {
    Key { name: of_canonical(Family::Syncs, org, canonical), shape: Shape::Hash }
}

/// `identity:{org_id}:{anonymous_id}` → field → plain value, for other systems.
pub fn identity(org: Uuid, anonymous_id: &str) -> Key {
    Key { name: name(Family::Identity, org, &[&encoded(anonymous_id)]), shape: Shape::Hash }
}

/// `consent:{org_id}:{anonymous_id}` → the last consent signals.
pub fn consent(org: Uuid, anonymous_id: &str) -> Key {
    Key { name: name(Family::Consent, org, &[&encoded(anonymous_id)]), shape: Shape::Text }
}

/// `profile:{org_id}:{canonical_id}` → what providers of profiles have said, by who asked and with what.
pub fn profiles(org: Uuid, canonical: Uuid) -> Key {
    Key { name: of_canonical(Family::Profiles, org, canonical), shape: Shape::Hash }
}

/// `calls:{org_id}:{provider_id}:{second}` → the number of a provider's calls in that second. Soft.
pub fn calls(org: Uuid, provider: Uuid, second: i64) -> String {
    let mut buffer = Uuid::encode_buffer();
    let provider = provider.hyphenated().encode_lower(&mut buffer);
    name(Family::Calls, org, &[provider, &second.to_string()])
}

/// `offers:{org_id}:{canonical_id}` → vendor, or `{vendor}@{mark}` of a browser alone → end of the lease. Soft:
/// nothing is lost with it.
pub fn offers(org: Uuid, canonical: Uuid) -> String {
    of_canonical(Family::Offers, org, canonical)
}

/// Key in which a server holds its own identity once its serving keys were made good.
pub const SERVER: &str = "datafly:server";

/// True where `name` is that of a key that holds what rows say.
pub fn mirrors(name: &str) -> bool {
    Family::of(name).is_some_and(Family::mirrors)
}

/// True where `name` is that of a serving key.
pub fn serves(name: &str) -> bool {
    Family::of(name).is_some_and(Family::serves)
}

fn of_canonical(family: Family, org: Uuid, canonical: Uuid) -> String {
    name(family, org, &[canonical.hyphenated().encode_lower(&mut Uuid::encode_buffer())])
}

/// `{family}:{org}` and the rest, with colons between. Every request makes several, so without `format!`.
fn name(family: Family, org: Uuid, rest: &[&str]) -> String {
    let prefix = family.prefix();
    let mut buffer = Uuid::encode_buffer();
    let org = org.hyphenated().encode_lower(&mut buffer);
    let length = prefix.len() + 1 + org.len() + rest.iter().map(|part| 1 + part.len()).sum::<usize>();
    let mut name = String::with_capacity(length);
    name.push_str(prefix);
    for part in std::iter::once(&&*org).chain(rest) {
        name.push(':');
        name.push_str(part);
    }
    name
}

/// Returns `value` as it is where it is plain and short; else hashed, which also keeps separators and braces
/// out of keys.
fn encoded(value: &str) -> Cow<'_, str> {
    let plain = (1..=64).contains(&value.len())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if plain { value.into() } else { hashed(value).into() }
}

fn hashed(value: &str) -> String {
    format!("~{}", URL_SAFE_NO_PAD.encode(Sha256::digest(value.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_told_by_the_name_of_a_key() {
        let org = Uuid::nil();
        let id = Identifier { kind: Kind::UserId, value: "alice".to_owned() };
        let key = |family: Family| match family {
            Family::Canonical => canonical(org, &id).name,
            Family::Consent => consent(org, "a").name,
            Family::VendorIds => vendor_ids(org, org).name,
            Family::Syncs => syncs(org, org).name,
            Family::Identity => identity(org, "a").name,
            Family::Profiles => profiles(org, org).name,
            Family::Offers => offers(org, org),
            Family::Calls => calls(org, org, 1),
            Family::Server => SERVER.to_owned(),
        };
        for family in Family::ALL {
            assert_eq!(Family::of(&key(family)), Some(family), "{}", key(family));
        }
        assert_eq!((Family::of("somebody-elses"), Family::of("cvids:x")), (None, None));
    }

    #[test]
    fn values_can_not_leave_their_place() {
        let org = Uuid::nil();
        let key = |kind, value: &str| canonical(org, &Identifier { kind, value: value.to_owned() }).name;
        let plain = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
        assert!(key(Kind::AnonymousId, plain).ends_with(&format!(":anonymous_id:{plain}")));
        for odd in ["a:b", "{x}", "a\nb", "é", &"a".repeat(65), "~x", "*"] {
            let name = key(Kind::AnonymousId, odd);
            assert!(name.contains(":anonymous_id:~") && !name.contains(odd), "{name}");
        }
        assert!(key(Kind::UserId, "alice").contains(":user_id:~"), "user IDs are always hashed");
    }
}
