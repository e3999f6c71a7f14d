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
    Key { name: name("canonical", org, &[id.kind.word(), &value]), shape: Shape::Text }
}

/// `cvid:{org_id}:{canonical_id}` → field → vendor ID, and `_{field}@{mark}` → a browser's own.
pub fn vendor_ids(org: Uuid, canonical: Uuid) -> Key {
    Key { name: of_canonical("cvid", org, canonical), shape: Shape::Hash }
}

/// `syncs:{org_id}:{canonical_id}` → vendor → schedule, and `_{vendor}@{mark}` → that of a browser alone.
pub fn syncs(org: Uuid, canonical: Uuid) -> Key {
    Key { name: of_canonical("syncs", org, canonical), shape: Shape::Hash }
}

/// `identity:{org_id}:{anonymous_id}` → field → plain value, for other systems.
pub fn identity(org: Uuid, anonymous_id: &str) -> Key {
    Key { name: name("identity", org, &[&encoded(anonymous_id)]), shape: Shape::Hash }
}

/// `consent:{org_id}:{anonymous_id}` → the last consent signals.
pub fn consent(org: Uuid, anonymous_id: &str) -> Key {
    Key { name: name("consent", org, &[&encoded(anonymous_id)]), shape: Shape::Text }
}

/// `offers:{org_id}:{canonical_id}` → vendor, or `{vendor}@{mark}` of a browser alone → end of the lease. Soft:
/// nothing is lost with it.
pub fn offers(org: Uuid, canonical: Uuid) -> String {
    of_canonical("offers", org, canonical)
}

/// Key in which a server holds its own identity once its serving keys were made good.
pub const SERVER: &str = "datafly:server";

/// True where `name` is that of a serving key.
pub fn serves(name: &str) -> bool {
    ["canonical:", "consent:", "cvid:", "syncs:", "identity:"].iter().any(|prefix| name.starts_with(prefix))
}

fn of_canonical(prefix: &str, org: Uuid, canonical: Uuid) -> String {
    name(prefix, org, &[canonical.hyphenated().encode_lower(&mut Uuid::encode_buffer())])
}

/// `{prefix}:{org}` and the rest, with colons between. Every request makes several, so without `format!`.
fn name(prefix: &str, org: Uuid, rest: &[&str]) -> String {
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
