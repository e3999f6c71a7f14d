//! Credentials of one vendor or provider, sealed together as a JSON object. They are written, and never told.

use std::collections::BTreeMap;

use diesel_async::AsyncPgConnection;
use migrations::sealed::{self, Place, SealKeys, audience::BoundCredentials};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use subtle::ConstantTimeEq;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::audience;
use crate::api::{
    error::{ApiError, Code, Problem, Result},
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
    /// True where no two of them may have the same value.
    pub distinct: bool,
}

/// Characters that a form shows in place of a value. One who reads settings and writes them back sends these.
const MASK: [char; 5] = ['*', '•', '●', '·', '∙'];

/// Checks that a value can be sent in a header, 1 byte to 8 KiB without control characters, and is no mask.
pub fn check(wrong: &mut Fields, field: &str, value: &SecretString) {
    let value = value.expose_secret();
    wrong.check((1..=MAX_VALUE_BYTES).contains(&value.len()), field, "must have 1 to 8192 bytes");
    wrong.check(!value.contains(char::is_control), field, "must not have control characters");
    let is_mask = !value.is_empty() && value.chars().all(|c| MASK.contains(&c));
    wrong.check(!is_mask, field, "must be the value itself, and not a mask of it");
}

/// Origins that credentials would be sent to.
pub struct Origins<'a> {
    /// Origin by the settings that are stored: whom credentials are for that were sealed without saying so.
    pub before: Option<&'a str>,
    /// Origin by the settings that there are to be.
    pub now: &'a str,
}

/// Gives the names and the sealed object of what is `stored` with what is `given` in its place; none where
/// nothing is given and it stays as it is. Refused with what was `wrong` before, with what is wrong with these, and
/// where what is not given anew was given for another origin.
#[expect(
    clippy::too_many_arguments,
    reason = "keys, place and rules of one value, and what it is to be made of"
)]
pub async fn replace(
    keys: &SealKeys,
    connection: &mut AsyncPgConnection,
    place: Place<'_>,
    stored: StoredCredentials<'_>,
    given: &GivenCredentials,
    origins: Origins<'_>,
    rules: CredentialRules<'_>,
    mut wrong: Fields,
) -> Result<Option<(Vec<String>, Vec<u8>)>> {
    let CredentialRules { prefix, known, needed, distinct } = rules;
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
        wrong.check(is_there, format!("{prefix}{name}"), "is required");
    }
    wrong.done()?;
    // A name that is not known any more goes.
    let stays = |name: &&String| known.contains(&name.as_str()) && !given.contains_key(*name);
    let kept: Vec<&String> = stored.names.iter().filter(stays).collect();
    let mut all = BoundCredentials { origin: Some(origins.now.to_owned()), ..BoundCredentials::default() };
    // An object that is replaced as a whole need not be opened: so it can be when its key is lost.
    if let Some(sealed) = stored.sealed.filter(|_| !kept.is_empty()) {
        let opened = open(keys, place, sealed);
        if opened.is_err() && given.is_empty() && origins.before == Some(origins.now) {
            return Ok(None);
        }
        let opened = opened?;
        let bound_to = opened.origin.as_deref().or(origins.before).unwrap_or_default();
        if bound_to != origins.now {
            let again = format!("was given for {bound_to}: give it again for {}", origins.now);
            let problem =
                |name: &&String| Problem { field: format!("{prefix}{name}"), message: again.clone() };
            return Err(ApiError::not_for_host(kept.iter().map(problem).collect()));
        }
        match opened.origin {
            Some(_) if given.is_empty() => return Ok(None),
            Some(_) => {}
            None => audience::note_bound(place.table, place.row, origins.now),
        }
        all.values.extend(opened.values.into_iter().filter(|(name, _)| stays(&name)));
    } else if given.is_empty() {
        return Ok(None);
    }
    all.values.extend(given.iter().map(|(name, value)| (name.clone(), value.clone())));
    for (name, value) in given.iter().filter(|_| distinct) {
        let is_same = |other: &SecretString| {
            other.expose_secret().as_bytes().ct_eq(value.expose_secret().as_bytes()).into()
        };
        if let Some((other, _)) = all.values.iter().find(|(other, value)| *other != name && is_same(value)) {
            return Err(ApiError::field(format!("{prefix}{name}"), format!("must be another than {other}")));
        }
    }
    let names = all.values.keys().cloned().collect();
    Ok(Some((names, keys.seal_counted(connection, place, &all.to_plain()).await?)))
}

fn open(keys: &SealKeys, place: Place<'_>, sealed: &[u8]) -> Result<BoundCredentials> {
    let opened = open_value(keys, place, sealed)?;
    Ok(BoundCredentials::parse(&opened).ok_or_else(|| {
        tracing::error!(table = place.table, row = %place.row, "a sealed value is no object of texts");
        Code::KeyUnavailable
    })?)
}

/// Opens a sealed value. `KEY_UNAVAILABLE`, and logged, where it doesn't open.
pub fn open_value(keys: &SealKeys, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    keys.open(place, sealed).map_err(|error| {
        let key_id = sealed::key_id(sealed).map(hex::encode);
        tracing::error!(table = place.table, row = %place.row, key_id, %error, "a sealed value can't be opened");
        Code::KeyUnavailable.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_no_value() {
        for (value, is_fine) in [
            ("********", false),
            ("*", false),
            ("••••••••", false),
            ("●●●●", false),
            ("·∙*", false),
            ("a*******", true),
            ("x", true),
        ] {
            let mut wrong = Fields::default();
            check(&mut wrong, "value", &value.into());
            assert_eq!(wrong.done().is_ok(), is_fine, "{value}");
        }
    }
}
