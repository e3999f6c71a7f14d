//! The schedule of syncs, and the states that have been used.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use diesel::{
    prelude::*,
    sql_types::{Array, Binary, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::sync_attempts;
use time::OffsetDateTime;
use uuid::Uuid;

use migrations::prepared::Prepared;

use super::rows::{AttemptRow, BrowserAndVendor};
use crate::{
    error::Result,
    pii::Digest,
    storage::attempt::{Attempt, Attempts, VendorAndBrowser},
};

/// Finds the schedules of all vendors that browsers of each of these canonical identities were sent to.
pub async fn find(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonicals: &[Uuid],
) -> Result<HashMap<Uuid, Attempts>> {
    let rows: Vec<AttemptRow> = sync_attempts::table
        .filter(sync_attempts::org_id.eq(org))
        .filter(sync_attempts::canonical_id.eq_any(canonicals))
        .select(AttemptRow::as_select())
        .load(connection)
        .await?;
    let mut found: HashMap<Uuid, Attempts> = HashMap::new();
    for row in rows {
        let (canonical, of, attempt) = row.into_attempt();
        found.entry(canonical).or_default().insert(of, attempt);
    }
    Ok(found)
}

/// Stores schedules, each in the place of the browser's earlier one with the vendor.
pub async fn store(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    rows: &BTreeMap<(Uuid, VendorAndBrowser), Attempt>,
) -> Result<()> {
    let attempts = || rows.values();
    Prepared(
diesel::sql_query(
        "INSERT INTO sync_attempts (org_id, canonical_id, vendor, anonymous_id, last_synced, ttl_days, outcome, \
             attempts, unanswered_since, next_at, period_since, period_stored) \
         SELECT $1, * FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
         ON CONFLICT (org_id, canonical_id, vendor, anonymous_id) DO UPDATE SET \
             last_synced = excluded.last_synced, ttl_days = excluded.ttl_days, outcome = excluded.outcome, \
             attempts = excluded.attempts, unanswered_since = excluded.unanswered_since, \
             next_at = excluded.next_at, period_since = excluded.period_since, \
             period_stored = excluded.period_stored",
    )
    .bind::<SqlUuid, _>(org)
    .bind::<Array<SqlUuid>, _>(rows.keys().map(|(canonical, _)| *canonical).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(rows.keys().map(|(_, (vendor, _))| vendor.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(rows.keys().map(|(_, (_, browser))| browser.as_str()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(attempts().map(|a| a.last_synced).collect::<Vec<_>>())
    .bind::<Array<Nullable<Integer>>, _>(attempts().map(|a| a.ttl_days).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(attempts().map(|a| a.outcome.word()).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(attempts().map(|a| a.attempts).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(attempts().map(|a| a.unanswered_since).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(attempts().map(|a| a.next_at).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(attempts().map(|a| Some(a.period?.since)).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(attempts().map(|a| a.period.is_some_and(|own| own.is_stored)).collect::<Vec<_>>()),
)
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes schedules, each named by its canonical identity, vendor and browser.
pub async fn remove(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    schedules: &[(Uuid, &str, &str)],
) -> Result<()> {
    Prepared(
        diesel::sql_query(
            "DELETE FROM sync_attempts USING unnest($2, $3, $4) AS old (canonical_id, vendor, anonymous_id) \
             WHERE sync_attempts.org_id = $1 AND sync_attempts.canonical_id = old.canonical_id \
                 AND sync_attempts.vendor = old.vendor AND sync_attempts.anonymous_id = old.anonymous_id",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SqlUuid>, _>(schedules.iter().map(|(canonical, ..)| *canonical).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(schedules.iter().map(|(_, vendor, _)| *vendor).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(schedules.iter().map(|(.., browser)| *browser).collect::<Vec<_>>()),
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Used {
    #[diesel(sql_type = Text)]
    anonymous_id: String,
    #[diesel(sql_type = Text)]
    vendor: String,
    #[diesel(sql_type = Timestamptz)]
    issued_at: OffsetDateTime,
}

/// Finds the time up to which states of each browser and vendor do not count any more: the last one used, or
/// the browser's erasure. To be read under the lock on the browser's canonical identity. `pairs` come with
/// the digests that the erased are known by. One look-up a pair: a plain join reads all states of the
/// organisation where PostgreSQL takes the table for small, as it does until it has analysed it.
pub async fn used_states(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    pairs: &BTreeSet<(BrowserAndVendor, Digest)>,
) -> Result<HashMap<BrowserAndVendor, OffsetDateTime>> {
    let used: Vec<Used> = Prepared(
        diesel::sql_query(
            "SELECT wanted.anonymous_id, wanted.vendor, own.issued_at \
         FROM unnest($2, $3, $4) AS wanted (anonymous_id, vendor, digest) \
         CROSS JOIN LATERAL ( \
             (SELECT issued_at FROM used_states WHERE org_id = $1 AND anonymous_id = wanted.anonymous_id \
                 AND vendor = wanted.vendor LIMIT 1) \
             UNION ALL \
             (SELECT erased_at FROM erased WHERE org_id = $1 AND digest = wanted.digest LIMIT 1)) AS own",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<Text>, _>(pairs.iter().map(|((browser, _), _)| browser.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(pairs.iter().map(|((_, vendor), _)| vendor.as_str()).collect::<Vec<_>>())
        .bind::<Array<Binary>, _>(pairs.iter().map(|(_, digest)| digest.as_slice()).collect::<Vec<_>>()),
    )
    .load(connection)
    .await?;
    let mut latest = HashMap::new();
    for row in used {
        let at = latest.entry((row.anonymous_id, row.vendor)).or_insert(row.issued_at);
        *at = row.issued_at.max(*at);
    }
    Ok(latest)
}

/// Uses up states: those, and earlier ones of the same browser and vendor, do not count again.
pub async fn use_states(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    states: &BTreeMap<BrowserAndVendor, OffsetDateTime>,
) -> Result<()> {
    Prepared(
        diesel::sql_query(
            "INSERT INTO used_states (org_id, anonymous_id, vendor, issued_at) \
         SELECT $1, * FROM unnest($2, $3, $4) \
         ON CONFLICT (org_id, anonymous_id, vendor) DO UPDATE SET \
             issued_at = GREATEST(used_states.issued_at, excluded.issued_at)",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<Text>, _>(states.keys().map(|(browser, _)| browser.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(states.keys().map(|(_, vendor)| vendor.as_str()).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(states.values().copied().collect::<Vec<_>>()),
    )
    .execute(connection)
    .await?;
    Ok(())
}
