//! Removing people for good: on request, and in the end by age.

use std::collections::BTreeSet;

use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Date as SqlDate, SmallInt, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::{
    prepared::Prepared,
    schema::{canonicals, consent, deliveries, links, live_events, redis_repairs, used_states},
};
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use super::resets;
use crate::{
    error::Result,
    identifiers::{Identifier, Kind},
};

/// Finds the identifiers that are linked to these canonical identities.
pub async fn identifiers(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonicals: &[Uuid],
) -> Result<Vec<Identifier>> {
    let found: Vec<(i16, String)> = links::table
        .filter(links::org_id.eq(org))
        .filter(links::canonical_id.eq_any(canonicals))
        .select((links::kind, links::value))
        .load(connection)
        .await?;
    Ok(found.into_iter().map(|(kind, value)| Identifier { kind: Kind::from_number(kind), value }).collect())
}

/// Removes canonical identities with all that hangs on them, and what is kept by browser.
pub async fn remove(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    ids: &[Uuid],
    browsers: &[&str],
) -> Result<()> {
    diesel::delete(canonicals::table.filter(canonicals::org_id.eq(org)).filter(canonicals::id.eq_any(ids)))
        .execute(connection)
        .await?;
    let signals = consent::table.filter(consent::org_id.eq(org));
    diesel::delete(signals.filter(consent::anonymous_id.eq_any(browsers))).execute(connection).await?;
    let used = used_states::table.filter(used_states::org_id.eq(org));
    diesel::delete(used.filter(used_states::anonymous_id.eq_any(browsers))).execute(connection).await?;
    remove_events(connection, org, ids).await?;
    resets::remove(connection, org, browsers).await
}

/// Removes the events of people, wherever they wait or were kept. One that is being sent is stopped there.
async fn remove_events(connection: &mut AsyncPgConnection, org: Uuid, ids: &[Uuid]) -> Result<()> {
    event_log::forget(connection, org, ids).await?;
    let waiting = deliveries::table.filter(deliveries::org_id.eq(org));
    diesel::delete(waiting.filter(deliveries::canonical_id.eq_any(ids))).execute(connection).await?;
    let watched = live_events::table.filter(live_events::org_id.eq(org));
    diesel::delete(watched.filter(live_events::canonical_id.eq_any(ids))).execute(connection).await?;
    Ok(())
}

/// Removes identifiers from what merges of others recorded, in which they took part before they moved on.
pub async fn remove_from_history(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    ids: &BTreeSet<Identifier>,
) -> Result<()> {
    let links: Vec<String> = ids.iter().filter_map(|id| serde_json::to_string(id).ok()).collect();
    Prepared(
        diesel::sql_query(
            "UPDATE merge_history SET moved = jsonb_set(moved, '{links}', COALESCE(( \
                 SELECT jsonb_agg(link) FROM jsonb_array_elements(moved->'links') AS link \
                 WHERE link <> ALL ($2::jsonb[])), '[]')) \
             WHERE org_id = $1 AND moved->'links' @> ANY ($3::jsonb[])",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<Text>, _>(&links)
        // An array contains another's elements, not an object.
        .bind::<Array<Text>, _>(links.iter().map(|link| format!("[{link}]")).collect::<Vec<_>>()),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes repairs of keys that are repaired otherwise.
pub async fn remove_repairs(connection: &mut AsyncPgConnection, org: Uuid, keys: &[&str]) -> Result<()> {
    let own = redis_repairs::table.filter(redis_repairs::org_id.eq(org));
    diesel::delete(own.filter(redis_repairs::redis_key.eq_any(keys))).execute(connection).await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Idle {
    #[diesel(sql_type = SqlUuid)]
    org_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Finds roots that nobody has seen since `day`, the longest unseen first, at most `limit`, with their
/// organisation.
pub async fn idle(connection: &mut AsyncPgConnection, day: Date, limit: i64) -> Result<Vec<(Uuid, Uuid)>> {
    let idle: Vec<Idle> = Prepared(
        diesel::sql_query(
            "SELECT org_id, id FROM canonicals WHERE last_seen_on < $1 AND merged_into IS NULL \
             ORDER BY last_seen_on, org_id LIMIT $2",
        )
        .bind::<SqlDate, _>(day)
        .bind::<BigInt, _>(limit),
    )
    .load(connection)
    .await?;
    Ok(idle.into_iter().map(|row| (row.org_id, row.id)).collect())
}

/// Keeps those of these roots that nobody has seen since `day`.
pub async fn still_idle(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    roots: &[Uuid],
    day: Date,
) -> Result<Vec<Uuid>> {
    Ok(canonicals::table
        .filter(canonicals::org_id.eq(org))
        .filter(canonicals::id.eq_any(roots))
        .filter(canonicals::last_seen_on.lt(day))
        .filter(canonicals::merged_into.is_null())
        .select(canonicals::id)
        .load(connection)
        .await?)
}

/// Statements that remove what is of no use any more by age: one a table, each with the oldest age that is
/// kept.
const AGED: [&str; 14] = [
    "DELETE FROM vendor_ids WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM vendor_ids WHERE expires_at < $1 - interval '7 days' LIMIT $2 FOR UPDATE SKIP LOCKED))",
    "DELETE FROM enrichments WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM enrichments WHERE COALESCE(kept_until, leased_until) < $1 - interval '7 days' LIMIT $2 \
         FOR UPDATE SKIP LOCKED))",
    "DELETE FROM used_states WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM used_states WHERE issued_at < $1 - interval '7 days' LIMIT $2 FOR UPDATE SKIP LOCKED))",
    // As long as a browser keeps a cookie that could bring the two together.
    "DELETE FROM resets WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM resets WHERE at < $1 - interval '400 days' LIMIT $2 FOR UPDATE SKIP LOCKED))",
    "DELETE FROM erased WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM erased WHERE erased_at < $1 - interval '30 days' LIMIT $2 FOR UPDATE SKIP LOCKED))",
    "DELETE FROM audit_log WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM audit_log WHERE at < $1 - interval '90 days' LIMIT $2 FOR UPDATE SKIP LOCKED))",
    // Their refresh tokens go with them. For a week one that was stolen is still told from one that never was.
    "DELETE FROM sessions WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM sessions WHERE expires_at < $1 - interval '7 days' OR revoked_at < $1 - interval '7 days' \
         LIMIT $2 FOR UPDATE SKIP LOCKED))",
    // Those of a session that lives on.
    "DELETE FROM refresh_tokens WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM refresh_tokens WHERE expires_at < $1 - interval '7 days' LIMIT $2 FOR UPDATE SKIP LOCKED))",
    "DELETE FROM deliveries WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM deliveries WHERE dead_at < $1 - interval '14 days' LIMIT $2 FOR UPDATE SKIP LOCKED))",
    "DELETE FROM deliveries WHERE ctid = ANY (ARRAY( \
         SELECT old.ctid FROM destinations CROSS JOIN LATERAL ( \
             SELECT id FROM deliveries WHERE destination_id = destinations.id AND dead_at IS NOT NULL \
             ORDER BY id DESC OFFSET 100000 LIMIT 1) AS last \
         JOIN deliveries old ON old.destination_id = destinations.id AND old.id <= last.id AND old.dead_at <= $1 \
         LIMIT $2))",
    "DELETE FROM live_events WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM live_events WHERE at < $1 - interval '1 hour' LIMIT $2 FOR UPDATE SKIP LOCKED))",
    "DELETE FROM live_watches WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM live_watches WHERE until < $1 - interval '1 hour' LIMIT $2 FOR UPDATE SKIP LOCKED))",
    "DELETE FROM replays WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM replays WHERE finished_at < $1 - interval '90 days' LIMIT $2 FOR UPDATE SKIP LOCKED))",
    "DELETE FROM login_failures WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM login_failures WHERE since < $1 - interval '1 day' LIMIT $2 FOR UPDATE SKIP LOCKED))",
];

/// Removes up to `limit` rows a table that are of no use any more, and returns how many there were.
pub async fn remove_aged(
    connection: &mut AsyncPgConnection,
    now: OffsetDateTime,
    limit: i64,
) -> Result<usize> {
    let mut removed = 0;
    for statement in AGED {
        let query = diesel::sql_query(statement).bind::<Timestamptz, _>(now).bind::<BigInt, _>(limit);
        removed += Prepared(query).execute(connection).await?;
    }
    Ok(removed)
}

/// Writes down that identifiers were used today, where the last time is longer ago, and their canonical identities
/// seen. What another has locked is left for the next time.
pub async fn touch(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    ids: &[Identifier],
    today: Date,
) -> Result<()> {
    let kinds: Vec<i16> = ids.iter().map(|id| id.kind.number()).collect();
    let values: Vec<&str> = ids.iter().map(|id| id.value.as_str()).collect();
    Prepared(
        diesel::sql_query(
            "WITH seen AS ( \
                 SELECT id FROM canonicals WHERE org_id = $1 AND last_seen_on < $4 AND id = ANY (ARRAY( \
                     SELECT own.canonical_id FROM unnest($2, $3) AS wanted (kind, value) \
                     CROSS JOIN LATERAL ( \
                         SELECT canonical_id FROM links WHERE org_id = $1 AND kind = wanted.kind \
                             AND value = wanted.value LIMIT 1) AS own)) \
                 FOR NO KEY UPDATE SKIP LOCKED), \
             used AS ( \
                 UPDATE links SET last_used_at = $4 FROM unnest($2, $3) AS own (kind, value), seen \
                 WHERE links.org_id = $1 AND links.kind = own.kind AND links.value = own.value \
                     AND links.canonical_id = seen.id) \
             UPDATE canonicals SET last_seen_on = $4 FROM seen \
             WHERE canonicals.org_id = $1 AND canonicals.id = seen.id",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SmallInt>, _>(kinds)
        .bind::<Array<Text>, _>(values)
        .bind::<SqlDate, _>(today),
    )
    .execute(connection)
    .await?;
    Ok(())
}
