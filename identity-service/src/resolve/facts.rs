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
    graph::Claims,
    identifiers::Identifier,
    storage::{
        Stores,
        cache_entries::ConsentEntry,
        read_through,
        redis::{
            keys::{self, Key},
            protocol::Cached,
        },
        via::Via,
    },
    sync::view::{self, View},
    vendor_ids::{
        entries, refresh,
        stored::{self, StoredId, StoredIds, Unread},
    },
};

/// A canonical identity as one request knows it.
#[derive(Debug, Clone, Copy)]
pub struct KnownIdentity {
    /// The identity's canonical ID.
    pub canonical: Uuid,
    /// True where this request made the identity.
    pub created: bool,
}

/// A canonical identity, and the mark of the browser for which it is looked at.
type Seen = (Uuid, String);

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
    /// Schedules by canonical identity and browser.
    syncs: BTreeMap<Seen, View>,
    /// Stored values of the fields that the request collects, by canonical identity and browser.
    stored: BTreeMap<Seen, StoredIds>,
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

    /// Stored values of a person's browser in the fields that the request collects; none where they could not be read.
    pub fn stored(&self, canonical: Uuid, mark: &str) -> Option<&StoredIds> {
        self.stored.get(&(canonical, mark.to_owned()))
    }

    fn learn_stored(&mut self, seen: Seen, stored: StoredIds) {
        self.stored.insert(seen, stored);
    }

    /// The way in which a browser is known to have come to its user.
    pub fn way(&self, canonical: Uuid, mark: &str) -> Option<Via> {
        self.syncs.get(&(canonical, mark.to_owned()))?.way(mark)
    }

    /// Takes the schedule that was read ahead; none where this one was not.
    pub fn take_syncs(&mut self, canonical: Uuid, mark: &str) -> Option<View> {
        self.syncs.remove(&(canonical, mark.to_owned()))
    }
}

impl Facts {
    /// Asks Redis, in one pipeline, for everything that the people of a request may need. Nothing is known where
    /// Redis is away.
    pub async fn read_ahead(
        resolver: &Resolver,
        tenant: &Tenant,
        people: &[&Person],
        now: OffsetDateTime,
    ) -> Self {
        let mut seen = BTreeSet::new();
        let ids: Vec<&Identifier> =
            people.iter().flat_map(|person| person.claims.ids()).filter(|id| seen.insert(*id)).collect();
        let mut seen = BTreeSet::new();
        let browsers: Vec<&str> =
            people.iter().filter_map(|person| person.needs_consent()).filter(|id| seen.insert(*id)).collect();
        let mut hints: Vec<Seen> = people
            .iter()
            .filter(|person| !person.mark.is_empty())
            .filter_map(|person| {
                let hint = resolver.hints.get(tenant.org, person.claims.anonymous_id()?)?;
                Some((hint, person.mark.clone()))
            })
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
        for (hint, mark) in &hints {
            View::ask(&mut pipe, tenant.org, *hint, Some(mark));
            if !fields.is_empty() {
                stored::ask(&mut pipe, tenant.org, *hint, &fields, mark);
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
        for seen in &hints {
            if let Some(view) = View::read(&mut answers, Some(&seen.1)) {
                facts.syncs.insert(seen.clone(), view);
            }
            if !fields.is_empty()
                && let Some(Ok(ids)) =
                    answers.next().map(|answer| stored::read(answer, &fields, &seen.1, now))
            {
                facts.learn_stored(seen.clone(), ids);
            }
        }
        facts.hints = hints.into_iter().map(|(hint, _)| hint).collect();
        facts
    }

    /// Looks at the ways of browsers that name a user whom they belong to already, and were not hinted at. What can't be
    /// read stays unknown.
    pub async fn read_ways(&mut self, stores: &Stores, org: Uuid, people: &[&Person], now: OffsetDateTime) {
        let mut unread: BTreeMap<Seen, &str> = BTreeMap::new();
        for person in people {
            let Claims { primary, user: Some(user), .. } = &person.claims else { continue };
            let (Some(browser), Some(own)) = (person.claims.anonymous_id(), self.canonical(primary)) else {
                continue;
            };
            let is_theirs = self.canonical(user).is_some_and(|theirs| theirs.canonical == own.canonical);
            let seen = (own.canonical, person.mark.clone());
            if is_theirs && !self.syncs.contains_key(&seen) {
                unread.insert(seen, browser);
            }
        }
        if unread.is_empty() {
            return;
        }
        let asked: Vec<(Uuid, Option<&str>)> =
            unread.iter().map(|((canonical, _), browser)| (*canonical, Some(*browser))).collect();
        match view::views(stores, org, &asked, now).await {
            Ok(views) => self.syncs.extend(unread.into_keys().zip(views)),
            Err(error) => serve::warn_on_change!(WARN, %error, "ways can't be read"),
        }
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
        let mut unknown: BTreeMap<Seen, &str> = BTreeMap::new();
        for person in people.iter().filter(|person| person.observed.is_any()) {
            let Some(known) = self.canonical(&person.claims.primary) else { continue };
            let seen = (known.canonical, person.mark.clone());
            match person.claims.anonymous_id() {
                Some(browser) if !known.created => {
                    if !self.stored.contains_key(&seen) {
                        unknown.insert(seen, browser);
                    }
                }
                // Redis does not tell what a user brought without a browser; the writer looks at that.
                _ => self.learn_stored(seen, StoredIds::new()),
            }
        }
        if unknown.is_empty() {
            return;
        }
        let mut pipe = Pipeline::new();
        for (canonical, mark) in unknown.keys() {
            stored::ask(&mut pipe, tenant.org, *canonical, &fields, mark);
            View::ask(&mut pipe, tenant.org, *canonical, Some(mark));
        }
        let (mut lost, mut missing, mut has_ended) = (BTreeMap::new(), Vec::new(), false);
        let answers = resolver.stores.redis.pipeline::<Vec<Value>>(&pipe).await.unwrap_or_default();
        let is_away = answers.is_empty();
        let mut answers = answers.into_iter();
        for (seen, browser) in unknown {
            match stored::read(answers.next().unwrap_or(Value::Nil), &fields, &seen.1, now) {
                Ok(ids) => self.learn_stored(seen.clone(), ids),
                Err(why) => {
                    if why == Unread::Missing && !is_away {
                        missing.push(keys::vendor_ids(tenant.org, seen.0));
                    }
                    has_ended |= why == Unread::Ended;
                    lost.insert(seen.clone(), browser);
                }
            }
            if let Some(view) = View::read(&mut answers, Some(&seen.1)) {
                self.syncs.insert(seen, view);
            }
        }
        if !lost.is_empty() {
            missing.dedup();
            let refreshes = has_ended || !missing.is_empty();
            self.load_stored(resolver, tenant.org, lost, &missing, refreshes, now).await;
        }
    }

    /// Loads the stored IDs of the browsers of `lost` from PostgreSQL, and fills those keys that are `missing`.
    async fn load_stored(
        &mut self,
        resolver: &Resolver,
        org: Uuid,
        lost: BTreeMap<Seen, &str>,
        missing: &[Key],
        refreshes: bool,
        now: OffsetDateTime,
    ) {
        let stores = &resolver.stores;
        let canonicals: BTreeSet<Uuid> = lost.keys().map(|(canonical, _)| *canonical).collect();
        let canonicals: Vec<Uuid> = canonicals.into_iter().collect();
        let loaded = read_through::through(stores, missing, async {
            let mut connection = stores.connection().await?;
            let known = entries::load(&mut connection, org, &canonicals).await?;
            let delivered = entries::delivered(&mut connection, org, &known, now).await?;
            Ok((known, delivered))
        });
        match loaded.await {
            Ok(known) => {
                for (seen, browser) in lost {
                    let rows = known.get(&seen.0).map(|own| own.ids.as_slice()).unwrap_or_default();
                    let own = rows.iter().filter(|row| row.owner.anonymous_id() == Some(browser));
                    let ids = own.map(|row| (row.field.clone(), StoredId::of_row(row))).collect();
                    self.learn_stored(seen, ids);
                }
                // Redis has lost this identity's keys, or something in them has ended.
                if refreshes {
                    let with_ids = known.iter().filter(|(_, own)| !own.ids.is_empty());
                    let with_ids = with_ids.map(|(canonical, _)| *canonical).collect();
                    refresh::refresh(stores, org, with_ids, now).await;
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
