//! A subject as it is sent, and as the core works with it.

use proto::v1::{ErrorReason, Refusal, RefusalReason, Subject};

use super::{Tenant, consent::NewSignals};
use crate::{
    error::{Error, Result},
    identifiers::{self, Identifier, Kind, Parsed},
};

/// Longest consent object, in bytes.
const MAX_CONSENT_BYTES: usize = 8 * 1024;

/// A subject whose identifiers are usable.
#[derive(Debug)]
pub struct Person {
    /// The browser; the user where there is none.
    pub primary: Identifier,
    /// Further identifiers to link, the user before the cookie.
    pub others: Vec<Identifier>,
    /// The browser's ID from now on.
    pub anonymous_id: Option<String>,
    /// Identifiers that were left out.
    pub refusals: Vec<Refusal>,
    /// Consent that came with the event.
    pub consent: Option<NewSignals>,
    /// The answer should list syncs.
    pub want_pending_syncs: bool,
}

impl Person {
    /// Every identifier, the primary one first.
    pub fn ids(&self) -> impl Iterator<Item = &Identifier> {
        std::iter::once(&self.primary).chain(&self.others)
    }

    /// The browser, where the request has to know its stored consent.
    pub fn needs_consent(&self) -> Option<&str> {
        let needed = self.want_pending_syncs || self.consent.is_some();
        self.anonymous_id.as_deref().filter(|_| needed)
    }

    /// Reads a subject. `mint` makes the anonymous ID for a browser that has none.
    pub fn parse(subject: Subject, tenant: &Tenant, mint: impl Fn() -> Option<String>) -> Result<Self> {
        let mut refusals = Vec::new();
        let max_bytes = if tenant.browser { identifiers::MAX_BROWSER_BYTES } else { identifiers::MAX_BYTES };
        let mut read = |name: &str, kind: Kind, text: Option<String>| match identifiers::parse(
            kind,
            text.as_deref().unwrap_or_default(),
            max_bytes,
        ) {
            Parsed::Absent => Ok(None),
            Parsed::Ok(id) => Ok(Some(id)),
            Parsed::Junk => {
                refusals.push(Refusal { identifier: name.to_owned(), reason: RefusalReason::Junk.into() });
                Ok(None)
            }
            Parsed::Invalid => {
                Err(Error::Refused { reason: ErrorReason::InvalidIdentifier, field: Some(name.to_owned()) })
            }
        };
        let own = read("anonymous_id", Kind::AnonymousId, subject.anonymous_id)?;
        let user = read("user_id", Kind::UserId, subject.user_id)?;
        // A cookie that can't be read is no fault of the event's. After a reset it belongs to somebody else.
        let cookie = subject.cookie_anonymous_id.filter(|_| !subject.reset);
        let cookie = read("cookie_anonymous_id", Kind::AnonymousId, cookie).unwrap_or_default();
        let consent = new_signals(subject.consent)?;

        let minted = || mint().map(|value| Identifier { kind: Kind::AnonymousId, value });
        let browser = own.or_else(|| cookie.clone()).or_else(minted);
        let anonymous_id = browser.as_ref().map(|id| id.value.clone());
        let mut ids: Vec<Identifier> = Vec::with_capacity(3);
        for id in [browser, user, cookie].into_iter().flatten() {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        let mut ids = ids.into_iter();
        let primary = ids.next().ok_or_else(|| Error::refused(ErrorReason::MissingIdentifier))?;
        Ok(Self {
            primary,
            others: ids.collect(),
            anonymous_id,
            refusals,
            consent,
            want_pending_syncs: subject.want_pending_syncs,
        })
    }
}

fn new_signals(consent: Option<proto::v1::ConsentSignals>) -> Result<Option<NewSignals>> {
    let Some(consent) = consent.filter(|c| c.json.is_some() || c.sec_gpc) else { return Ok(None) };
    if let Some(json) = &consent.json {
        let is_json = serde_json::from_str::<&serde_json::value::RawValue>(json).is_ok();
        if json.len() > MAX_CONSENT_BYTES || !is_json {
            return Err(Error::invalid("consent.json"));
        }
    }
    Ok(Some(NewSignals { json: consent.json, sec_gpc: consent.sec_gpc }))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn tenant(browser: bool) -> Tenant {
        Tenant { org: Uuid::nil(), source: None, browser, verified: !browser, host: None, place: None }
    }

    fn parse(subject: Subject, browser: bool) -> Result<Person> {
        Person::parse(subject, &tenant(browser), || browser.then(|| "minted".to_owned()))
    }

    #[test]
    fn the_event_counts_before_the_cookie_before_a_minted_id() {
        let both = Subject {
            anonymous_id: Some("e".into()),
            cookie_anonymous_id: Some("c".into()),
            ..Subject::default()
        };
        let person = parse(both.clone(), true).unwrap();
        assert_eq!((person.primary.value.as_str(), person.others.len()), ("e", 1));
        let cookie = parse(Subject { anonymous_id: None, ..both.clone() }, true).unwrap();
        assert_eq!((cookie.anonymous_id.as_deref(), cookie.others.len()), (Some("c"), 0));
        assert_eq!(parse(Subject::default(), true).unwrap().anonymous_id.as_deref(), Some("minted"));
        let reset = parse(Subject { reset: true, ..both }, true).unwrap();
        assert!(reset.others.is_empty(), "the cookie's ID is not linked after a reset");
    }

    #[test]
    fn a_call_without_a_browser_needs_an_identifier() {
        let nobody = parse(Subject::default(), false).unwrap_err();
        assert!(matches!(nobody, Error::Refused { reason: ErrorReason::MissingIdentifier, .. }));
        let user = parse(Subject { user_id: Some("u".into()), ..Subject::default() }, false).unwrap();
        assert_eq!((user.primary.kind, user.anonymous_id), (Kind::UserId, None));
    }

    #[test]
    fn junk_is_left_out_and_said() {
        let junk = Subject {
            anonymous_id: Some("null".into()),
            user_id: Some("undefined".into()),
            ..Subject::default()
        };
        let person = parse(junk, true).unwrap();
        assert_eq!(person.anonymous_id.as_deref(), Some("minted"));
        assert_eq!(person.refusals.len(), 2);
    }

    #[test]
    fn what_is_too_long_is_an_error() {
        let long = |bytes: usize| Subject { anonymous_id: Some("a".repeat(bytes)), ..Subject::default() };
        assert!(parse(long(128), true).is_ok() && parse(long(129), true).is_err());
        assert!(parse(long(1024), false).is_ok() && parse(long(1025), false).is_err());
    }
}
