//! Reading and writing clusters of the identity graph. Writers have locked the clusters' canonical identities
//! before.

use std::collections::{BTreeMap, HashMap};

use diesel::{
    prelude::*,
    sql_types::{Array, Date as SqlDate, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::{canonicals, links, sync_attempts, vendor_ids as ids};
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use migrations::prepared::Prepared;

use super::{
    clusters::{Cluster, Link, Merge},
    rows::{Owner, VendorIdRow},
    syncs, vendor_ids,
};
use crate::{
    error::{Error, Result},
    identifiers::{Identifier, Kind},
    storage::via::Via,
};

/// Reads the clusters of these roots, whole.
pub async fn clusters(connection: &mut AsyncPgConnection, org: Uuid, roots: &[Uuid]) -> Result<Vec<Cluster>> {
    if roots.is_empty() {
        return Ok(Vec::new());
    }
    let counted: Vec<(Uuid, Option<Date>, i32, i32, Date)> = canonicals::table
        .filter(canonicals::org_id.eq(org))
        .filter(canonicals::id.eq_any(roots))
        .select((
            canonicals::id,
            canonicals::linked_on,
            canonicals::linked_times,
            canonicals::proven_times,
            canonicals::last_seen_on,
        ))
        .load(connection)
        .await?;
    let linked: Vec<(Uuid, i16, String, String, OffsetDateTime, OffsetDateTime)> = links::table
        .filter(links::org_id.eq(org))
        .filter(links::canonical_id.eq_any(roots))
        .select((
            links::canonical_id,
            links::kind,
            links::value,
            links::via,
            links::linked_at,
            links::last_used_at,
        ))
        .load(connection)
        .await?;
    let mut own_links: HashMap<Uuid, BTreeMap<Identifier, Link>> = HashMap::new();
    for (canonical, kind, value, via, linked_at, last_used_at) in linked {
        let id = Identifier { kind: Kind::from_number(kind), value };
        let link = Link { via: Via::from_word(&via), linked_at, last_used_at };
        own_links.entry(canonical).or_default().insert(id, link);
    }
    let mut own_ids: HashMap<Uuid, BTreeMap<(String, Owner), VendorIdRow>> = HashMap::new();
    for row in vendor_ids::find(connection, org, roots).await? {
        let place = (row.field.clone(), row.owner.clone());
        own_ids.entry(row.canonical_id).or_default().insert(place, row);
    }
    let mut attempts = syncs::find(connection, org, roots).await?;
    let cluster = |(id, linked_on, linked_times, proven_times, last_seen_on)| Cluster {
        id,
        made: false,
        linked_on,
        linked_times,
        proven_times,
        last_seen_on,
        links: own_links.remove(&id).unwrap_or_default(),
        vendor_ids: own_ids.remove(&id).unwrap_or_default(),
        attempts: attempts.remove(&id).unwrap_or_default(),
    };
    Ok(counted.into_iter().map(cluster).collect())
}

/// Stores new canonical identities.
pub async fn make(connection: &mut AsyncPgConnection, org: Uuid, made: &[&Cluster]) -> Result<()> {
    Prepared(
        diesel::sql_query(
            "INSERT INTO canonicals (org_id, id, linked_on, linked_times, proven_times) \
             SELECT $1, * FROM unnest($2, $3, $4, $5)",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SqlUuid>, _>(made.iter().map(|cluster| cluster.id).collect::<Vec<_>>())
        .bind::<Array<Nullable<SqlDate>>, _>(made.iter().map(|cluster| cluster.linked_on).collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(made.iter().map(|cluster| cluster.linked_times).collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(made.iter().map(|cluster| cluster.proven_times).collect::<Vec<_>>()),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Stores how many links known canonical identities got, and when they were seen.
pub async fn count(connection: &mut AsyncPgConnection, org: Uuid, counted: &[&Cluster]) -> Result<()> {
    Prepared(
        diesel::sql_query(
            "UPDATE canonicals SET linked_on = new.linked_on, linked_times = new.linked_times, \
             proven_times = new.proven_times, last_seen_on = new.last_seen_on \
         FROM unnest($2, $3, $4, $5, $6) AS new (id, linked_on, linked_times, proven_times, last_seen_on) \
         WHERE canonicals.org_id = $1 AND canonicals.id = new.id",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SqlUuid>, _>(counted.iter().map(|cluster| cluster.id).collect::<Vec<_>>())
        .bind::<Array<Nullable<SqlDate>>, _>(
            counted.iter().map(|cluster| cluster.linked_on).collect::<Vec<_>>(),
        )
        .bind::<Array<Integer>, _>(counted.iter().map(|cluster| cluster.linked_times).collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(counted.iter().map(|cluster| cluster.proven_times).collect::<Vec<_>>())
        .bind::<Array<SqlDate>, _>(counted.iter().map(|cluster| cluster.last_seen_on).collect::<Vec<_>>()),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// An identifier's new place: the identifier, its canonical identity, and the link between them.
pub type Place<'a> = (&'a Identifier, Uuid, &'a Link);

/// Links identifiers that nobody had, sorted. [`Error::Moved`] where somebody has one by now.
pub async fn link(connection: &mut AsyncPgConnection, org: Uuid, new: &[Place<'_>]) -> Result<()> {
    let linked = Prepared(
        diesel::sql_query(
            "INSERT INTO links (org_id, kind, value, canonical_id, via, linked_at, last_used_at) \
         SELECT $1, * FROM unnest($2, $3, $4, $5, $6, $7) ON CONFLICT (org_id, kind, value) DO NOTHING",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SmallInt>, _>(kinds(new))
        .bind::<Array<Text>, _>(values(new))
        .bind::<Array<SqlUuid>, _>(new.iter().map(|(_, canonical, _)| *canonical).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(new.iter().map(|(_, _, link)| link.via.word()).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(new.iter().map(|(_, _, link)| link.linked_at).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(new.iter().map(|(_, _, link)| link.last_used_at).collect::<Vec<_>>()),
    )
    .execute(connection)
    .await?;
    if linked == new.len() { Ok(()) } else { Err(Error::Moved) }
}

/// Gives linked identifiers another place.
pub async fn relink(connection: &mut AsyncPgConnection, org: Uuid, moved: &[Place<'_>]) -> Result<()> {
    Prepared(
        diesel::sql_query(
            "UPDATE links SET canonical_id = new.canonical_id, via = new.via, \
             linked_at = new.linked_at, last_used_at = new.last_used_at \
         FROM unnest($2, $3, $4, $5, $6, $7) \
             AS new (kind, value, canonical_id, via, linked_at, last_used_at) \
         WHERE links.org_id = $1 AND links.kind = new.kind AND links.value = new.value",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SmallInt>, _>(kinds(moved))
        .bind::<Array<Text>, _>(values(moved))
        .bind::<Array<SqlUuid>, _>(moved.iter().map(|(_, canonical, _)| *canonical).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(moved.iter().map(|(_, _, link)| link.via.word()).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(moved.iter().map(|(_, _, link)| link.linked_at).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(
            moved.iter().map(|(_, _, link)| link.last_used_at).collect::<Vec<_>>(),
        ),
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn kinds(places: &[Place<'_>]) -> Vec<i16> {
    places.iter().map(|(id, _, _)| id.kind.number()).collect()
}

fn values<'a>(places: &[Place<'a>]) -> Vec<&'a str> {
    places.iter().map(|(id, _, _)| id.value.as_str()).collect()
}

/// Drops identifiers from their canonical identities.
pub async fn unlink(connection: &mut AsyncPgConnection, org: Uuid, dropped: &[&Identifier]) -> Result<()> {
    Prepared(
        diesel::sql_query(
            "DELETE FROM links USING unnest($2, $3) AS old (kind, value) \
         WHERE links.org_id = $1 AND links.kind = old.kind AND links.value = old.value",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SmallInt>, _>(dropped.iter().map(|id| id.kind.number()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(dropped.iter().map(|id| id.value.as_str()).collect::<Vec<_>>()),
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Rerooted {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    was: Uuid,
}

/// Points merged canonical identities, and what had been merged into them before, at their roots. `merged`
/// has pairs of a merged identity and its root. Returns what had been merged into each. No vendor IDs or
/// schedules are left with them.
pub async fn reroot(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    merged: &[(Uuid, Uuid)],
) -> Result<HashMap<Uuid, Vec<Uuid>>> {
    let old: Vec<Uuid> = merged.iter().map(|(old, _)| *old).collect();
    let roots: Vec<Uuid> = merged.iter().map(|(_, root)| *root).collect();
    let earlier: Vec<Rerooted> = Prepared(
        diesel::sql_query(
            "UPDATE canonicals SET merged_into = new.root FROM unnest($2, $3) AS new (id, root) \
         WHERE canonicals.org_id = $1 AND canonicals.merged_into = new.id \
         RETURNING canonicals.id, new.id AS was",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SqlUuid>, _>(&old)
        .bind::<Array<SqlUuid>, _>(&roots),
    )
    .load(connection)
    .await?;
    Prepared(
        diesel::sql_query(
            "UPDATE canonicals SET merged_into = new.root FROM unnest($2, $3) AS new (id, root) \
         WHERE canonicals.org_id = $1 AND canonicals.id = new.id",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SqlUuid>, _>(&old)
        .bind::<Array<SqlUuid>, _>(&roots),
    )
    .execute(connection)
    .await?;
    diesel::delete(ids::table.filter(ids::org_id.eq(org)).filter(ids::canonical_id.eq_any(&old)))
        .execute(connection)
        .await?;
    let attempts = sync_attempts::table.filter(sync_attempts::org_id.eq(org));
    diesel::delete(attempts.filter(sync_attempts::canonical_id.eq_any(&old))).execute(connection).await?;
    let mut before: HashMap<Uuid, Vec<Uuid>> = HashMap::new();
    for row in earlier {
        before.entry(row.was).or_default().push(row.id);
    }
    Ok(before)
}

/// Records merges with what each moved.
pub async fn remember(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    merges: &[Merge],
    now: OffsetDateTime,
) -> Result<()> {
    let moved = merges.iter().map(|merge| serde_json::to_string(&merge.moved).unwrap_or_default());
    Prepared(
        diesel::sql_query(
            "INSERT INTO merge_history (id, org_id, survivor_id, merged_id, moved, merged_at) \
         SELECT new.id, $1, new.survivor, new.merged, new.moved::jsonb, $6 \
         FROM unnest($2, $3, $4, $5) AS new (id, survivor, merged, moved)",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SqlUuid>, _>(merges.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(merges.iter().map(|merge| merge.survivor).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(merges.iter().map(|merge| merge.merged).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(moved.collect::<Vec<_>>())
        .bind::<Timestamptz, _>(now),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Counts refused links: canonical identity, name of the identifier, reason. No triple may come twice in one
/// call.
pub async fn refuse(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    refused: &[(Uuid, String, &'static str)],
    now: OffsetDateTime,
) -> Result<()> {
    Prepared(
        diesel::sql_query(
            "INSERT INTO link_refusals (org_id, canonical_id, identifier, reason, last_at) \
         SELECT $1, new.canonical_id, new.identifier, new.reason, $5 \
         FROM unnest($2, $3, $4) AS new (canonical_id, identifier, reason) \
         ON CONFLICT (org_id, canonical_id, identifier, reason) DO UPDATE SET \
             times = link_refusals.times + 1, last_at = excluded.last_at",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SqlUuid>, _>(refused.iter().map(|(canonical, _, _)| *canonical).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(refused.iter().map(|(_, name, _)| name.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(refused.iter().map(|(_, _, reason)| *reason).collect::<Vec<_>>())
        .bind::<Timestamptz, _>(now),
    )
    .execute(connection)
    .await?;
    Ok(())
}
