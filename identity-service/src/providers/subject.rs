//! A subject that somebody describes, to see what a provider would be asked with. Nobody is made of it.

use proto::v1::{ErrorReason, Subject};
use uuid::Uuid;

use super::{
    person::{self, Person},
    tools::Tools,
    variables::Variables,
};
use crate::{
    error::{Error, Result},
    identifiers::{self, Identifier, Kind, MAX_BYTES, Parsed},
    pii::contacts::Contacts,
    storage::{
        Stores,
        cache_entries::{self, ConsentEntry},
        consents,
        postgres::identities,
        retry_lost,
    },
};

/// A subject as a provider would be asked about it.
pub struct Described {
    /// Variables of templates.
    pub variables: Variables,
    /// The consent signals that count.
    pub consent: ConsentEntry,
}

/// Describes a subject: by what is stored of the person of its user ID, else of its anonymous ID, and before that by
/// what it says itself, which is taken as vouched for. `variables` are those of the request.
pub async fn describe(
    (tools, stores): (&Tools, &Stores),
    org: Uuid,
    mut subject: Subject,
    variables: Variables,
) -> Result<Described> {
    let contacts = Contacts::take(&mut subject, true);
    let user = named(Kind::UserId, subject.user_id.as_deref())?;
    let browser = named(Kind::AnonymousId, subject.anonymous_id.or(subject.cookie_anonymous_id).as_deref())?;
    let ids: Vec<Identifier> = user.iter().chain(&browser).cloned().collect();
    let roots = retry_lost!({ identities::find(&mut *tools.connection().await?, org, &ids).await })?;
    let canonical = roots.iter().flatten().next().copied();
    let is_known_browser = browser.is_some() && roots.last().is_some_and(Option::is_some);

    let signals = subject.consent.unwrap_or_default();
    let consent = match (signals.json, &browser, canonical) {
        (Some(json), ..) => cache_entries::consent_of_call(Some(json), false),
        (None, Some(browser), _) => consents::of(stores, org, &browser.value, is_known_browser).await?,
        (None, None, Some(canonical)) => consents::newest(stores, org, canonical).await?,
        (None, None, None) => cache_entries::consent_entry(None),
    };
    let consent = consent.with_gpc(signals.sec_gpc);

    let mut described = Described { variables, consent };
    if let (Some(canonical), Some(owner)) = (canonical, browser.as_ref().or(user.as_ref()).cloned()) {
        let consent = described.consent;
        let person = Person { org, canonical, owner, consent, is_browser: false, is_vouched: true };
        let known = person::learn(tools, &person, described.variables).await?;
        described = Described { variables: known.variables, consent: person.consent };
    }
    let variables = &mut described.variables;
    variables.set("anonymous_id", browser.map(|id| id.value));
    variables.set("user_id", user.map(|id| id.value));
    for (what, said) in contacts.iter() {
        let (lower, uid2) = (said.contact.lower.sha256, said.contact.uid2.map(|form| form.sha256));
        for (name, value) in person::digests(what, &lower, uid2.as_ref().map(<[u8; 32]>::as_slice)) {
            variables.set(name, Some(value));
        }
    }
    Ok(described)
}

/// Reads an identifier; none where it is blank or a placeholder.
fn named(kind: Kind, text: Option<&str>) -> Result<Option<Identifier>> {
    match identifiers::parse(kind, text.unwrap_or_default(), MAX_BYTES) {
        Parsed::Ok(id) => Ok(Some(id)),
        Parsed::Absent | Parsed::Junk => Ok(None),
        Parsed::Invalid => {
            let field = Some(format!("subject.{}", kind.word()));
            Err(Error::Refused { reason: ErrorReason::InvalidIdentifier, field })
        }
    }
}
