//! Credentials of one vendor or provider, sealed together as a JSON object. They are written, and never told.

use std::collections::BTreeMap;

use diesel_async::AsyncPgConnection;
use migrations::sealed::{self, Place};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{
    api::{
        error::{Code, Result},
        fields::Fields,
    },
    state::Management,
};

/// Longest value in bytes (threats.md M31).
const MAX_VALUE: usize = 8192;

/// Names and values, as they are given.
pub type Given = BTreeMap<String, SecretString>;

/// What is told of a secret.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Configured {
    /// Whether it was given.
    pub configured: bool,
}

/// What a row holds.
pub struct Held<'a> {
    /// Names of what is sealed.
    pub names: &'a [String],
    /// The sealed object; none where nothing was given yet.
    pub sealed: Option<&'a [u8]>,
}

/// A value that can be sent in a header: 1 byte to 8 KiB, no control characters.
pub fn check(wrong: &mut Fields, field: &str, value: &SecretString) {
    let value = value.expose_secret();
    wrong.check((1..=MAX_VALUE).contains(&value.len()), field, "must have 1 to 8192 bytes");
    wrong.check(!value.contains(char::is_control), field, "must not have control characters");
}

/// All values are checked, their names are among `known`, and an enabled vendor has what is `needed` of them.
pub fn check_all(
    wrong: &mut Fields,
    prefix: &str,
    given: &Given,
    known: &[&str],
    needed: &[&str],
    held: &[String],
) {
    for (name, value) in given {
        let field = format!("{prefix}{name}");
        if known.contains(&name.as_str()) {
            check(wrong, &field, value);
        } else {
            wrong.add(field, format!("is not known: there are {}", known.join(", ")));
        }
    }
    for name in needed {
        let is_there = given.contains_key(*name) || held.iter().any(|held| held == name);
        wrong.check(is_there, format!("{prefix}{name}"), "is required to be enabled");
    }
}

/// The object with what is `given` in place of what is `held`, sealed for `place`, and its names. What is not among
/// `known` any more goes.
pub async fn merge(
    state: &Management,
    connection: &mut AsyncPgConnection,
    place: Place<'_>,
    held: Held<'_>,
    given: &Given,
    known: &[&str],
) -> Result<(Vec<String>, Vec<u8>)> {
    let stays = |name: &&String| known.contains(&name.as_str()) && !given.contains_key(*name);
    // An object that is replaced as a whole need not be opened: so it can be when its key is lost.
    let kept = match held.sealed {
        Some(sealed) if held.names.iter().any(|name| stays(&name)) => open(state, place, sealed)?,
        _ => Given::new(),
    };
    let mut all: BTreeMap<&str, &str> = BTreeMap::new();
    let values = kept.iter().filter(|(name, _)| stays(name)).chain(given);
    all.extend(values.map(|(name, value)| (name.as_str(), value.expose_secret())));
    let names = all.keys().map(|&name| name.to_owned()).collect();
    let plain = Zeroizing::new(serde_json::to_vec(&all).map_err(|_| Code::Internal)?);
    Ok((names, state.seal(connection, place, &plain).await?))
}

fn open(state: &Management, place: Place<'_>, sealed: &[u8]) -> Result<Given> {
    let opened = state.keys.open(place, sealed).map_err(|error| {
        let key_id = sealed::key_id(sealed).map(hex::encode);
        tracing::error!(table = place.table, row = %place.row, key_id, %error, "a sealed value can't be opened");
        Code::KeyUnavailable
    })?;
    Ok(serde_json::from_slice(&opened).map_err(|_| {
        tracing::error!(table = place.table, row = %place.row, "a sealed value is no object of texts");
        Code::KeyUnavailable
    })?)
}
