//! Credentials, opened for one call and for where they may go.

use std::collections::BTreeMap;

use migrations::sealed::{
    SealKeys,
    audience::{BoundCredentials, BoundSecret},
    columns,
};
use secrecy::SecretString;
use serve::origin::{host_of, origin_of};
use url::Url;

use crate::settings::SealedCredentials;

/// Name by which a provider of the customer's own has its one secret.
pub const SECRET: &str = "secret";

/// The reason why there are no credentials for a call. Each is for the customer to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// The value does not open, or is none.
    Sealed,
    /// It was given for another host than the one that would be called.
    Elsewhere,
}

/// Opens credentials for a call to `url`. They are wiped when what is returned is dropped.
pub fn open(
    keys: &SealKeys,
    sealed: &SealedCredentials,
    url: &Url,
) -> Result<BTreeMap<String, SecretString>, Unusable> {
    let place = sealed.column.place(sealed.org, sealed.row);
    let plain = keys.open(place, &sealed.bytes).map_err(|error| {
        serve::warn_on_change!(ERROR, %error, table = place.table, row = %place.row, "credentials can't be opened");
        Unusable::Sealed
    })?;
    if sealed.column == columns::SECRETS {
        let secret = BoundSecret::parse(&plain).ok_or(Unusable::Sealed)?;
        let is_for =
            secret.hosts.is_empty() || host_of(url.as_str()).is_some_and(|host| secret.hosts.contains(&host));
        return is_for
            .then(|| BTreeMap::from([(SECRET.to_owned(), secret.value)]))
            .ok_or(Unusable::Elsewhere);
    }
    let bound = BoundCredentials::parse(&plain).ok_or(Unusable::Sealed)?;
    let is_for = bound.origin.is_none() || bound.origin == origin_of(url.as_str());
    is_for.then_some(bound.values).ok_or(Unusable::Elsewhere)
}

#[cfg(test)]
mod tests {
    use migrations::sealed::SealKey;
    use secrecy::ExposeSecret;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn credentials_open_for_their_own_host_alone() {
        let key = SealKey::from_hex(&"ab".repeat(32).into()).unwrap();
        let keys = SealKeys::new(key, None);
        let open = |column: columns::Column, plain: &[u8], url: &str| {
            let bytes = keys.seal(column.place(Uuid::nil(), Uuid::nil()), plain).unwrap();
            let sealed = SealedCredentials { column, org: Uuid::nil(), row: Uuid::nil(), bytes };
            super::open(&keys, &sealed, &Url::parse(url).unwrap())
        };
        let vendor = br#"{"@origin":"https://a.example","api_key":"k"}"#;
        let opened = open(columns::ENRICHMENT_SETTINGS, vendor, "https://a.example/x").unwrap();
        assert_eq!(opened["api_key"].expose_secret(), "k");
        for elsewhere in ["https://b.example/x", "https://a.example:8443/x", "http://a.example/x"] {
            let refused = open(columns::ENRICHMENT_SETTINGS, vendor, elsewhere).err();
            assert_eq!(refused, Some(Unusable::Elsewhere), "{elsewhere}");
        }
        let secret = BoundSecret { hosts: vec!["a.example".to_owned()], value: "s".into() }.to_plain();
        assert!(open(columns::SECRETS, &secret, "https://a.example/y").is_ok());
        assert_eq!(open(columns::SECRETS, &secret, "https://b.example/y").err(), Some(Unusable::Elsewhere));
        assert!(open(columns::SECRETS, b"unbound", "https://b.example/y").is_ok());
        assert_eq!(
            open(columns::ENRICHMENT_SETTINGS, b"x", "https://a.example").err(),
            Some(Unusable::Sealed)
        );
    }
}
