//! Credentials with their audience: the origin or the hosts that they were given for are sealed with them, so that
//! neither a change of settings nor of the database's rows sends them anywhere else.
//!
//! What was sealed before there were audiences opens as values without one. A build of before reads the credentials
//! of this one, and drops the origin where it seals them anew.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

/// Name of the origin among the credentials; no credential has one like it.
const ORIGIN: &str = "@origin";
/// First byte of a secret that has hosts. Values have no control characters, so no other secret begins so.
const WITH_HOSTS: u8 = 1;

/// Credentials of one vendor or provider, name to value.
#[derive(Default)]
pub struct BoundCredentials {
    /// Scheme and authority that they were given for; none where they were sealed without.
    pub origin: Option<String>,
    /// Values, by the names that the vendor's record has for them.
    pub values: BTreeMap<String, SecretString>,
}

impl BoundCredentials {
    /// Reads what was sealed; none where it is no object of texts.
    pub fn parse(plain: &[u8]) -> Option<Self> {
        let mut values: BTreeMap<String, SecretString> = serde_json::from_slice(plain).ok()?;
        let origin = values.remove(ORIGIN).map(|origin| origin.expose_secret().to_owned());
        Some(Self { origin, values })
    }

    /// Writes what is to be sealed.
    pub fn to_plain(&self) -> Zeroizing<Vec<u8>> {
        let values = self.values.iter().map(|(name, value)| (name.as_str(), value.expose_secret()));
        let all: BTreeMap<&str, &str> =
            values.chain(self.origin.as_deref().map(|origin| (ORIGIN, origin))).collect();
        json(&all)
    }
}

/// A secret that settings refer to by its name.
#[derive(Deserialize)]
pub struct BoundSecret {
    /// Hosts that it may be sent to, each `host[:port]` without the port 443. None of them: it is not bound yet.
    pub hosts: Vec<String>,
    /// Value that is sent, and never told.
    pub value: SecretString,
}

impl BoundSecret {
    /// Reads what was sealed; none where it is neither a text nor a text with hosts.
    pub fn parse(plain: &[u8]) -> Option<Self> {
        match plain.split_first() {
            Some((&WITH_HOSTS, rest)) => serde_json::from_slice(rest).ok(),
            _ => Some(Self { hosts: Vec::new(), value: std::str::from_utf8(plain).ok()?.into() }),
        }
    }

    /// Writes what is to be sealed.
    pub fn to_plain(&self) -> Zeroizing<Vec<u8>> {
        let value = self.value.expose_secret();
        if self.hosts.is_empty() {
            return Zeroizing::new(value.as_bytes().to_vec());
        }
        let rest = json(&serde_json::json!({ "hosts": self.hosts, "value": value }));
        Zeroizing::new([&[WITH_HOSTS], rest.as_slice()].concat())
    }
}

#[expect(clippy::expect_used, reason = "names and texts are JSON")]
fn json(texts: &impl serde::Serialize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(serde_json::to_vec(texts).expect("texts are JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(plain: &[u8]) -> (Option<String>, Vec<(String, String)>) {
        let read = BoundCredentials::parse(plain).unwrap();
        let values = read.values.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned()));
        (read.origin.clone(), values.collect())
    }

    #[test]
    fn credentials_come_back_with_their_origin() {
        let values = vec![("api_key".to_owned(), "k".to_owned())];
        assert_eq!(
            credentials(br#"{"api_key":"k"}"#),
            (None, values.clone()),
            "of before there were origins"
        );
        let mut bound = BoundCredentials::parse(br#"{"api_key":"k"}"#).unwrap();
        bound.origin = Some("https://a.example".to_owned());
        assert_eq!(credentials(&bound.to_plain()), (bound.origin, values));
        for odd in [&b"x"[..], br#"{"api_key":1}"#, b"[]"] {
            assert!(BoundCredentials::parse(odd).is_none());
        }
    }

    #[test]
    fn a_secret_comes_back_with_its_hosts() {
        for value in ["first", "{\"hosts\":[\"x\"],\"value\":\"y\"}", "ä"] {
            let bare = BoundSecret::parse(value.as_bytes()).unwrap();
            assert_eq!(
                (bare.hosts.len(), bare.value.expose_secret()),
                (0, value),
                "of before there were hosts"
            );
            let bound = BoundSecret { hosts: vec!["cdp.example.com:8443".to_owned()], ..bare };
            let read = BoundSecret::parse(&bound.to_plain()).unwrap();
            assert_eq!((&read.hosts, read.value.expose_secret()), (&bound.hosts, value));
            let unbound = BoundSecret { hosts: Vec::new(), ..read };
            assert_eq!(unbound.to_plain().as_slice(), value.as_bytes());
        }
        assert!(BoundSecret::parse(b"\x01x").is_none() && BoundSecret::parse(b"\xff").is_none());
    }
}
