//! A visitor whose profile is asked for.

use proto::v1::Subject;
use secrecy::SecretString;
use serde_json::Value;

use crate::{
    identifiers::{self, Identifier, Kind, MAX_BYTES, Parsed},
    pii::contacts::Contacts,
    storage::cache_entries::{self, ConsentEntry},
};

/// A visitor, by what a call says of them.
pub struct Visitor {
    /// The browser.
    pub browser: Option<Identifier>,
    /// The customer's own ID of the person.
    pub user: Option<Identifier>,
    /// Email and phone that the call carries.
    pub carried: Carried,
    /// Consent signals of the call, which count in place of what is stored.
    pub signals: Option<ConsentEntry>,
    /// The event at hand.
    pub event: Option<Value>,
}

/// Email and phone of one call.
#[derive(Default)]
pub struct Carried {
    /// Their digests.
    pub contacts: Contacts,
    /// The email in clear, for as long as the call takes.
    pub email: Option<SecretString>,
    /// The phone in clear.
    pub phone: Option<SecretString>,
}

impl Visitor {
    /// A visitor as whoever delivers events describes them.
    pub fn described(mut subject: Subject, event: Option<Value>) -> Self {
        let plain = |text: &Option<String>| text.clone().map(SecretString::from);
        let (email, phone) = (plain(&subject.email), plain(&subject.phone));
        let contacts = Contacts::take(&mut subject, true);
        let signals = subject.consent.take();
        let signals = signals
            .filter(|signals| signals.json.is_some())
            .map(|signals| cache_entries::consent_of_call(signals.json, signals.sec_gpc));
        let browser = named(Kind::AnonymousId, subject.anonymous_id)
            .or_else(|| named(Kind::AnonymousId, subject.cookie_anonymous_id));
        let user = named(Kind::UserId, subject.user_id);
        Self { browser, user, carried: Carried { contacts, email, phone }, signals, event }
    }

    /// The visitor of a page: the one whom the cookie names, else the one whom the call does. Nothing else that a page
    /// says counts.
    pub fn of_page(subject: Subject) -> Self {
        let cookies = subject.cookie_anonymous_id.into_iter().chain(subject.cookie_anonymous_ids);
        let browser = cookies.chain(subject.anonymous_id).find_map(|id| named(Kind::AnonymousId, Some(id)));
        Self { browser, user: None, carried: Carried::default(), signals: None, event: None }
    }

    /// The identifier that says who it is: the browser, else the user.
    pub fn owner(&self) -> Option<&Identifier> {
        self.browser.as_ref().or(self.user.as_ref())
    }
}

/// Reads an identifier; none where it is none, or nobody's.
fn named(kind: Kind, text: Option<String>) -> Option<Identifier> {
    match identifiers::parse(kind, &text?, MAX_BYTES) {
        Parsed::Ok(id) => Some(id),
        Parsed::Absent | Parsed::Junk | Parsed::Invalid => None,
    }
}
