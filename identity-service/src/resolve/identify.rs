//! Identifying the people of a request: PostgreSQL is asked for those whom Redis does not know, unknown ones
//! are made, and what belongs together is linked.

use std::collections::{BTreeMap, HashSet};

use metrics::counter;
use proto::v1::{Refusal, RefusalReason};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{
    Resolver,
    facts::{Facts, KnownIdentity},
    subject::Person,
};
use crate::{
    auth::Tenant,
    error::Result,
    graph::{Claims, transaction::Outcome, writer::Changed},
    identifiers::{Identifier, Kind},
    storage::{
        cache_entries,
        postgres::{create::Creator, erasure},
        read_through,
        redis::keys::{self, Key},
        retry_lost,
        via::Via,
    },
};

/// Name of the cookie's ID in a refusal.
const COOKIE: &str = "cookie_anonymous_id";

/// Gives every person's identifiers a canonical identity and links them. Returns what came of each person;
/// what can't be found or made (PostgreSQL is away) stays unknown.
pub async fn all(
    resolver: &Resolver,
    tenant: &Tenant,
    people: &[&Person],
    facts: &mut Facts,
    now: OffsetDateTime,
) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = people.iter().map(|_| Outcome::default()).collect();
    let mut changing = Vec::new();
    // What was read of an identifier says nothing any more once an earlier event of the request may change
    // it.
    let mut named: HashSet<&Identifier> = HashSet::new();
    for (at, person) in people.iter().enumerate() {
        let follows =
            person.claims.ids().nth(1).is_some() && person.claims.ids().any(|id| named.contains(id));
        if follows || may_change(resolver, tenant, person, facts) || may_tie(resolver, tenant, person, facts)
        {
            changing.push(at);
            named.extend(person.claims.named());
        }
    }
    let mut seen = HashSet::new();
    let unknown: Vec<Identifier> = people
        .iter()
        .flat_map(|person| person.claims.ids())
        .filter(|id| facts.canonical(id).is_none() && seen.insert(*id))
        .cloned()
        .collect();
    if !(changing.is_empty() && unknown.is_empty()) {
        let missing: Vec<Key> = unknown
            .iter()
            .filter(|id| facts.is_fillable(id))
            .map(|id| keys::canonical(tenant.org, id))
            .collect();
        let load = async {
            let changes: Vec<&Person> = changing.iter().filter_map(|at| people.get(*at).copied()).collect();
            let found = identify(resolver, tenant, &changes, &unknown, facts, now).await?;
            let canonical = |id| facts.canonical(id).map(|known| known.canonical);
            let entries =
                unknown.iter().map(|id| cache_entries::canonical(tenant.org, id, canonical(id))).collect();
            Ok((found, entries))
        };
        match read_through::through(&resolver.stores, &missing, load).await {
            Ok(found) => {
                for (at, outcome) in changing.into_iter().zip(found) {
                    if let (Some(slot), Some(person)) = (outcomes.get_mut(at), people.get(at)) {
                        remember(resolver, tenant, person, &outcome, facts);
                        facts.forget_syncs(&person.claims.primary);
                        *slot = outcome;
                    }
                }
            }
            Err(error) => {
                serve::warn_on_change!(WARN, %error, "identifiers can't be resolved");
                // Nothing of it was stored, so nothing of it may look as if it had been.
                let changes = changing.into_iter().filter_map(|at| people.get(at));
                let lost: Vec<_> =
                    changes.filter(|person| may_change(resolver, tenant, person, facts)).collect();
                for id in lost.into_iter().flat_map(|person| person.claims.ids()) {
                    facts.forget(id);
                }
            }
        }
        announce(resolver, tenant.org, people, facts).await;
    }
    for (person, outcome) in people.iter().zip(&mut outcomes) {
        note_known(resolver, tenant, person, facts, outcome);
    }
    outcomes
}

/// True where the person says something about who is who that may not be known yet.
fn may_change(resolver: &Resolver, tenant: &Tenant, person: &Person, facts: &Facts) -> bool {
    let own = facts.canonical(&person.claims.primary).map(|known| known.canonical);
    let others = || person.claims.ids().skip(1);
    let apart = |id: &Identifier| match own.zip(facts.canonical(id).map(|known| known.canonical)) {
        None => true,
        Some((own, other)) if own == other => false,
        // Who logs in takes the browser along, wherever it is.
        Some((own, other)) => {
            id.kind == Kind::UserId || !resolver.distinct_users.knows(tenant.org, own, other)
        }
    };
    person.claims.reset || person.claims.link.is_some() || others().any(apart)
}

/// True where the way in which the person names their user may be stronger than the one that is stored. Where that
/// is not known, a proof is taken to be, and a claim is not: nothing depends on whether it was one.
fn may_tie(resolver: &Resolver, tenant: &Tenant, person: &Person, facts: &Facts) -> bool {
    let Claims { primary, user, user_via, .. } = &person.claims;
    let Some(user) = user else { return false };
    let own = facts.canonical(primary);
    if user == primary {
        let knows = |own: KnownIdentity| resolver.proven_users.knows(tenant.org, user, own.canonical);
        return user_via.is_proof() && !own.is_some_and(knows);
    }
    let Some(own) = own else { return false };
    facts.way(own.canonical, person.mark).map_or(user_via.is_proof(), |way| way < *user_via)
}

/// Finds and makes what is unknown, and changes the graph as `changes` say.
async fn identify(
    resolver: &Resolver,
    tenant: &Tenant,
    changes: &[&Person],
    unknown: &[Identifier],
    facts: &mut Facts,
    now: OffsetDateTime,
) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    if !changes.is_empty() {
        let people = changes.iter().map(|person| person.claims.clone()).collect();
        let Changed { homes, outcomes: found } = resolver.graph.identify(tenant.org, people, now).await?;
        for (id, (canonical, created)) in homes {
            facts.learn(id, KnownIdentity { canonical, created });
        }
        outcomes = found;
        count(&outcomes);
    }
    let alone: Vec<Identifier> = unknown.iter().filter(|id| facts.canonical(id).is_none()).cloned().collect();
    let made = make_all(resolver, tenant, &alone).await?;
    let mut known = Vec::new();
    for (id, canonical) in alone.into_iter().zip(made) {
        if !canonical.created {
            known.push(id.clone());
        }
        facts.learn(id, canonical);
    }
    // Redis forgets each identifier after a month at the latest, so whoever still comes is seen here.
    if !known.is_empty() {
        let (stores, day) = (&resolver.stores, now.date());
        retry_lost!({ erasure::touch(&mut *stores.connection().await?, tenant.org, &known, day).await })?;
    }
    Ok(outcomes)
}

fn count(outcomes: &[Outcome]) {
    let merged: usize = outcomes.iter().map(|outcome| outcome.merged.len()).sum();
    counter!("datafly_merges_total").increment(u64::try_from(merged).unwrap_or_default());
}

/// Remembers what need not be tried again, and which users are vouched for.
fn remember(resolver: &Resolver, tenant: &Tenant, person: &Person, outcome: &Outcome, facts: &Facts) {
    if let Some((own, other)) = outcome.distinct_users {
        resolver.distinct_users.learn(tenant.org, own, other);
    }
    let Claims { primary, user, user_via, .. } = &person.claims;
    if let Some((own, user)) = facts.canonical(primary).zip(user.as_ref())
        && user == primary
        && user_via.is_proof()
        && outcome.is_applied
    {
        resolver.proven_users.learn(tenant.org, user, own.canonical);
    }
}

/// Tells a refusal that was met before and would be met again, without another try; and that the browser keeps its
/// cookie, where nothing of the event was new.
fn note_known(resolver: &Resolver, tenant: &Tenant, person: &Person, facts: &Facts, outcome: &mut Outcome) {
    let own = facts.canonical(&person.claims.primary);
    let cookie = person.claims.cookie.as_ref().and_then(|cookie| facts.canonical(cookie));
    let Some((own, cookie)) = own.zip(cookie) else { return };
    if resolver.distinct_users.knows(tenant.org, own.canonical, cookie.canonical)
        && outcome.refusals.iter().all(|refusal| refusal.identifier != COOKIE)
    {
        let reason = RefusalReason::DifferentUsers.into();
        outcome.refusals.push(Refusal { identifier: COOKIE.to_owned(), reason });
    }
    outcome.keeps_cookie |= !outcome.is_applied && own.canonical == cookie.canonical;
}

/// Makes canonical identities, in statements shared with other requests, and returns them in the order asked.
async fn make_all(resolver: &Resolver, tenant: &Tenant, ids: &[Identifier]) -> Result<Vec<KnownIdentity>> {
    let mut making = JoinSet::new();
    for (at, id) in ids.iter().enumerate() {
        let via = match id.kind {
            Kind::AnonymousId => Via::Own,
            Kind::UserId if tenant.verified => Via::Signed,
            Kind::UserId => Via::Claim,
        };
        making.spawn(make(resolver.creator.clone(), tenant.org, at, id.clone(), via));
    }
    let mut made = BTreeMap::new();
    while let Some(done) = making.join_next().await {
        let (at, known) = done??;
        made.insert(at, known);
    }
    Ok(made.into_values().collect())
}

async fn make(
    creator: Creator,
    org: Uuid,
    at: usize,
    id: Identifier,
    via: Via,
) -> Result<(usize, KnownIdentity)> {
    let made = creator.get_or_create(org, id, via).await?;
    Ok((at, KnownIdentity { canonical: made.canonical, created: made.created }))
}

/// Tells Redis that nothing is known yet of identities made just now, so that their next request needs no
/// PostgreSQL. Of those that have a browser and a user something is known: how the one came to the other.
async fn announce(resolver: &Resolver, org: Uuid, people: &[&Person], facts: &Facts) {
    let made =
        |id: &Identifier| facts.canonical(id).filter(|known| known.created).map(|known| known.canonical);
    let with_ways =
        people.iter().filter(|person| person.claims.browser().is_some() && person.claims.user.is_some());
    let with_ways: HashSet<Uuid> =
        with_ways.flat_map(|person| person.claims.ids()).filter_map(made).collect();
    let hashes: Vec<Key> = people
        .iter()
        .flat_map(|person| person.claims.ids())
        .filter_map(made)
        .filter(|canonical| !with_ways.contains(canonical))
        .flat_map(|canonical| [keys::vendor_ids(org, canonical), keys::syncs(org, canonical)])
        .collect();
    if let Err(error) = resolver.stores.redis.put_new(&hashes).await {
        tracing::debug!(%error, "not announced");
    }
}
