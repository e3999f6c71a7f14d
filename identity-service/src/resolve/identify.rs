//! Identifiers that Redis does not know: found in PostgreSQL, made where nobody has them, and linked.

use std::collections::HashSet;

use proto::v1::{Refusal, RefusalReason};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{
    Tenant,
    link::Link,
    plan::{Plan, Target},
    read::{Known, Read},
    subject::Person,
};
use crate::{
    core::Core,
    error::Result,
    identifiers::{Identifier, Kind},
    storage::{
        change, entries, fill,
        postgres::{create::Creator, identities},
        redis::keys::{self, Key},
    },
};

/// Gives every person's identifiers a canonical identity, and returns each person's refusals. What can't get one
/// (PostgreSQL is away) stays unknown.
pub async fn all(
    core: &Core,
    tenant: &Tenant,
    people: &[&Person],
    read: &mut Read,
    now: OffsetDateTime,
) -> Vec<Vec<Refusal>> {
    let mut seen = HashSet::new();
    let unknown: Vec<Identifier> = people
        .iter()
        .flat_map(|person| person.ids())
        .filter(|id| read.canonical(id).is_none() && seen.insert(*id))
        .cloned()
        .collect();
    let mut refusals = vec![Vec::new(); people.len()];
    if !unknown.is_empty() {
        let missing: Vec<Key> = unknown
            .iter()
            .filter(|id| read.is_fillable(id))
            .map(|id| keys::canonical(tenant.org, id))
            .collect();
        let load = async {
            let planned = identify(core, tenant, people, read, now).await?;
            let canonical = |id| read.canonical(id).map(|known| known.canonical);
            let entries =
                unknown.iter().map(|id| entries::canonical(tenant.org, id, canonical(id))).collect();
            Ok((planned, entries))
        };
        match fill::through(&core.stores, &missing, load).await {
            Ok(planned) => refusals = planned,
            Err(error) => tracing::warn!(%error, "identifiers can't be resolved"),
        }
        announce(core, tenant.org, people, read).await;
    }
    for (person, refusals) in people.iter().zip(&mut refusals) {
        note_conflicts(person, read, refusals);
    }
    refusals
}

async fn identify(
    core: &Core,
    tenant: &Tenant,
    people: &[&Person],
    read: &mut Read,
    now: OffsetDateTime,
) -> Result<Vec<Vec<Refusal>>> {
    // Whoever comes with several identifiers may be known by another of them, and have a user already.
    let several = || people.iter().filter(|person| !person.others.is_empty());
    let mut seen = HashSet::new();
    let asked: Vec<Identifier> = several()
        .flat_map(|person| person.ids())
        .filter(|id| read.canonical(id).is_none() && seen.insert(*id))
        .cloned()
        .collect();
    let mut users = HashSet::new();
    if !asked.is_empty() {
        let mut connection = core.stores.connection().await?;
        let found = identities::find(&mut connection, tenant.org, &asked).await?;
        for (id, root) in asked.into_iter().zip(found) {
            if let Some(canonical) = root {
                read.learn(id, Known { canonical, created: false });
            }
        }
        let known: Vec<Uuid> = several()
            .flat_map(|person| person.ids())
            .filter_map(|id| read.canonical(id).map(|known| known.canonical))
            .collect();
        if !known.is_empty() {
            users = identities::with_user(&mut connection, tenant.org, &known).await?;
        }
    }

    let plan = Plan::of(people, |id| read.canonical(id).map(|known| known.canonical), users);
    let made = make_all(core, tenant, &plan.new).await?;
    let mut links = Vec::with_capacity(plan.links.len());
    for (id, target) in plan.links {
        let canonical = match target {
            Target::Known(canonical) => Some(canonical),
            Target::New(at) => made.get(at).map(|known| known.canonical),
        };
        // A browser vouches for its own ID; who its user is, a signature has to say.
        let verified = tenant.verified || id.kind == Kind::AnonymousId;
        links.extend(canonical.map(|canonical| (id, canonical, verified)));
    }
    for (id, known) in plan.new.into_iter().zip(made) {
        read.learn(id, known);
    }
    if !links.is_empty() {
        let linked = change::commit(&core.stores, Link::new(tenant.org, links, now)).await?.output;
        for (id, canonical) in linked {
            read.learn(id, Known { canonical, created: false });
        }
    }
    Ok(plan.refusals)
}

/// Makes canonical identities, in statements shared with other requests. In the order asked.
async fn make_all(core: &Core, tenant: &Tenant, ids: &[Identifier]) -> Result<Vec<Known>> {
    let mut making = JoinSet::new();
    for (at, id) in ids.iter().enumerate() {
        let verified = tenant.verified || id.kind == Kind::AnonymousId;
        making.spawn(make(core.creator.clone(), tenant.org, at, id.clone(), verified));
    }
    let mut made = Vec::with_capacity(ids.len());
    while let Some(done) = making.join_next().await {
        made.push(done??);
    }
    made.sort_unstable_by_key(|(at, _)| *at);
    Ok(made.into_iter().map(|(_, known)| known).collect())
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

/// Two canonical identities that belong together stay two until merging is built; the answer says so.
fn note_conflicts(person: &Person, read: &Read, refusals: &mut Vec<Refusal>) {
    let Some(own) = read.canonical(&person.primary) else { return };
    for id in &person.others {
        let name = if id.kind == Kind::UserId { "user_id" } else { "cookie_anonymous_id" };
        let apart = read.canonical(id).is_some_and(|other| other.canonical != own.canonical);
        if apart && refusals.iter().all(|refusal| refusal.identifier != name) {
            let reason = RefusalReason::MergeUnavailable.into();
            refusals.push(Refusal { identifier: name.to_owned(), reason });
        }
    }
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
