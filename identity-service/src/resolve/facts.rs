//! The first look at Redis: one pipeline for every identifier, with the schedule of the guessed identity read
//! ahead. Where the answers equal the guess, no other round trip is needed.

use std::collections::{BTreeMap, BTreeSet};

use bb8_redis::redis::{Pipeline, Value, from_redis_value};
use uuid::Uuid;

use super::{Tenant, subject::Person};
use crate::{
    app::Core,
    first_party_ids,
    identifiers::Identifier,
    storage::{
        cache_entries::ConsentEntry,
        redis::{keys, protocol::Text},
    },
    sync::view::View,
    vendor_ids::stored::Fields,
};

/// A canonical identity as one request knows it.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// The identity's canonical ID.
    pub canonical: Uuid,
    /// True where this request made the identity.
    pub created: bool,
}

/// Facts that one request has learned so far, in trees rather than hash maps: mostly there is one person, and
/// IDs are the visitor's to choose.
#[derive(Debug, Default)]
pub struct Read {
    canonicals: BTreeMap<Identifier, Known>,
    /// Identifiers whose key is missing and may be filled.
    fillable: BTreeSet<Identifier>,
    consents: BTreeMap<String, ConsentEntry>,
    /// Browsers whose consent key is missing and may be filled.
    fillable_consents: BTreeSet<String>,
    syncs: BTreeMap<Uuid, View>,
    /// Stored values of the fields that the request collects, by canonical identity.
    held: BTreeMap<Uuid, Fields>,
    /// Canonical identities that were guessed.
    guesses: Vec<Uuid>,
}

impl Read {
    /// The canonical identity of an identifier, as far as it is known.
    pub fn canonical(&self, id: &Identifier) -> Option<Known> {
        self.canonicals.get(id).copied()
    }

    /// Learns an identifier's canonical identity.
    pub fn learn(&mut self, id: Identifier, known: Known) {
        self.canonicals.insert(id, known);
    }

    /// Forgets the canonical identity of an identifier, which does not count any more.
    pub fn forget(&mut self, id: &Identifier) {
        self.canonicals.remove(id);
    }

    /// True where Redis does not know the identifier and may be told.
    pub fn is_fillable(&self, id: &Identifier) -> bool {
        self.fillable.contains(id)
    }

    /// Consent that is stored for a browser; none where it could not be read.
    pub fn consent(&self, anonymous_id: &str) -> Option<&ConsentEntry> {
        self.consents.get(anonymous_id)
    }

    /// Learns the consent that is stored for a browser.
    pub fn learn_consent(&mut self, anonymous_id: &str, entry: ConsentEntry) {
        self.consents.insert(anonymous_id.to_owned(), entry);
    }

    /// True where Redis does not know the browser's consent and may be told.
    pub fn is_consent_fillable(&self, anonymous_id: &str) -> bool {
        self.fillable_consents.contains(anonymous_id)
    }

    /// True where this identity was guessed for one of the request's people.
    pub fn was_guessed(&self, canonical: Uuid) -> bool {
        self.guesses.contains(&canonical)
    }

    /// Stored values of an identity in the fields that the request collects; none where they could not be
    /// read.
    pub fn held(&self, canonical: Uuid) -> Option<&Fields> {
        self.held.get(&canonical)
    }

    /// Learns an identity's stored values in the fields that the request collects.
    pub fn learn_held(&mut self, canonical: Uuid, held: Fields) {
        self.held.insert(canonical, held);
    }

    /// Learns an identity's schedule.
    pub fn learn_syncs(&mut self, canonical: Uuid, view: View) {
        self.syncs.insert(canonical, view);
    }

    /// Takes the schedule that was read ahead; none where this identity's was not.
    pub fn take_syncs(&mut self, canonical: Uuid) -> Option<View> {
        self.syncs.remove(&canonical)
    }
}

/// Asks Redis, in one pipeline, for everything that the people of a request may need. Nothing is known where
/// Redis is away.
pub async fn first(core: &Core, tenant: &Tenant, people: &[&Person]) -> Read {
    let mut seen = BTreeSet::new();
    let ids: Vec<&Identifier> =
        people.iter().flat_map(|person| person.ids()).filter(|id| seen.insert(*id)).collect();
    let mut seen = BTreeSet::new();
    let browsers: Vec<&str> =
        people.iter().filter_map(|person| person.needs_consent()).filter(|id| seen.insert(*id)).collect();
    let mut guesses: Vec<Uuid> = people
        .iter()
        .filter(|person| person.is_read_ahead())
        .filter_map(|person| core.guesses.get(tenant.org, person.anonymous_id()?))
        .collect();
    guesses.sort_unstable();
    guesses.dedup();
    if ids.is_empty() {
        return Read::default();
    }

    let fields = first_party_ids::read::fields(tenant, people);
    let mut pipe = Pipeline::new();
    for id in &ids {
        pipe.get(keys::canonical(tenant.org, id).name);
    }
    for anonymous_id in &browsers {
        pipe.get(keys::consent(tenant.org, anonymous_id).name);
    }
    for guess in &guesses {
        View::ask(&mut pipe, tenant.org, *guess);
        if !fields.is_empty() {
            first_party_ids::read::ask(&mut pipe, tenant.org, *guess, &fields);
        }
    }
    let answers: Vec<Value> = match core.stores.redis.pipeline(&pipe).await {
        Ok(answers) => answers,
        Err(error) => {
            tracing::debug!(%error, "redis is away; serving from postgres");
            return Read::default();
        }
    };

    let mut answers = answers.into_iter();
    let mut text = || Text::of(answers.next().and_then(|answer| from_redis_value(answer).ok()).flatten());
    let mut read = Read::default();
    for id in ids {
        match text() {
            Text::Ready(value) => {
                if let Ok(canonical) = Uuid::try_parse(&value) {
                    read.learn(id.clone(), Known { canonical, created: false });
                }
            }
            Text::Missing => {
                read.fillable.insert(id.clone());
            }
            Text::Marked => {}
        }
    }
    for anonymous_id in browsers {
        match text() {
            Text::Ready(served) => {
                if let Ok(entry) = serde_json::from_str(&served) {
                    read.learn_consent(anonymous_id, entry);
                }
            }
            Text::Missing => {
                read.fillable_consents.insert(anonymous_id.to_owned());
            }
            Text::Marked => {}
        }
    }
    for guess in &guesses {
        if let Some(view) = View::read(&mut answers) {
            read.syncs.insert(*guess, view);
        }
        if !fields.is_empty()
            && let Some(Ok(held)) = answers.next().map(|answer| first_party_ids::read::judge(answer, &fields))
        {
            read.learn_held(*guess, held);
        }
    }
    read.guesses = guesses;
    read
}
