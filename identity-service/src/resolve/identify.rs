//! Identifying the people of a request: PostgreSQL is asked for those whom Redis does not know, unknown ones
//! are made, and what belongs together is linked.

use std::collections::{BTreeMap, HashSet};

use metrics::counter;
use proto::v1::{Refusal, RefusalReason};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{
    Tenant,
    facts::{Known, Read},
    subject::Person,
};
use crate::graph::{transaction::Outcome, writer::Changed};
use crate::{
    app::Core,
    error::Result,
    identifiers::{Identifier, Kind},
    storage::{
        cache_entries,
        postgres::{create::Creator, erasure},
        read_through,
        redis::keys::{self, Key},
    },
};

/// Name of the cookie's ID in a refusal.
const COOKIE: &str = "cookie_anonymous_id";

/// Gives every person's identifiers a canonical identity and links them. Returns what came of each person;
/// what can't be found or made (PostgreSQL is away) stays unknown.
pub async fn all(
    core: &Core,
    tenant: &Tenant,
    people: &[&Person],
    read: &mut Read,
    now: OffsetDateTime,
) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = people.iter().map(|_| Outcome::default()).collect();
    let mut changing = Vec::new();
    // What was read of an identifier says nothing any more once an earlier event of the request may change
    // it.
    let mut named: HashSet<&Identifier> = HashSet::new();
    for (at, person) in people.iter().enumerate() {
        let follows = person.ids().nth(1).is_some() && person.ids().any(|id| named.contains(id));
        if follows || may_change(core, tenant, person, read) || may_verify(core, tenant, person, read) {
            changing.push(at);
            named.extend(person.named());
        }
    }
    let mut seen = HashSet::new();
    let unknown: Vec<Identifier> = people
        .iter()
        .flat_map(|person| person.ids())
        .filter(|id| read.canonical(id).is_none() && seen.insert(*id))
        .cloned()
        .collect();
    if !(changing.is_empty() && unknown.is_empty()) {
        let missing: Vec<Key> = unknown
            .iter()
            .filter(|id| read.is_fillable(id))
            .map(|id| keys::canonical(tenant.org, id))
            .collect();
        let load = async {
            let changes: Vec<&Person> = changing.iter().filter_map(|at| people.get(*at).copied()).collect();
            let found = identify(core, tenant, &changes, &unknown, read, now).await?;
            let canonical = |id| read.canonical(id).map(|known| known.canonical);
            let entries =
                unknown.iter().map(|id| cache_entries::canonical(tenant.org, id, canonical(id))).collect();
            Ok((found, entries))
        };
        match read_through::through(&core.stores, &missing, load).await {
            Ok(found) => {
                for (at, outcome) in changing.into_iter().zip(found) {
                    if let (Some(slot), Some(person)) = (outcomes.get_mut(at), people.get(at)) {
                        remember(core, tenant, person, &outcome, read);
                        *slot = outcome;
                    }
                }
            }
            Err(error) => {
                serve::failing!(WARN, %error, "identifiers can't be resolved");
                // Nothing of it was stored, so nothing of it may look as if it had been.
                let changes = changing.into_iter().filter_map(|at| people.get(at));
                let lost: Vec<_> = changes.filter(|person| may_change(core, tenant, person, read)).collect();
                for id in lost.into_iter().flat_map(|person| person.ids()) {
                    read.forget(id);
                }
            }
        }
        announce(core, tenant.org, people, read).await;
    }
    for (person, outcome) in people.iter().zip(&mut outcomes) {
        note_strangers(core, tenant, person, read, outcome);
    }
    outcomes
}

/// True where the person says something about who is who that may not be known yet.
fn may_change(core: &Core, tenant: &Tenant, person: &Person, read: &Read) -> bool {
    let own = read.canonical(&person.primary).map(|known| known.canonical);
    let others = || person.ids().skip(1);
    let apart = |id: &Identifier| match own.zip(read.canonical(id).map(|known| known.canonical)) {
        None => true,
        Some((own, other)) if own == other => false,
        // Who logs in takes the browser along, wherever it is.
        Some((own, other)) => id.kind == Kind::UserId || !core.strangers.are(tenant.org, own, other),
    };
    person.reset || person.link.is_some() || others().any(apart)
}

/// True where the person vouches for a link that may be stored as a claim only.
fn may_verify(core: &Core, tenant: &Tenant, person: &Person, read: &Read) -> bool {
    let user = person.user.as_ref().filter(|_| person.user_verified);
    user.is_some_and(|user| {
        read.canonical(&person.primary)
            .is_some_and(|own| !core.vouched.knows(tenant.org, user, own.canonical))
    })
}

/// Finds and makes what is unknown, and changes the graph as `changes` say.
async fn identify(
    core: &Core,
    tenant: &Tenant,
    changes: &[&Person],
    unknown: &[Identifier],
    read: &mut Read,
    now: OffsetDateTime,
) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    if !changes.is_empty() {
        let people = changes.iter().map(|person| (*person).clone()).collect();
        let Changed { homes, outcomes: found } = core.graph.identify(tenant.org, people, now).await?;
        for (id, (canonical, created)) in homes {
            read.learn(id, Known { canonical, created });
        }
        outcomes = found;
        count(&outcomes);
    }
    let alone: Vec<Identifier> = unknown.iter().filter(|id| read.canonical(id).is_none()).cloned().collect();
    let made = make_all(core, tenant, &alone).await?;
    let mut known = Vec::new();
    for (id, canonical) in alone.into_iter().zip(made) {
        if !canonical.created {
            known.push(id.clone());
        }
        read.learn(id, canonical);
    }
    // Redis forgets each identifier after a month at the latest, so whoever still comes is seen here.
    if !known.is_empty() {
        let mut connection = core.stores.connection().await?;
        erasure::touch(&mut connection, tenant.org, &known, now.date()).await?;
    }
    Ok(outcomes)
}

fn count(outcomes: &[Outcome]) {
    let merged: usize = outcomes.iter().map(|outcome| outcome.merged.len()).sum();
    counter!("datafly_merges_total").increment(u64::try_from(merged).unwrap_or_default());
}

/// Remembers what need not be tried again, and which user's link is stored as vouched for.
fn remember(core: &Core, tenant: &Tenant, person: &Person, outcome: &Outcome, read: &Read) {
    if let Some((own, other)) = outcome.strangers {
        core.strangers.learn(tenant.org, own, other);
    }
    let Some(own) = read.canonical(&person.primary) else { return };
    if let Some(user) = person.user.as_ref().filter(|_| person.user_verified) {
        core.vouched.learn(tenant.org, user, own.canonical);
    }
}

/// Tells a refusal that was met before and would be met again, without another try.
fn note_strangers(core: &Core, tenant: &Tenant, person: &Person, read: &Read, outcome: &mut Outcome) {
    let own = read.canonical(&person.primary);
    let cookie = person.cookie.as_ref().and_then(|cookie| read.canonical(cookie));
    if let Some((own, cookie)) = own.zip(cookie)
        && core.strangers.are(tenant.org, own.canonical, cookie.canonical)
        && outcome.refusals.iter().all(|refusal| refusal.identifier != COOKIE)
    {
        let reason = RefusalReason::DifferentUsers.into();
        outcome.refusals.push(Refusal { identifier: COOKIE.to_owned(), reason });
    }
}

/// Makes canonical identities, in statements shared with other requests, and returns them in the order asked.
async fn make_all(core: &Core, tenant: &Tenant, ids: &[Identifier]) -> Result<Vec<Known>> {
    let mut making = JoinSet::new();
    for (at, id) in ids.iter().enumerate() {
        let verified = tenant.verified || id.kind == Kind::AnonymousId;
        making.spawn(make(core.creator.clone(), tenant.org, at, id.clone(), verified));
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
    verified: bool,
) -> Result<(usize, Known)> {
    let made = creator.get_or_create(org, id, verified).await?;
    Ok((at, Known { canonical: made.canonical, created: made.created }))
}

/// Tells Redis that nothing is known yet of identities made just now, so that their next request needs no
/// PostgreSQL.
async fn announce(core: &Core, org: Uuid, people: &[&Person], read: &Read) {
    let hashes: Vec<Key> = people
        .iter()
        .flat_map(|person| person.ids())
        .filter_map(|id| read.canonical(id).filter(|known| known.created))
        .flat_map(|known| [keys::vendor_ids(org, known.canonical), keys::syncs(org, known.canonical)])
        .collect();
    if let Err(error) = core.stores.redis.put_new(&hashes).await {
        tracing::debug!(%error, "not announced");
    }
}
