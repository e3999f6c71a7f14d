//! A subject as it is sent, and as the core works with it.

use proto::v1::{ConsentSignals, ErrorReason, Refusal, RefusalReason, Subject};
use serve::origin::Origin;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use super::link_token::{self, LinkTokens};
use crate::{
    auth::{
        Tenant, identity_token,
        signature::{self, SignedAt},
    },
    clock,
    consent::Signals,
    error::{Error, Result},
    first_party_ids::observed::ObservedIds,
    graph::Claims,
    identifiers::{self, Identifier, Kind, Parsed},
    pii::contacts::Contacts,
    storage::{
        cache_entries::{self, ConsentEntry},
        mark::Mark,
        via::Via,
    },
};

/// Longest consent object, in bytes.
const MAX_CONSENT_BYTES: usize = 8 * 1024;
/// The object that stands for one that can't be kept as it came.
const UNREADABLE: &str = r#"{"unreadable":true}"#;
/// Longest referrer that is looked at, in bytes.
const MAX_REFERRER_BYTES: usize = 4096;

/// Signals that came with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSignals {
    /// The consent object, verbatim; none where only Sec-GPC came.
    pub json: Option<String>,
    /// True where the browser sent `Sec-GPC: 1`.
    pub sec_gpc: bool,
}

/// A subject whose identifiers are usable.
#[derive(Debug, Clone)]
pub struct Person {
    /// Claims about who is who.
    pub claims: Claims,
    /// Identifiers that were left out.
    pub refusals: Vec<Refusal>,
    /// Consent that came with the event.
    pub consent: Option<NewSignals>,
    /// True where the answer is to list pending syncs.
    pub want_pending_syncs: bool,
    /// IDs of vendors that the event brings and that are collected.
    pub observed: ObservedIds,
    /// The person's email and phone, digested.
    pub contacts: Contacts,
    /// Time at which the event was signed; none where it was not.
    pub signed_at: Option<SignedAt>,
    /// True where the event came with a usable `_dfid` cookie.
    pub has_cookie: bool,
    /// The mark of the browser, where anything depends on what is known of it.
    pub mark: Option<Mark>,
}

impl Person {
    /// The browser, where the request has to know its stored consent.
    pub fn needs_consent(&self) -> Option<&str> {
        let needed = self.is_read_ahead() || self.consent.is_some();
        self.claims.anonymous_id().filter(|_| needed)
    }

    /// The event's own consent signals, as if they were stored.
    pub fn own_signals(&self) -> ConsentEntry {
        let signals = self.consent.as_ref();
        let of_call = |new: &NewSignals| cache_entries::consent_of_call(new.json.clone(), new.sec_gpc);
        signals.map_or_else(|| cache_entries::consent_entry(None), of_call)
    }

    /// True where the answer depends on what is known of the identity, which is then read ahead.
    pub fn is_read_ahead(&self) -> bool {
        self.want_pending_syncs || self.observed.is_any()
    }

    /// Reads a subject. `mint` makes the anonymous ID for a browser that has none. An identifier that is too
    /// long is an error, and so is a call that names nobody; a placeholder is left out and listed in
    /// `refusals`.
    pub fn parse(
        mut subject: Subject,
        tenant: &Tenant,
        tokens: &LinkTokens,
        now: OffsetDateTime,
        mint: impl Fn() -> Option<String>,
    ) -> Result<Self> {
        let observed = ObservedIds::take(&mut subject, tenant, now);
        let mut contacts = Contacts::take(&mut subject, tenant.verified);
        let mut refusals = Vec::new();
        let mut read = |name: &str, kind: Kind, text: Option<String>| {
            read_identifier(tenant, (name, kind), text.as_deref().unwrap_or_default(), &mut refusals)
        };
        let own = read("anonymous_id", Kind::AnonymousId, subject.anonymous_id)?;
        let user = read("user_id", Kind::UserId, subject.user_id)?;
        // A cookie that can't be read is no fault of the event's. After a reset it belongs to somebody else.
        let sent = subject.cookie_anonymous_id.into_iter().chain(subject.cookie_anonymous_ids);
        let mut cookie =
            |text| read("cookie_anonymous_id", Kind::AnonymousId, Some(text)).unwrap_or_default();
        let cookies: Vec<Identifier> = sent.filter_map(&mut cookie).collect();
        let has_cookie = !cookies.is_empty();
        let (cookie, replaced) =
            if subject.reset { (None, cookies) } else { (cookies.into_iter().next(), Vec::new()) };
        let consent = new_signals(subject.consent);

        let refuse = |identifier: &str| {
            let reason = RefusalReason::InvalidProof.into();
            Refusal { identifier: identifier.to_owned(), reason }
        };
        // Who claims to be somebody is linked all the same; a hash that is wrong only vouches for nothing.
        let secrets = tenant.source.as_ref().map_or(&[][..], |source| &source.secrets);
        let user_id = user.as_ref().map(|user| user.value.as_str());
        let vouched = user_id
            .zip(subject.user_hash.as_deref())
            .is_some_and(|(user, hash)| signature::vouches(secrets, hash, user, now));
        if subject.user_hash.is_some() && user.is_some() && !vouched {
            refusals.push(refuse("user_hash"));
        }
        // What a signed call says needs no token.
        let token = subject.identity_token.as_deref().filter(|_| !tenant.verified);
        let opened_token =
            user_id.zip(token).and_then(|(user, token)| identity_token::open(secrets, token, user, now));
        if token.is_some() && opened_token.is_none() {
            refusals.push(refuse("identity_token"));
        }
        if let Some(token) = &opened_token {
            contacts.vouch(token.email_sha256, token.phone_sha256);
        }
        let user_via = match (tenant.verified, vouched, &opened_token) {
            (true, ..) => Via::Signed,
            (false, true, _) => Via::UserHash,
            (false, false, Some(_)) => Via::IdentityToken,
            (false, false, None) => Via::Claim,
        };
        let link = subject.link_token.or_else(|| link_token::of_page(subject.page_url.as_deref()?));
        let is_own_link = || is_own_page(tenant, subject.referrer.as_deref());
        let opened = link.as_deref().filter(|_| is_own_link());
        let opened = opened.and_then(|token| tokens.open(tenant.org, token, now));
        if link.is_some() && opened.is_none() {
            refusals.push(refuse("link_token"));
        }
        // Only servers' calls can be replayed by others.
        let message = subject.message_id.filter(|_| tenant.verified);
        let message = message.map(|id| Sha256::digest(id.as_bytes()).into());

        let own_time = subject.timestamp.and_then(clock::from_timestamp);
        let signed_at = tenant.signed_at.map(|at| at.or_of_event(own_time, now));
        let signed_until = signed_at.and_then(SignedAt::last);

        let minted = || mint().map(|value| Identifier { kind: Kind::AnonymousId, value });
        let browser = own.or_else(|| cookie.clone()).or_else(minted);
        let primary = browser.or_else(|| user.clone());
        let primary = primary.ok_or_else(|| Error::refused(ErrorReason::MissingIdentifier))?;
        let mut person = Self {
            claims: Claims {
                user,
                user_via,
                token_issued_at: opened_token.map(|token| token.issued_at),
                cookie: cookie.filter(|cookie| *cookie != primary),
                link: opened.filter(|token| token.browser != primary),
                reset: subject.reset,
                replaced: replaced.into_iter().filter(|old| *old != primary).collect(),
                message,
                signed_until,
                primary,
            },
            refusals,
            consent,
            want_pending_syncs: subject.want_pending_syncs,
            observed,
            contacts,
            signed_at,
            has_cookie,
            mark: None,
        };
        if (person.is_read_ahead() || person.claims.user.is_some())
            && let Some(browser) = person.claims.anonymous_id()
        {
            person.mark = Some(Mark::of(browser));
        }
        Ok(person)
    }
}

/// Reads an identifier, called so; none where it is blank, or a placeholder, which is listed in `refusals`.
fn read_identifier(
    tenant: &Tenant,
    (name, kind): (&str, Kind),
    text: &str,
    refusals: &mut Vec<Refusal>,
) -> Result<Option<Identifier>> {
    let max_bytes = if tenant.browser { identifiers::MAX_BROWSER_BYTES } else { identifiers::MAX_BYTES };
    let own_words = tenant.source.as_ref().map_or(&[][..], |source| &source.placeholders);
    let is_own_word = |id: &Identifier| !own_words.is_empty() && own_words.contains(&id.value.to_lowercase());
    match identifiers::parse(kind, text, max_bytes) {
        Parsed::Absent => Ok(None),
        Parsed::Ok(id) if !is_own_word(&id) => Ok(Some(id)),
        Parsed::Ok(_) | Parsed::Junk => {
            refusals.push(Refusal { identifier: name.to_owned(), reason: RefusalReason::Junk.into() });
            Ok(None)
        }
        Parsed::Invalid => {
            Err(Error::Refused { reason: ErrorReason::InvalidIdentifier, field: Some(name.to_owned()) })
        }
    }
}

/// True where a referrer is a page of the organisation's own. Anybody can have a token made for whoever they are: in
/// another's link it is no word of ours.
fn is_own_page(tenant: &Tenant, referrer: Option<&str>) -> bool {
    let referrer = referrer.filter(|url| url.len() <= MAX_REFERRER_BYTES);
    referrer.and_then(Origin::of_page).is_some_and(|origin| tenant.own_origins.contains(&origin))
}

/// The signals of an event. What is too long, or no JSON, counts as an object that nobody understands: it denies.
fn new_signals(consent: Option<ConsentSignals>) -> Option<NewSignals> {
    let consent = consent.filter(|c| c.json.is_some() || c.sec_gpc)?;
    let ConsentSignals { json, sec_gpc } = consent;
    let is_readable = |json: &String| {
        json.len() <= MAX_CONSENT_BYTES && serde_json::from_str::<&serde_json::value::RawValue>(json).is_ok()
    };
    let json = json.map(|json| if is_readable(&json) { json } else { UNREADABLE.to_owned() });
    // A script's word for the header, which the browser's next object can't take back either.
    let says_gpc = json
        .as_deref()
        .is_some_and(|json| json.contains("\"gpc\"") && Signals::parse(Some(json), false).is_gpc());
    Some(NewSignals { json, sec_gpc: sec_gpc || says_gpc })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use migrations::sealed::{SealKey, SealKeys};
    use secrecy::SecretString;
    use uuid::Uuid;

    use super::*;

    fn tenant(browser: bool) -> Tenant {
        Tenant {
            environment: crate::settings::Environment::Live,
            client_ip: None,
            network: None,
            user_agent: None,
            org: Uuid::nil(),
            source: None,
            browser,
            verified: !browser,
            signed_at: None,
            own_origins: Arc::default(),
            host: None,
            place: None,
        }
    }

    fn parse(subject: Subject, browser: bool) -> Result<Person> {
        let key = SealKey::from_hex(&SecretString::from("11".repeat(32))).unwrap();
        let tokens = LinkTokens::derive(&SealKeys::new(key, None));
        let mint = || browser.then(|| "minted".to_owned());
        Person::parse(subject, &tenant(browser), &tokens, OffsetDateTime::UNIX_EPOCH, mint)
    }

    #[test]
    fn the_event_counts_before_the_cookie_before_a_minted_id() {
        let both = Subject {
            anonymous_id: Some("e".into()),
            cookie_anonymous_id: Some("c".into()),
            ..Subject::default()
        };
        let person = parse(both.clone(), true).unwrap();
        assert_eq!((person.claims.primary.value.as_str(), person.claims.ids().count()), ("e", 2));
        let cookie = parse(Subject { anonymous_id: None, ..both.clone() }, true).unwrap();
        assert_eq!((cookie.claims.anonymous_id(), cookie.claims.ids().count()), (Some("c"), 1));
        assert_eq!(parse(Subject::default(), true).unwrap().claims.anonymous_id(), Some("minted"));
        let reset = parse(Subject { reset: true, ..both }, true).unwrap();
        assert!(reset.claims.cookie.is_none(), "the cookie's ID is not linked after a reset");
        assert_eq!(reset.claims.replaced.iter().map(|old| old.value.as_str()).collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn a_call_without_a_browser_needs_an_identifier() {
        let nobody = parse(Subject::default(), false).unwrap_err();
        assert!(matches!(nobody, Error::Refused { reason: ErrorReason::MissingIdentifier, .. }));
        let user = parse(Subject { user_id: Some("u".into()), ..Subject::default() }, false).unwrap();
        assert_eq!(
            (user.claims.primary.kind, user.claims.anonymous_id(), user.claims.ids().count()),
            (Kind::UserId, None, 1)
        );
    }

    #[test]
    fn junk_is_left_out_and_said() {
        let junk = Subject {
            anonymous_id: Some("null".into()),
            user_id: Some("undefined".into()),
            ..Subject::default()
        };
        let person = parse(junk, true).unwrap();
        assert_eq!(person.claims.anonymous_id(), Some("minted"));
        assert_eq!(person.refusals.len(), 2);
    }

    #[test]
    fn what_is_too_long_is_an_error() {
        let long = |bytes: usize| Subject { anonymous_id: Some("a".repeat(bytes)), ..Subject::default() };
        assert!(parse(long(128), true).is_ok() && parse(long(129), true).is_err());
        assert!(parse(long(1024), false).is_ok() && parse(long(1025), false).is_err());
    }
}
