//! Credentials of one vendor or provider, sealed together as a JSON object. They are written, and never told.

use std::collections::BTreeMap;

use diesel_async::AsyncPgConnection;
use migrations::sealed::{self, Place, SealKeys};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::api::{
    error::{Code, Result},
    fields::Fields,
};

/// Longest value in bytes: 8 KiB. A longer one is refused as not valid.
const MAX_VALUE_BYTES: usize = 8192;

/// Names and values, as they are given.
pub type GivenCredentials = BTreeMap<String, SecretString>;

/// A secret, as it is shown: only that it is there.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Configured {
    /// True where a value was given.
    pub configured: bool,
}

/// Credentials that a row holds.
#[derive(Default)]
pub struct StoredCredentials<'a> {
    /// Names of what is sealed.
    pub names: &'a [String],
    /// The sealed object; none where nothing was given yet.
    pub sealed: Option<&'a [u8]>,
}

/// Rules on which credentials may be given, and which have to be.
pub struct CredentialRules<'a> {
    /// Text before the names where problems are told.
    pub prefix: &'a str,
    /// Names of all credentials that there are.
    pub known: &'a [&'a str],
    /// Names of those that are to be stored or given.
    pub needed: &'a [&'a str],
}

/// Checks that a value can be sent in a header: 1 byte to 8 KiB, no control characters.
pub fn check(wrong: &mut Fields, field: &str, value: &SecretString) {
    let value = value.expose_secret();
    wrong.check((1..=MAX_VALUE_BYTES).contains(&value.len()), field, "must have 1 to 8192 bytes");
    wrong.check(!value.contains(char::is_control), field, "must not have control characters");
}

/// Gives the names and the sealed object of what is `stored` with what is `given` in its place; none where
/// nothing is given and it stays as it is. Refused with what was `wrong` before, and what is wrong with
/// these.
pub async fn replace(
    keys: &SealKeys,
    connection: &mut AsyncPgConnection,
    place: Place<'_>,
    stored: StoredCredentials<'_>,
    given: &GivenCredentials,
    rules: CredentialRules<'_>,
    mut wrong: Fields,
) -> Result<Option<(Vec<String>, Vec<u8>)>> {
    let CredentialRules { prefix, known, needed } = rules;
    for (name, value) in given {
        let field = format!("{prefix}{name}");
        if known.contains(&name.as_str()) {
            check(&mut wrong, &field, value);
        } else {
            wrong.add(field, format!("is not known: there are {}", known.join(", ")));
        }
    }
    for name in needed {
        let is_there = given.contains_key(*name) || stored.names.iter().any(|stored| stored == name);
        wrong.check(is_there, format!("{prefix}{name}"), "is required to be enabled");
    }
    wrong.done()?;
    if given.is_empty() {
        return Ok(None);
    }
    merge(keys, connection, place, stored, given, known).await.map(Some)
}

/// Seals an object of what is `given` in place of what is `stored`, and gives its names. A name that is not
/// among `known` any more goes.
async fn merge(
    keys: &SealKeys,
    connection: &mut AsyncPgConnection,
    place: Place<'_>,
    stored: StoredCredentials<'_>,
    given: &GivenCredentials,
    known: &[&str],
) -> Result<(Vec<String>, Vec<u8>)> {
    let stays = |name: &&String| known.contains(&name.as_str()) && !given.contains_key(*name);
    // An object that is replaced as a whole need not be opened: so it can be when its key is lost.
    let kept = match stored.sealed {
        Some(sealed) if stored.names.iter().any(|name| stays(&name)) => open(keys, place, sealed)?,
        _ => GivenCredentials::new(),
    };
    let mut all: BTreeMap<&str, &str> = BTreeMap::new();
    let values = kept.iter().filter(|(name, _)| stays(name)).chain(given);
    all.extend(values.map(|(name, value)| (name.as_str(), value.expose_secret())));
    let names = all.keys().map(|&name| name.to_owned()).collect();
    let plain = Zeroizing::new(serde_json::to_vec(&all).map_err(|_| Code::Internal)?);
    Ok((names, keys.seal_counted(connection, place, &plain).await?))
}

fn open(keys: &SealKeys, place: Place<'_>, sealed: &[u8]) -> Result<GivenCredentials> {
    let opened = keys.open(place, sealed).map_err(|error| {
        let key_id = sealed::key_id(sealed).map(hex::encode);
        tracing::error!(table = place.table, row = %place.row, key_id, %error, "a sealed value can't be opened");
        Code::KeyUnavailable
    })?;
    Ok(serde_json::from_slice(&opened).map_err(|_| {
        tracing::error!(table = place.table, row = %place.row, "a sealed value is no object of texts");
        Code::KeyUnavailable
    })?)
}
