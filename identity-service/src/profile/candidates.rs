//! The values by which a visitor's profile may be found, linking key by linking key.

use std::borrow::Cow;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::visitor::Carried;
use crate::{
    pii::contacts::Said,
    providers::{person::PHONE_AS_WRITTEN, variables::Variables},
};

/// A fact about a visitor that a linking key is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The browser's anonymous ID, which goes out as `cookieid`, and where that finds nobody our canonical ID.
    CanonicalId,
    /// The browser's anonymous ID.
    AnonymousId,
    /// The customer's own ID of a person.
    UserId,
    /// The email.
    Email,
    /// The phone.
    Phone,
}

/// One way to find a profile.
#[derive(Debug)]
pub struct LinkingKey {
    /// The fact that it is read from.
    pub source: Source,
    /// Name of the key in the collection.
    pub key: String,
    /// True where the SHA-256 of the trimmed, lower-case value is sent.
    pub is_hashed: bool,
}

/// A value that a look-up is made with.
#[derive(Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Name of the linking key.
    pub key: String,
    /// The value as it is sent.
    pub value: String,
    /// True where a browser only claims it.
    pub is_claimed: bool,
}

/// The values in the order in which they are tried. A key of which nothing is known is left out; `is_claimed` says which
/// variables a browser only claims.
pub fn candidates(
    keys: &[LinkingKey],
    variables: &Variables,
    is_claimed: impl Fn(&str) -> bool,
    carried: &Carried,
) -> Vec<Candidate> {
    keys.iter().flat_map(|key| of_key(key, variables, &is_claimed, carried)).collect()
}

fn of_key(
    key: &LinkingKey,
    variables: &Variables,
    is_claimed: &impl Fn(&str) -> bool,
    carried: &Carried,
) -> Vec<Candidate> {
    let candidate = |value: String, is_claimed| Candidate { key: key.key.clone(), value, is_claimed };
    let plain = |name: &'static str| {
        let value = variables.get(name)?.into_owned();
        let sent =
            if key.is_hashed { hex::encode(Sha256::digest(value.trim().to_lowercase())) } else { value };
        Some(candidate(sent, is_claimed(name)))
    };
    let contact = |name: &'static str, said: Option<&Said>, clear: Option<&SecretString>| {
        let stored = variables.get(name);
        // What a call carries is a claim like any other, unless the same is vouched for.
        let is_claim = |digest: &str| stored.as_deref() != Some(digest) || is_claimed(name);
        let said = said.map(|said| hex::encode(said.contact.lower.sha256));
        if key.is_hashed {
            let value = said.or_else(|| stored.clone().map(Cow::into_owned))?;
            let is_claimed = is_claim(&value);
            return Some(candidate(value, is_claimed));
        }
        // Nothing in clear is stored, so this is what the call brings.
        let value = clear?.expose_secret().trim().to_owned();
        let is_claimed = said.is_none_or(|digest| is_claim(&digest));
        Some(candidate(value, is_claimed)).filter(|candidate| !candidate.value.is_empty())
    };
    let found = match key.source {
        Source::AnonymousId => vec![plain("anonymous_id")],
        Source::CanonicalId => vec![plain("anonymous_id"), plain("canonical_id")],
        Source::UserId => vec![plain("user_id")],
        Source::Email => {
            vec![contact("sha256_email", carried.contacts.email.as_deref(), carried.email.as_ref())]
        }
        Source::Phone => {
            vec![contact(PHONE_AS_WRITTEN, carried.contacts.phone.as_deref(), carried.phone.as_ref())]
        }
    };
    found.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use proto::v1::Subject;

    use super::*;
    use crate::profile::visitor::Visitor;

    fn key(source: Source, is_hashed: bool) -> LinkingKey {
        LinkingKey { source, key: format!("{source:?}"), is_hashed }
    }

    fn values(
        keys: &[LinkingKey],
        (variables, claimed): (&Variables, &[&str]),
        carried: &Carried,
    ) -> Vec<(String, bool)> {
        let all = candidates(keys, variables, |name| claimed.contains(&name), carried).into_iter();
        all.map(|candidate| (candidate.value, candidate.is_claimed)).collect()
    }

    #[test]
    fn keys_are_tried_in_their_order_and_empty_ones_left_out() {
        let mut variables = Variables::default();
        variables.set("anonymous_id", Some("A-1"));
        variables.set("canonical_id", Some("C-1"));
        variables.set("user_id", Some(" User-7"));
        let known = (&variables, ["user_id", "canonical_id"].as_slice());
        let keys = [
            key(Source::Email, true),
            key(Source::CanonicalId, false),
            key(Source::UserId, true),
            key(Source::Phone, false),
        ];
        let hashed = hex::encode(Sha256::digest("user-7"));
        let expected = [("A-1".to_owned(), false), ("C-1".to_owned(), true), (hashed, true)];
        assert_eq!(values(&keys, known, &Carried::default()), expected);
    }

    #[test]
    fn what_is_in_clear_is_what_the_call_brings() {
        let subject = Subject {
            email: Some(" Jane@Example.com ".to_owned()),
            phone: Some("+44 7700 900123".to_owned()),
            ..Subject::default()
        };
        let carried = Visitor::described(subject, None).carried;
        let mut variables = Variables::default();
        variables.set("sha256_email", Some("stored"));
        let known = (&variables, ["sha256_email"].as_slice());
        let email = [key(Source::Email, true), key(Source::Email, false)];
        let hashed = hex::encode(Sha256::digest("jane@example.com"));
        let both = |is_claimed| [(hashed.clone(), is_claimed), ("Jane@Example.com".to_owned(), is_claimed)];
        assert_eq!(values(&email, known, &carried), both(true));
        let mut vouched = Variables::default();
        vouched.set("sha256_email", Some(hashed.as_str()));
        assert_eq!(values(&email, (&vouched, &[]), &carried), both(false));
        assert_eq!(values(&email, (&vouched, &["sha256_email"]), &carried), both(true));
        assert_eq!(values(&email, known, &Carried::default()), [("stored".to_owned(), true)]);
        // As the specification says, the text and not the number.
        let phone = hex::encode(Sha256::digest("+44 7700 900123"));
        assert_eq!(values(&[key(Source::Phone, true)], known, &carried), [(phone, true)]);
    }
}
