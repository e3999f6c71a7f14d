//! Writing what a change made of a graph: to PostgreSQL, and as the entries that Redis is to hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use diesel_async::AsyncPgConnection;
use time::Duration;
use uuid::Uuid;

use super::Graph;
use crate::{
    error::Result,
    identifiers::{Identifier, Kind},
    storage::{
        cache_entries,
        postgres::{clusters::Cluster, consent, graph, syncs, vendor_ids},
        redis::{
            keys,
            protocol::{Entry, Value},
        },
    },
    vendor_ids::{
        entries::{self, Known},
        schedules,
    },
};

/// Shortest time between two notes of an identifier's use.
const USED_PERIOD: Duration = Duration::days(1);

/// Writes the difference between `before` and `after`, both of which are locked. Redis is to hold all of
/// `touched` anew, whatever became of it.
pub async fn write(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    before: &Graph,
    after: &mut Graph,
    touched: &[Uuid],
) -> Result<Vec<Entry>> {
    write_clusters(connection, org, before, after).await?;
    let gone: BTreeSet<Uuid> = after.merges.iter().map(|merge| merge.merged).collect();
    if !gone.is_empty() {
        write_merges(connection, org, after).await?;
    }
    write_links(connection, org, before, after).await?;
    write_knowledge(connection, org, before, after).await?;
    entries(connection, org, before, after, &gone, touched).await
}

async fn write_clusters(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    before: &Graph,
    after: &Graph,
) -> Result<()> {
    let made = |cluster: &&Cluster| cluster.made && !cluster.links.is_empty();
    let made: Vec<&Cluster> = after.clusters.values().filter(made).collect();
    if !made.is_empty() {
        graph::make(connection, org, &made).await?;
    }
    let counted = |cluster: &Cluster| {
        (cluster.linked_on, cluster.linked_times, cluster.proven_times, cluster.last_seen_on)
    };
    let changed = |cluster: &&Cluster| {
        before.clusters.get(&cluster.id).is_some_and(|was| counted(was) != counted(cluster))
    };
    let changed: Vec<&Cluster> = after.clusters.values().filter(changed).collect();
    if !changed.is_empty() {
        graph::count(connection, org, &changed).await?;
    }
    Ok(())
}

async fn write_merges(connection: &mut AsyncPgConnection, org: Uuid, after: &mut Graph) -> Result<()> {
    // Of several merges in a row each one's survivor may be merged in turn.
    let mut roots: HashMap<Uuid, Uuid> = HashMap::new();
    for merge in after.merges.iter().rev() {
        roots.insert(merge.merged, *roots.get(&merge.survivor).unwrap_or(&merge.survivor));
    }
    let pairs: Vec<(Uuid, Uuid)> =
        after.merges.iter().filter_map(|merge| Some((merge.merged, *roots.get(&merge.merged)?))).collect();
    let mut within = graph::reroot(connection, org, &pairs).await?;
    for merge in &mut after.merges {
        let own = within.remove(&merge.merged).unwrap_or_default();
        let into = within.entry(merge.survivor).or_default();
        into.push(merge.merged);
        into.extend(&own);
        merge.moved.merged = own;
    }
    graph::remember(connection, org, &after.merges, after.now).await
}

async fn write_links(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    before: &Graph,
    after: &Graph,
) -> Result<()> {
    let (mut new, mut moved) = (Vec::new(), Vec::new());
    for (id, home) in &after.homes {
        let Some(link) = after.clusters.get(home).and_then(|cluster| cluster.links.get(id)) else { continue };
        let was = before.homes.get(id);
        let was = was.and_then(|home| Some((home, before.clusters.get(home)?.links.get(id)?)));
        match was {
            None => new.push((id, *home, link)),
            Some((old_home, old)) => {
                let stale = link.last_used_at - old.last_used_at > USED_PERIOD;
                if old_home != home || old.via != link.via || stale {
                    moved.push((id, *home, link));
                }
            }
        }
    }
    let dropped: Vec<&Identifier> = before.homes.keys().filter(|id| !after.homes.contains_key(id)).collect();
    if !new.is_empty() {
        graph::link(connection, org, &new).await?;
    }
    if !moved.is_empty() {
        graph::relink(connection, org, &moved).await?;
    }
    if !dropped.is_empty() {
        graph::unlink(connection, org, &dropped).await?;
    }
    Ok(())
}

/// Vendor IDs and schedules that came to a cluster, and those that left one that is still there.
async fn write_knowledge(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    before: &Graph,
    after: &Graph,
) -> Result<()> {
    let (mut ids, mut attempts) = (Vec::new(), BTreeMap::new());
    let (mut lost_ids, mut lost_attempts) = (Vec::new(), Vec::new());
    for cluster in after.clusters.values() {
        let was = before.clusters.get(&cluster.id);
        for (place, row) in &cluster.vendor_ids {
            if was.and_then(|was| was.vendor_ids.get(place)) != Some(row) {
                ids.push(row);
            }
        }
        for (of, attempt) in &cluster.attempts {
            if was.and_then(|was| was.attempts.get(of)) != Some(attempt) {
                attempts.insert((cluster.id, of.clone()), attempt.clone());
            }
        }
        let Some(was) = was else { continue };
        let lost = was.vendor_ids.keys().filter(|place| !cluster.vendor_ids.contains_key(*place));
        lost_ids.extend(lost.map(|(field, owner)| (cluster.id, field.as_str(), owner)));
        let lost = was.attempts.keys().filter(|of| !cluster.attempts.contains_key(*of));
        lost_attempts.extend(lost.map(|(vendor, browser)| (cluster.id, vendor.as_str(), browser.as_str())));
    }
    if !ids.is_empty() {
        vendor_ids::store(connection, org, &ids).await?;
    }
    if !attempts.is_empty() {
        syncs::store(connection, org, &attempts).await?;
    }
    if !lost_ids.is_empty() {
        vendor_ids::remove(connection, org, &lost_ids).await?;
    }
    if !lost_attempts.is_empty() {
        syncs::remove(connection, org, &lost_attempts).await?;
    }
    Ok(())
}

/// Entries that Redis is to hold of everything that has changed.
async fn entries(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    before: &Graph,
    after: &Graph,
    gone: &BTreeSet<Uuid>,
    touched: &[Uuid],
) -> Result<Vec<Entry>> {
    let mut changes = Vec::new();
    // Clusters whose browsers, ties or knowledge changed; strangers are announced instead, unless they have a user,
    // to whom each has come in some way.
    let survivors = after.merges.iter().map(|merge| merge.survivor);
    let mut changed: BTreeSet<Uuid> = survivors.chain(touched.iter().copied()).collect();
    let known: BTreeMap<Uuid, Known> = after.clusters.values().map(|own| (own.id, own.known())).collect();
    let browser = |id: &Identifier| id.kind == Kind::AnonymousId;
    let ids: BTreeSet<&Identifier> = before.homes.keys().chain(after.homes.keys()).collect();
    for id in ids {
        let (was, is) = (before.homes.get(id), after.homes.get(id));
        if was == is {
            continue;
        }
        changes.push(cache_entries::canonical(org, id, is.copied()));
        if browser(id) {
            changed.extend(is.filter(|_| was.is_some()));
            let nothing = Known::default();
            let own = is.and_then(|home| known.get(home)).unwrap_or(&nothing);
            changes.push(entries::identity_entry(org, &id.value, own, after.now));
        }
    }
    let differs =
        |own: &&Cluster| before.clusters.get(&own.id).is_some_and(|was| is_served_otherwise(was, own));
    changed.extend(after.clusters.values().filter(differs).map(|own| own.id));
    // One without a user has no schedule that is anybody's alone either.
    let made = after.clusters.values().filter(|own| own.made && own.user().is_some());
    changed.extend(made.map(|own| own.id));
    changed.retain(|id| after.clusters.contains_key(id));
    let roots: Vec<Uuid> = changed.into_iter().collect();
    let newest: HashMap<Uuid, _> = consent::newest(connection, org, &roots).await?.into_iter().collect();
    for cluster in roots.iter().filter_map(|id| after.clusters.get(id)) {
        let Some(own) = known.get(&cluster.id) else { continue };
        let consent = newest.get(&cluster.id);
        changes.push(entries::vendor_ids_entry(org, cluster.id, own, consent, after.now));
        changes.push(schedules::entry(org, cluster.id, &cluster.attempts, &own.ties));
        if before.clusters.contains_key(&cluster.id) {
            changes.push(cache_entries::no_profiles(org, cluster.id));
        }
        let stayed = cluster.links.keys().filter(|id| before.homes.get(*id) == Some(&cluster.id));
        for id in stayed.filter(|id| browser(id)) {
            changes.push(entries::identity_entry(org, &id.value, own, after.now));
        }
    }
    for merged in gone {
        for key in [keys::vendor_ids(org, *merged), keys::syncs(org, *merged)] {
            changes.push(Entry { key, value: Value::Nothing, ttl_ms: 0 });
        }
        changes.push(cache_entries::no_profiles(org, *merged));
    }
    Ok(changes)
}

/// True where Redis is to hold something else of an identity than before. An event may take a browser away and bring
/// it back, which leaves what it had brought without an owner.
fn is_served_otherwise(was: &Cluster, is: &Cluster) -> bool {
    let ties = |own: &Cluster| own.links.iter().map(|(id, link)| (id.clone(), link.via)).collect::<Vec<_>>();
    ties(was) != ties(is) || was.vendor_ids != is.vendor_ids || was.attempts != is.attempts
}
