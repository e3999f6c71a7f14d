//! Identifiers that Redis does not know: found in PostgreSQL, made where nobody has them, and linked.

use std::collections::HashSet;

use proto::v1::{Refusal, RefusalReason};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{
    Tenant,
    read::{Known, Read},
    subject::Person,
};
use crate::{
    core::Core,
    error::Result,
    identifiers::{Identifier, Kind},
    storage::{
        entries, fill,
        postgres::{create::Creator, identities},
        redis::keys::{self, Key},
    },
};

/// Gives every person a canonical identity. Those that can't get one (PostgreSQL is away) stay unknown.
pub async fn all(core: &Core, tenant: &Tenant, people: &[&Person], read: &mut Read) {
    let mut seen = HashSet::new();
    let unknown: Vec<Identifier> = people
        .iter()
        .flat_map(|person| person.ids())
        .filter(|id| read.canonical(id).is_none() && seen.insert(*id))
        .cloned()
        .collect();
    if !unknown.is_empty() {
        let missing: Vec<Key> = unknown
            .iter()
            .filter(|id| read.is_fillable(id))
            .map(|id| keys::canonical(tenant.org, id))
            .collect();
        let load = async {
            identify(core, tenant, people, read).await?;
            let entries = unknown
                .iter()
                .map(|id| entries::canonical(tenant.org, id, read.canonical(id).map(|known| known.canonical)))
                .collect();
            Ok(((), entries))
        };
        if let Err(error) = fill::through(&core.stores, &missing, load).await {
            tracing::warn!(%error, "identifiers can't be resolved");
            return;
        }
        announce(core, tenant.org, people, read).await;
    }
    for person in people {
        note_conflicts(person, read);
    }
}

async fn identify(core: &Core, tenant: &Tenant, people: &[&Person], read: &mut Read) -> Result<()> {
    // Whoever comes with several identifiers may be known by another of them.
    let linked: Vec<Identifier> = people
        .iter()
        .filter(|person| !person.others.is_empty())
        .flat_map(|person| person.ids())
        .filter(|id| read.canonical(id).is_none())
        .cloned()
        .collect();
    if !linked.is_empty() {
        let mut connection = core.stores.postgres.get().await?;
        let found = identities::find(&mut connection, tenant.org, &linked).await?;
        for (id, root) in linked.into_iter().zip(found) {
            if let Some(canonical) = root {
                read.learn(id, Known { canonical, created: false, refusals: Vec::new() });
            }
        }
    }
    // The others are found or made, in statements shared with other requests.
    let alone: HashSet<&Identifier> = people
        .iter()
        .filter(|person| person.others.is_empty() && read.canonical(&person.primary).is_none())
        .map(|person| &person.primary)
        .collect();
    let mut making = JoinSet::new();
    for id in alone {
        making.spawn(make(core.creator.clone(), tenant.org, id.clone(), tenant.verified));
    }
    while let Some(made) = making.join_next().await {
        let (id, known) = made??;
        read.learn(id, known);
    }
    for person in people.iter().filter(|person| !person.others.is_empty()) {
        link(core, tenant, person, read).await?;
    }
    Ok(())
}

async fn make(creator: Creator, org: Uuid, id: Identifier, verified: bool) -> Result<(Identifier, Known)> {
    let made = creator.get_or_create(org, id.clone(), verified).await?;
    Ok((id, Known { canonical: made.canonical, created: made.created, refusals: Vec::new() }))
}

/// Links a person's unknown identifiers to the canonical identity of a known one. The user's comes first: it
/// is what a later merge would keep.
async fn link(core: &Core, tenant: &Tenant, person: &Person, read: &mut Read) -> Result<()> {
    let ids: Vec<&Identifier> = person.ids().collect();
    if ids.iter().all(|id| read.canonical(id).is_some()) {
        return Ok(());
    }
    let user = ids.iter().find(|id| id.kind == Kind::UserId).and_then(|id| read.canonical(id));
    let known = read.canonical(&person.primary).or(user);
    let known = if let Some(known) = known.or_else(|| ids.iter().find_map(|id| read.canonical(id))) {
        known
    } else {
        let primary = person.primary.clone();
        let (id, known) = make(core.creator.clone(), tenant.org, primary, tenant.verified).await?;
        read.learn(id, known.clone());
        known
    };
    let missing: Vec<Identifier> =
        ids.iter().filter(|id| read.canonical(id).is_none()).map(|id| (*id).clone()).collect();
    let verified: Vec<(Identifier, bool)> = missing
        .iter()
        // A browser vouches for its own ID; who its user is, a signature has to say.
        .map(|id| (id.clone(), tenant.verified || id.kind == Kind::AnonymousId))
        .collect();
    let mut connection = core.stores.postgres.get().await?;
    identities::link(&mut connection, tenant.org, known.canonical, &verified).await?;
    // Another request may have been first.
    let found = identities::find(&mut connection, tenant.org, &missing).await?;
    for (id, root) in missing.into_iter().zip(found) {
        if let Some(canonical) = root {
            let created = known.created && canonical == known.canonical;
            read.learn(id, Known { canonical, created, refusals: Vec::new() });
        }
    }
    Ok(())
}

/// Two canonical identities that belong together stay two until merging is built; the answer says so.
fn note_conflicts(person: &Person, read: &mut Read) {
    let Some(mut known) = read.canonical(&person.primary) else { return };
    known.refusals = person
        .others
        .iter()
        .filter(|id| read.canonical(id).is_some_and(|other| other.canonical != known.canonical))
        .map(|id| Refusal {
            identifier: if id.kind == Kind::UserId { "user_id" } else { "cookie_anonymous_id" }.to_owned(),
            reason: RefusalReason::MergeUnavailable.into(),
        })
        .collect();
    read.learn(person.primary.clone(), known);
}

/// Tells Redis that nothing is known yet of identities made just now, so that their next request needs no
/// PostgreSQL.
async fn announce(core: &Core, org: Uuid, people: &[&Person], read: &mut Read) {
    let mut hashes = Vec::new();
    let mut texts = Vec::new();
    for person in people {
        let Some(known) = read.canonical(&person.primary).filter(|known| known.created) else { continue };
        hashes.push(keys::vendor_ids(org, known.canonical));
        hashes.push(keys::syncs(org, known.canonical));
        if let Some(anonymous_id) = &person.anonymous_id {
            texts.push(entries::consent(org, anonymous_id, None));
            read.learn_consent(anonymous_id, entries::consent_entry(None));
        }
    }
    if let Err(error) = core.stores.redis.put_new(&hashes, &texts).await {
        tracing::debug!(%error, "not announced");
    }
}
