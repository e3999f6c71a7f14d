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
        postgres::{clusters::Cluster, consent, graph, rows::VendorIdRow, syncs, vendor_ids},
        redis::{
            keys,
            protocol::{Entry, Value},
        },
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
    let counted = |cluster: &Cluster| (cluster.linked_on, cluster.linked_times, cluster.last_seen_on);
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
                if old_home != home || old.verified != link.verified || stale {
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
        for (field, row) in &cluster.vendor_ids {
            if was.and_then(|was| was.vendor_ids.get(field)) != Some(row) {
                ids.push(row);
            }
        }
        for (vendor, attempt) in &cluster.attempts {
            if was.and_then(|was| was.attempts.get(vendor)) != Some(attempt) {
                attempts.insert((cluster.id, vendor.clone()), attempt.clone());
            }
        }
        let Some(was) = was else { continue };
        let lost = was.vendor_ids.keys().filter(|field| !cluster.vendor_ids.contains_key(*field));
        lost_ids.extend(lost.map(|field| (cluster.id, field.as_str())));
        let lost = was.attempts.keys().filter(|vendor| !cluster.attempts.contains_key(*vendor));
        lost_attempts.extend(lost.map(|vendor| (cluster.id, vendor.as_str())));
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
    let mut entries = Vec::new();
    // Clusters whose browsers or knowledge changed; those made of strangers alone are announced instead.
    let survivors = after.merges.iter().map(|merge| merge.survivor);
    let mut changed: BTreeSet<Uuid> = survivors.chain(touched.iter().copied()).collect();
    let browser = |id: &Identifier| id.kind == Kind::AnonymousId;
    let ids: BTreeSet<&Identifier> = before.homes.keys().chain(after.homes.keys()).collect();
    for id in ids {
        let (was, is) = (before.homes.get(id), after.homes.get(id));
        if was == is {
            continue;
        }
        entries.push(cache_entries::canonical(org, id, is.copied()));
        if browser(id) {
            changed.extend(was.into_iter().chain(is.filter(|_| was.is_some())));
            let own = is.and_then(|home| after.clusters.get(home)).map(rows).unwrap_or_default();
            entries.push(cache_entries::identity(org, &id.value, &own, after.now));
        }
    }
    changed.retain(|id| after.clusters.contains_key(id));
    let roots: Vec<Uuid> = changed.into_iter().collect();
    let newest: HashMap<Uuid, _> = consent::newest(connection, org, &roots).await?.into_iter().collect();
    for cluster in roots.iter().filter_map(|id| after.clusters.get(id)) {
        let own = rows(cluster);
        let consent = newest.get(&cluster.id);
        entries.push(cache_entries::vendor_ids(org, cluster.id, &own, consent, after.now));
        entries.push(cache_entries::syncs(org, cluster.id, &cluster.attempts));
        let stayed = cluster.links.keys().filter(|id| before.homes.get(*id) == Some(&cluster.id));
        for id in stayed.filter(|id| browser(id)) {
            entries.push(cache_entries::identity(org, &id.value, &own, after.now));
        }
    }
    for merged in gone {
        for key in [keys::vendor_ids(org, *merged), keys::syncs(org, *merged)] {
            entries.push(Entry { key, value: Value::Nothing, ttl_ms: 0 });
        }
    }
    Ok(entries)
}

fn rows(cluster: &Cluster) -> Vec<VendorIdRow> {
    cluster.vendor_ids.values().cloned().collect()
}
