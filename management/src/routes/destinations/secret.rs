//! The signing secret of a webhook: bound to the origin that it was given for, made where none is given, and kept beside
//! its successor until that is ended.

use base64::{Engine, engine::general_purpose::STANDARD};
use diesel_async::AsyncPgConnection;
use migrations::sealed::{Place, SealKeys, audience::BoundCredentials};
use secrecy::{ExposeSecret, SecretString};
use serve::origin::origin_of;

use crate::{
    api::{
        error::{ApiError, Code, Problem, Result},
        fields::Fields,
    },
    crypto::credentials,
};

/// Text that secrets begin with.
const PREFIX: &str = "whsec_";
/// Shortest and longest secret, in bytes.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Name of the secret among the credentials, and of the one before it.
const NAMES: [&str; 2] = ["secret", "previous_secret"];

/// What is to become of the secret.
pub struct Change {
    /// A new one.
    pub given: Option<SecretString>,
    /// True where the one before the present one signs no more.
    pub ends_previous: bool,
}

/// A changed secret.
pub struct Changed {
    /// Names of what is sealed, and the sealed object.
    pub sealed: (Vec<String>, Vec<u8>),
    /// The secret, where it was made here.
    pub made: Option<SecretString>,
}

impl Change {
    /// Makes the change; none where nothing is to be changed. Refused with what was `wrong` before.
    pub async fn apply(
        self,
        keys: &SealKeys,
        connection: &mut AsyncPgConnection,
        place: Place<'_>,
        stored: Option<&[u8]>,
        url: Option<&str>,
        mut wrong: Fields,
    ) -> Result<Option<Changed>> {
        if let Some(given) = &self.given {
            wrong.check(is_secret(given), NAMES[0], "must be whsec_ and the Base64 of 24 to 64 bytes");
        }
        wrong.done()?;
        // The core has checked it.
        let origin = url.and_then(origin_of).ok_or(Code::Internal)?;
        let mut bound = match stored {
            None => BoundCredentials::default(),
            Some(stored) => {
                let opened = credentials::open_value(keys, place, stored)?;
                BoundCredentials::parse(&opened).ok_or(Code::KeyUnavailable)?
            }
        };
        let is_elsewhere = bound.origin.as_ref().is_some_and(|bound| *bound != origin);
        if self.given.is_none() && is_elsewhere {
            let message = format!("was given for another origin: give it again for {origin}");
            return Err(ApiError::not_for_host(vec![Problem { field: NAMES[0].to_owned(), message }]));
        }
        let present = bound.values.get(NAMES[0]).cloned();
        let made = (self.given.is_none() && present.is_none()).then(new_secret);
        let Some(secret) = self.given.or_else(|| made.clone()).or_else(|| present.clone()) else {
            return Ok(None);
        };
        let is_new = present.as_ref().is_none_or(|present| present.expose_secret() != secret.expose_secret());
        if !is_new && !self.ends_previous && !is_elsewhere {
            return Ok(None);
        }
        if is_new && let Some(present) = present.filter(|_| !is_elsewhere) {
            bound.values.insert(NAMES[1].to_owned(), present);
        }
        if self.ends_previous || is_elsewhere {
            bound.values.remove(NAMES[1]);
        }
        bound.values.insert(NAMES[0].to_owned(), secret);
        bound.origin = Some(origin);
        let names = bound.values.keys().cloned().collect();
        let sealed = keys.seal_counted(connection, place, &bound.to_plain()).await?;
        Ok(Some(Changed { sealed: (names, sealed), made }))
    }
}

fn is_secret(text: &SecretString) -> bool {
    let bytes = text.expose_secret().strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
    bytes.is_some_and(|bytes| BYTES.contains(&bytes.len()))
}

fn new_secret() -> SecretString {
    format!("{PREFIX}{}", STANDARD.encode(rand::random::<[u8; 32]>())).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_its_prefix_and_its_length() {
        assert!(is_secret(&new_secret()));
        let of = |bytes: usize| SecretString::from(format!("{PREFIX}{}", STANDARD.encode(vec![1; bytes])));
        assert!(is_secret(&of(24)) && is_secret(&of(64)));
        assert!(!is_secret(&of(23)) && !is_secret(&of(65)));
        for no in ["", "whsec_", "whsec_***", "abc"] {
            assert!(!is_secret(&no.into()), "{no}");
        }
    }
}
