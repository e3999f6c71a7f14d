//! The person who is asked about: all that providers may be asked with, and what of it is vouched for.

use base64::{Engine, engine::general_purpose::STANDARD};
use uuid::Uuid;

use super::{tools::Tools, uid2, variables::Variables};
use crate::{
    consent::Signals,
    error::Result,
    identifiers::{Identifier, Kind},
    storage::{
        cache_entries::ConsentEntry,
        postgres::{
            identities,
            pii::{self, DigestRow},
        },
        retry_lost,
        via::Via,
    },
};

/// A person who was resolved, for one call.
#[derive(Debug)]
pub struct Person {
    /// The organisation whose data it is.
    pub org: Uuid,
    /// The canonical identity.
    pub canonical: Uuid,
    /// The browser that an ID is asked for, or the user where there is none.
    pub owner: Identifier,
    /// The signals that count for the owner.
    pub consent: ConsentEntry,
    /// True where it is a browser that asks, and is told.
    pub is_browser: bool,
    /// True where a caller that may vouch for it asks.
    pub is_vouched: bool,
}

impl Person {
    /// The signals, parsed.
    pub fn signals(&self) -> &Signals {
        self.consent.signals()
    }
}

/// Names of variables that say who the person is, which only counts as theirs where somebody has vouched for it.
const NAMES_A_PERSON: [&str; 7] =
    ["user_id", "canonical_id", "sha256_email", "sha256_phone", PHONE_AS_WRITTEN, uid2::EMAIL, uid2::PHONE];

/// Variable of the hex SHA-256 of a phone's trimmed, lower-case text; templates can't name it.
pub const PHONE_AS_WRITTEN: &str = "phone as written";

/// The facts that are known of a person.
pub struct Known {
    /// Variables of templates.
    pub variables: Variables,
    /// Variables that a browser only claims.
    claimed: Vec<&'static str>,
}

impl Known {
    /// The variables without those that a browser only claims.
    pub fn vouched(mut self) -> Variables {
        for name in self.claimed {
            self.variables.remove(name);
        }
        self.variables
    }

    /// True where one of `names` has a value that is only claimed.
    pub fn is_claimed(&self, names: &[String]) -> bool {
        self.claimed.iter().any(|claimed| names.iter().any(|name| name == claimed))
    }
}

/// Adds what is stored of a person to `variables` of the request.
pub async fn learn(tools: &Tools, person: &Person, mut variables: Variables) -> Result<Known> {
    let (org, owner) = (person.org, &person.owner);
    let (links, contacts) = retry_lost!({
        let mut connection = tools.connection().await?;
        let linked = identities::linked(&mut connection, org, &[person.canonical]).await?;
        let links = linked.into_values().next().unwrap_or_default();
        let contacts = pii::find(&mut connection, org, links.keys()).await?;
        Ok((links, contacts))
    })?;
    let is_proven = person.is_vouched || links.get(owner).is_some_and(|via| via.is_proof());
    let user = links.keys().find(|id| id.kind == Kind::UserId);
    let mut claimed = Vec::new();
    let mut set = |name: &'static str, value: Option<String>, is_vouched: bool| {
        if value.is_some() && !is_vouched && NAMES_A_PERSON.contains(&name) {
            claimed.push(name);
        }
        variables.set(name, value);
    };
    let browser = (owner.kind == Kind::AnonymousId).then(|| owner.value.clone());
    set("anonymous_id", browser, true);
    set("user_id", user.map(|id| id.value.clone()), is_proven);
    set("canonical_id", Some(person.canonical.to_string()), is_proven || user.is_none());

    let own_or_proven = |row: &&DigestRow| {
        let of = Identifier { kind: row.kind(), value: row.value.clone() };
        let is_tied = is_proven && row.verified && links.get(&of).copied().is_some_and(Via::is_proof);
        of == *owner || is_tied
    };
    for what in ["email", "phone"] {
        let rows = contacts.iter().filter(|row| row.what == what).filter(own_or_proven);
        // What is vouched for says more than what this browser claims; of several the newest.
        let best = rows.max_by_key(|row| {
            (row.verified, row.kind() == owner.kind && row.value == owner.value, row.seen_at)
        });
        let Some(row) = best else { continue };
        for (name, value) in digests(what, &row.lower_sha256, row.uid2_sha256.as_deref()) {
            set(name, Some(value), row.verified);
        }
    }
    Ok(Known { variables, claimed })
}

/// The variables of an email or a phone, by the SHA-256 of its trimmed, lower-case text and of UID2's normal form.
pub fn digests(what: &str, lower: &[u8], uid2: Option<&[u8]>) -> Vec<(&'static str, String)> {
    let normal = uid2.unwrap_or(lower);
    match what {
        "phone" => vec![
            ("sha256_phone", hex::encode(normal)),
            (uid2::PHONE, STANDARD.encode(normal)),
            (PHONE_AS_WRITTEN, hex::encode(lower)),
        ],
        _ => vec![("sha256_email", hex::encode(lower)), (uid2::EMAIL, STANDARD.encode(normal))],
    }
}
