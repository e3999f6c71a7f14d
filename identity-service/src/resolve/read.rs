//! The first look: one pipeline for every identifier, with the guess's schedule read ahead. Where the answers
//! equal the guess it was the only round trip.

use std::collections::HashMap;

use bb8_redis::redis::{Pipeline, Value, from_redis_value};
use proto::v1::Refusal;
use uuid::Uuid;

use super::{Tenant, subject::Person};
use crate::{
    core::Core,
    identifiers::Identifier,
    storage::redis::{keys, protocol::Text},
    sync::pending::View,
};

/// A canonical identity as one request knows it.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its ID.
    pub canonical: Uuid,
    /// This request made it.
    pub created: bool,
    /// Identifiers that were not linked to it.
    pub refusals: Vec<Refusal>,
}

/// What one request has learned.
#[derive(Debug, Default)]
pub struct Read {
    canonicals: HashMap<Identifier, Known>,
    /// Identifiers whose key is missing and may be filled.
    fillable: Vec<Identifier>,
    /// Consent by anonymous ID; Missing and Marked go to PostgreSQL.
    consents: HashMap<String, Text>,
    syncs: HashMap<Uuid, View>,
}

impl Read {
    /// What is known of an identifier.
    pub fn canonical(&self, id: &Identifier) -> Option<Known> {
        self.canonicals.get(id).cloned()
    }

    /// Learns an identifier's canonical identity.
    pub fn learn(&mut self, id: Identifier, known: Known) {
        self.canonicals.insert(id, known);
    }

    /// The identifier is unknown to Redis, which may be told.
    pub fn is_fillable(&self, id: &Identifier) -> bool {
        self.fillable.contains(id)
    }

    /// What Redis said of a browser's consent.
    pub fn consent(&self, anonymous_id: &str) -> &Text {
        self.consents.get(anonymous_id).unwrap_or(&Text::Marked)
    }

    /// Learns a browser's consent.
    pub fn learn_consent(&mut self, anonymous_id: &str, served: String) {
        self.consents.insert(anonymous_id.to_owned(), Text::Ready(served));
    }

    /// The schedule that was read ahead, if it was this one's.
    pub fn take_syncs(&mut self, canonical: Uuid) -> Option<View> {
        self.syncs.remove(&canonical)
    }
}

/// Asks Redis for everything the people of a request may need. Redis being away answers nothing.
pub async fn first(core: &Core, tenant: &Tenant, people: &[&Person]) -> Read {
    let mut ids: Vec<&Identifier> = Vec::new();
    let mut browsers: Vec<&str> = Vec::new();
    let mut guesses: Vec<Uuid> = Vec::new();
    for person in people {
        for id in std::iter::once(&person.primary).chain(&person.others) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        let Some(anonymous_id) = person.anonymous_id.as_deref() else { continue };
        let needs_consent = person.want_pending_syncs || person.consent.is_some();
        if needs_consent && !browsers.contains(&anonymous_id) {
            browsers.push(anonymous_id);
        }
        if person.want_pending_syncs {
            let guess = core.guesses.get(&(tenant.org, anonymous_id.to_owned()));
            guesses.extend(guess.filter(|guess| !guesses.contains(guess)));
        }
    }
    if ids.is_empty() {
        return Read::default();
    }

    let mut pipe = Pipeline::new();
    for id in &ids {
        pipe.get(keys::canonical(tenant.org, id).name);
    }
    for anonymous_id in &browsers {
        pipe.get(keys::consent(tenant.org, anonymous_id).name);
    }
    for guess in &guesses {
        View::ask(&mut pipe, tenant.org, *guess);
    }
    let answers: Vec<Value> = match core.stores.redis.pipeline(&pipe).await {
        Ok(answers) => answers,
        Err(error) => {
            tracing::warn!(%error, "redis is away; serving from postgres");
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
                    read.learn(id.clone(), Known { canonical, created: false, refusals: Vec::new() });
                }
            }
            Text::Missing => read.fillable.push(id.clone()),
            Text::Marked => {}
        }
    }
    for anonymous_id in browsers {
        let consent = text();
        read.consents.insert(anonymous_id.to_owned(), consent);
    }
    for guess in guesses {
        if let Some(view) = View::read(&mut answers) {
            read.syncs.insert(guess, view);
        }
    }
    read
}
