//! The looks at Redis: the first is one pipeline for every identifier, with the schedule of the hinted identity read
//! ahead. Where the answers equal the hint, no other round trip is needed.

use std::collections::{BTreeMap, BTreeSet};

use bb8_redis::redis::{Pipeline, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Resolver,
    facts::{Facts, KnownIdentity, Seen},
    subject::Person,
};
use crate::{
    auth::Tenant,
    first_party_ids::visit,
    graph::Claims,
    identifiers::Identifier,
    storage::{
        read_through,
        redis::{
            keys::{self, Key},
            protocol::Cached,
        },
        retry_lost,
    },
    sync::view::{self, View},
    vendor_ids::{
        entries, refresh,
        stored::{self, StoredId, StoredIds, Unread},
    },
};

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
            .filter(|person| person.mark.is_some())
            .filter_map(|person| {
                let hint = resolver.hints.get(tenant.org, person.claims.anonymous_id()?)?;
                Some((hint, person.mark))
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
            View::ask(&mut pipe, tenant.org, *hint, *mark);
            if !fields.is_empty() {
                stored::ask(&mut pipe, tenant.org, *hint, &fields, *mark);
            }
        }
        let answers = match resolver.stores.redis.pipeline(pipe).await {
            Ok(answers) => answers,
            Err(error) => {
                tracing::debug!(%error, "redis is away; serving from postgres");
                return Self::default();
            }
        };

        let mut answers = answers.into_iter();
        let mut text = || Cached::read(answers.next().unwrap_or(Value::Nil));
        let (mut facts, mut junk) = (Self::default(), Vec::new());
        for id in ids {
            match text().parse(|text| Uuid::try_parse(&text).ok()) {
                Cached::Hit(canonical) => {
                    facts.learn(id.clone(), KnownIdentity { canonical, created: false });
                }
                Cached::Miss => _ = facts.fillable.insert(id.clone()),
                Cached::Busy => {}
                Cached::Junk => {
                    junk.push(keys::canonical(tenant.org, id));
                    facts.fillable.insert(id.clone());
                }
            }
        }
        for anonymous_id in browsers {
            match text().parse(|text| serde_json::from_str(&text).ok()) {
                Cached::Hit(entry) => facts.learn_consent(anonymous_id, entry),
                Cached::Miss => _ = facts.fillable_consents.insert(anonymous_id.to_owned()),
                Cached::Busy => {}
                Cached::Junk => {
                    junk.push(keys::consent(tenant.org, anonymous_id));
                    facts.fillable_consents.insert(anonymous_id.to_owned());
                }
            }
        }
        for seen in &hints {
            facts.read_view(&mut answers, tenant.org, *seen, &mut junk);
            if !fields.is_empty() {
                facts.read_stored(&mut answers, tenant.org, *seen, (&fields, now), &mut junk);
            }
        }
        // Missing from here on: later looks load what is needed.
        resolver.stores.redis.drop_junk(junk).await;
        facts.hints = hints.into_iter().map(|(hint, _)| hint).collect();
        facts
    }

    /// Learns the schedule of one, where it can be read. A key that is none of ours is added to `junk`.
    fn read_view(
        &mut self,
        answers: &mut impl Iterator<Item = Value>,
        org: Uuid,
        seen: Seen,
        junk: &mut Vec<Key>,
    ) {
        match View::read(answers, seen.1) {
            Cached::Hit(view) => _ = self.syncs.insert(seen, view),
            Cached::Junk => junk.push(keys::syncs(org, seen.0)),
            Cached::Miss | Cached::Busy => {}
        }
    }

    /// Learns what is stored of one, as [`Facts::read_view`] does, and says why it can't be read.
    fn read_stored(
        &mut self,
        answers: &mut impl Iterator<Item = Value>,
        org: Uuid,
        seen: Seen,
        (fields, now): (&[&'static str], OffsetDateTime),
        junk: &mut Vec<Key>,
    ) -> Option<Unread> {
        match answers.next().map_or(Err(Unread::Missing), |answer| stored::read(answer, fields, seen.1, now))
        {
            Ok(ids) => {
                self.learn_stored(seen, ids);
                None
            }
            Err(why) => {
                if why == Unread::Junk {
                    junk.push(keys::vendor_ids(org, seen.0));
                }
                Some(why)
            }
        }
    }

    /// Takes a second look before anybody is identified: at browsers that name a user whom they belong to already,
    /// and were not hinted at. What can't be read stays unknown, but for the way of one that comes with a proof.
    pub async fn read_ways(
        &mut self,
        resolver: &Resolver,
        tenant: &Tenant,
        people: &[&Person],
        now: OffsetDateTime,
    ) {
        let mut unread: BTreeMap<Seen, (&str, &Person)> = BTreeMap::new();
        for person in people {
            let Claims { primary, user: Some(user), .. } = &person.claims else { continue };
            let (Some(browser), Some(own)) = (person.claims.anonymous_id(), self.canonical(primary)) else {
                continue;
            };
            let is_theirs = self.canonical(user).is_some_and(|theirs| theirs.canonical == own.canonical);
            let seen = (own.canonical, person.mark);
            if is_theirs && !self.syncs.contains_key(&seen) {
                unread.insert(seen, (browser, person));
            }
        }
        if unread.is_empty() {
            return;
        }
        let fields = collected_fields(tenant, people);
        let collects = |person: &Person| person.observed.is_any() && !fields.is_empty();
        let mut pipe = Pipeline::new();
        for ((canonical, mark), (_, person)) in &unread {
            View::ask(&mut pipe, tenant.org, *canonical, *mark);
            if collects(person) {
                stored::ask(&mut pipe, tenant.org, *canonical, &fields, *mark);
            }
        }
        let answers = resolver.stores.redis.pipeline(pipe).await.unwrap_or_default();
        let (mut answers, mut lost, mut junk) = (answers.into_iter(), Vec::new(), Vec::new());
        for (seen, (browser, person)) in &unread {
            self.read_view(&mut answers, tenant.org, *seen, &mut junk);
            if !self.syncs.contains_key(seen) && person.claims.user_via.is_proof() {
                lost.push((seen, *browser));
            }
            if collects(person) {
                self.read_stored(&mut answers, tenant.org, *seen, (&fields, now), &mut junk);
            }
        }
        resolver.stores.redis.drop_junk(junk).await;
        if lost.is_empty() {
            return;
        }
        let asked: Vec<(Uuid, Option<&str>)> =
            lost.iter().map(|((canonical, _), browser)| (*canonical, Some(*browser))).collect();
        // Boxed, as nearly no call comes this way and each would carry the room for it.
        match Box::pin(view::views(&resolver.stores, tenant.org, &asked, now)).await {
            Ok(views) => self.syncs.extend(lost.into_iter().map(|(seen, _)| *seen).zip(views)),
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
            let seen = (known.canonical, person.mark);
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
            stored::ask(&mut pipe, tenant.org, *canonical, &fields, *mark);
            View::ask(&mut pipe, tenant.org, *canonical, *mark);
        }
        let (mut lost, mut missing, mut junk) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut has_ended = false;
        let answers = resolver.stores.redis.pipeline(pipe).await.unwrap_or_default();
        let is_away = answers.is_empty();
        let mut answers = answers.into_iter();
        for (seen, browser) in unknown {
            if let Some(why) = self.read_stored(&mut answers, tenant.org, seen, (&fields, now), &mut junk) {
                if matches!(why, Unread::Missing | Unread::Junk) && !is_away {
                    missing.push(keys::vendor_ids(tenant.org, seen.0));
                }
                has_ended |= why == Unread::Ended;
                lost.insert(seen, browser);
            }
            self.read_view(&mut answers, tenant.org, seen, &mut junk);
        }
        resolver.stores.redis.drop_junk(junk).await;
        if !lost.is_empty() {
            missing.dedup();
            let refreshes = has_ended || !missing.is_empty();
            Box::pin(self.load_stored(resolver, tenant.org, lost, &missing, refreshes, now)).await;
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
            retry_lost!({
                let mut connection = stores.connection().await?;
                let known = entries::load(&mut connection, org, &canonicals).await?;
                let delivered = entries::delivered(&mut connection, org, &known, now).await?;
                Ok((known, delivered))
            })
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
