//! The first look at Redis: one pipeline for every identifier, with the schedule of the hinted identity read
//! ahead. Where the answers equal the hint, no other round trip is needed.

use std::collections::{BTreeMap, BTreeSet};

use bb8_redis::redis::{Pipeline, Value, from_redis_value};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Resolver, subject::Person};
use crate::{
    auth::Tenant,
    first_party_ids::visit,
    identifiers::Identifier,
    storage::{
        cache_entries::ConsentEntry,
        delivered, projections, read_through,
        redis::{
            keys::{self, Key},
            protocol::Cached,
        },
    },
    sync::view::View,
    vendor_ids::stored::{self, StoredId, StoredIds},
};

/// A canonical identity as one request knows it.
#[derive(Debug, Clone, Copy)]
pub struct KnownIdentity {
    /// The identity's canonical ID.
    pub canonical: Uuid,
    /// True where this request made the identity.
    pub created: bool,
}

/// Facts that one request has learned so far, in trees rather than hash maps: mostly there is one person, and
/// IDs are the visitor's to choose.
#[derive(Debug, Default)]
pub struct Facts {
    canonicals: BTreeMap<Identifier, KnownIdentity>,
    /// Identifiers whose key is missing and may be filled.
    fillable: BTreeSet<Identifier>,
    consents: BTreeMap<String, ConsentEntry>,
    /// Browsers whose consent key is missing and may be filled.
    fillable_consents: BTreeSet<String>,
    syncs: BTreeMap<Uuid, View>,
    /// Stored values of the fields that the request collects, by canonical identity.
    stored: BTreeMap<Uuid, StoredIds>,
    /// Canonical identities that were hinted at.
    hints: Vec<Uuid>,
}

impl Facts {
    /// The canonical identity of an identifier, as far as it is known.
    pub fn canonical(&self, id: &Identifier) -> Option<KnownIdentity> {
        self.canonicals.get(id).copied()
    }

    /// Learns an identifier's canonical identity.
    pub fn learn(&mut self, id: Identifier, known: KnownIdentity) {
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

    /// True where this identity was hinted at for one of the request's people.
    pub fn was_hinted(&self, canonical: Uuid) -> bool {
        self.hints.contains(&canonical)
    }

    /// Stored values of an identity in the fields that the request collects; none where they could not be
    /// read.
    pub fn stored(&self, canonical: Uuid) -> Option<&StoredIds> {
        self.stored.get(&canonical)
    }

    /// Learns an identity's stored values in the fields that the request collects.
    pub fn learn_stored(&mut self, canonical: Uuid, stored: StoredIds) {
        self.stored.insert(canonical, stored);
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

impl Facts {
    /// Asks Redis, in one pipeline, for everything that the people of a request may need. Nothing is known where
    /// Redis is away.
    pub async fn read_ahead(resolver: &Resolver, tenant: &Tenant, people: &[&Person]) -> Self {
        let mut seen = BTreeSet::new();
        let ids: Vec<&Identifier> =
            people.iter().flat_map(|person| person.claims.ids()).filter(|id| seen.insert(*id)).collect();
        let mut seen = BTreeSet::new();
        let browsers: Vec<&str> =
            people.iter().filter_map(|person| person.needs_consent()).filter(|id| seen.insert(*id)).collect();
        let mut hints: Vec<Uuid> = people
            .iter()
            .filter(|person| person.is_read_ahead())
            .filter_map(|person| resolver.hints.get(tenant.org, person.claims.anonymous_id()?))
            .collect();
        hints.sort_unstable();
        hints.dedup();
        if ids.is_empty() {
            return Self::default();
        }

        let fields = collected_fields(tenant, people);
        let mut pipe = Pipeline::new();
        for id in &ids {
            pipe.get(keys::canonical(tenant.org, id).name);
        }
        for anonymous_id in &browsers {
            pipe.get(keys::consent(tenant.org, anonymous_id).name);
        }
        for hint in &hints {
            View::ask(&mut pipe, tenant.org, *hint);
            if !fields.is_empty() {
                stored::ask(&mut pipe, tenant.org, *hint, &fields);
            }
        }
        let answers: Vec<Value> = match resolver.stores.redis.pipeline(&pipe).await {
            Ok(answers) => answers,
            Err(error) => {
                tracing::debug!(%error, "redis is away; serving from postgres");
                return Self::default();
            }
        };

        let mut answers = answers.into_iter();
        let mut text =
            || Cached::of(answers.next().and_then(|answer| from_redis_value(answer).ok()).flatten());
        let mut facts = Self::default();
        for id in ids {
            match text() {
                Cached::Hit(value) => {
                    if let Ok(canonical) = Uuid::try_parse(&value) {
                        facts.learn(id.clone(), KnownIdentity { canonical, created: false });
                    }
                }
                Cached::Miss => {
                    facts.fillable.insert(id.clone());
                }
                Cached::Busy => {}
            }
        }
        for anonymous_id in browsers {
            match text() {
                Cached::Hit(served) => {
                    if let Ok(entry) = serde_json::from_str(&served) {
                        facts.learn_consent(anonymous_id, entry);
                    }
                }
                Cached::Miss => {
                    facts.fillable_consents.insert(anonymous_id.to_owned());
                }
                Cached::Busy => {}
            }
        }
        for hint in &hints {
            if let Some(view) = View::read(&mut answers) {
                facts.syncs.insert(*hint, view);
            }
            if !fields.is_empty()
                && let Some(Ok(ids)) = answers.next().map(|answer| stored::read(answer, &fields))
            {
                facts.learn_stored(*hint, ids);
            }
        }
        facts.hints = hints;
        facts
    }

    /// Takes the second look: at everybody who brings something and was not hinted at, with their schedule.
    /// What can't be read stays unknown.
    pub async fn read_rest(
        &mut self,
        resolver: &Resolver,
        tenant: &Tenant,
        people: &[&Person],
        now: OffsetDateTime,
    ) {
        let fields = collected_fields(tenant, people);
        let mut unknown = BTreeSet::new();
        for person in people.iter().filter(|person| person.observed.is_any()) {
            let Some(known) = self.canonical(&person.claims.primary) else { continue };
            if known.created {
                self.learn_stored(known.canonical, StoredIds::new());
            } else if self.stored(known.canonical).is_none() {
                unknown.insert(known.canonical);
            }
        }
        if unknown.is_empty() {
            return;
        }
        let mut pipe = Pipeline::new();
        for canonical in &unknown {
            stored::ask(&mut pipe, tenant.org, *canonical, &fields);
            View::ask(&mut pipe, tenant.org, *canonical);
        }
        let mut lost = Vec::new();
        let mut missing = Vec::new();
        let answers = resolver.stores.redis.pipeline::<Vec<Value>>(&pipe).await.unwrap_or_default();
        let is_away = answers.is_empty();
        let mut answers = answers.into_iter();
        for canonical in unknown {
            match stored::read(answers.next().unwrap_or(Value::Nil), &fields) {
                Ok(ids) => self.learn_stored(canonical, ids),
                Err(state) => {
                    if state == Cached::Miss && !is_away {
                        missing.push(keys::vendor_ids(tenant.org, canonical));
                    }
                    lost.push(canonical);
                }
            }
            if let Some(view) = View::read(&mut answers) {
                self.learn_syncs(canonical, view);
            }
        }
        if !lost.is_empty() {
            self.load_stored(resolver, tenant.org, &lost, &missing, now).await;
        }
    }

    /// Loads the stored IDs of `lost` from PostgreSQL, and fills those keys of theirs that are `missing`.
    async fn load_stored(
        &mut self,
        resolver: &Resolver,
        org: Uuid,
        lost: &[Uuid],
        missing: &[Key],
        now: OffsetDateTime,
    ) {
        let stores = &resolver.stores;
        let loaded = read_through::through(stores, missing, async {
            let mut connection = stores.connection().await?;
            let (entries, known) = delivered::entries(&mut connection, org, lost, now).await?;
            Ok((known, entries))
        });
        match loaded.await {
            Ok(mut known) => {
                let rebuilt: Vec<Uuid> = known.keys().copied().collect();
                for canonical in lost {
                    let rows = known.remove(canonical).unwrap_or_default();
                    let ids = rows.iter().map(|row| (row.field.clone(), StoredId::of_row(row)));
                    self.learn_stored(*canonical, ids.collect());
                }
                // Redis has lost this identity's keys; the projections for other systems are among them.
                if !missing.is_empty() {
                    projections::refresh(stores, org, rebuilt, now).await;
                }
            }
            Err(error) => {
                serve::warn_on_change!(WARN, %error, "what is stored can't be read; nothing is collected");
            }
        }
    }
}

/// The fields that `people` may change.
fn collected_fields(tenant: &Tenant, people: &[&Person]) -> Vec<&'static str> {
    let Some(source) = tenant.source.as_deref() else { return Vec::new() };
    visit::fields(source, people.iter().map(|person| &person.observed))
}
