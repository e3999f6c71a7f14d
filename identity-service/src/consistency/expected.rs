//! The entries that Redis is expected to hold, page by page in the order of PostgreSQL's keys, built by the
//! code that fills.

use std::collections::BTreeMap;

use diesel::{
    prelude::*,
    sql_types::{BigInt, SmallInt, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    error::Result,
    identifiers::{Identifier, Kind},
    storage::{
        attempt::Attempts,
        cache_entries,
        postgres::{consent, syncs},
        redis::protocol::Entry,
    },
    vendor_ids::{
        entries::{self, Known},
        schedules,
    },
};

/// Most rows in a page.
const PAGE: i64 = 500;

/// The table that is walked, with the keys that its rows stand for.
#[derive(Debug, Clone, Copy)]
pub enum Walk {
    /// Canonical identities: `cvid:` and `syncs:`.
    Identities,
    /// Links: `canonical:` and `identity:`.
    Links,
    /// Browsers with consent: `consent:`.
    Consent,
}

/// A row's place in its table. Columns that a table's key does not have are left as they are by default.
#[derive(Debug, Clone, QueryableByName)]
pub struct Place {
    #[diesel(sql_type = SqlUuid)]
    org_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    canonical_id: Uuid,
    #[diesel(sql_type = SmallInt)]
    kind: i16,
    #[diesel(sql_type = Text)]
    value: String,
}

/// A page's entries, and where the next page begins.
pub struct Page {
    /// Entries that Redis may hold.
    pub entries: Vec<Entry>,
    /// The place after which the next page begins; none after the last.
    pub next: Option<Place>,
}

/// Reads the page after a place, or the first.
pub async fn page(
    connection: &mut AsyncPgConnection,
    walk: Walk,
    after: Option<&Place>,
    now: OffsetDateTime,
) -> Result<Page> {
    let sql = match walk {
        Walk::Identities => {
            "SELECT org_id, id AS canonical_id, 0::smallint AS kind, '' AS value FROM canonicals \
             WHERE (org_id, id) > ($1, $2) AND $3 >= -1 AND $4 >= '' AND merged_into IS NULL \
             ORDER BY org_id, id LIMIT $5"
        }
        Walk::Links => {
            "SELECT l.org_id, COALESCE(c.merged_into, c.id) AS canonical_id, l.kind, l.value FROM links l \
             JOIN canonicals c ON c.org_id = l.org_id AND c.id = l.canonical_id \
             WHERE (l.org_id, l.kind, l.value) > ($1, $3, $4) AND $2 IS NOT NULL \
             ORDER BY l.org_id, l.kind, l.value LIMIT $5"
        }
        Walk::Consent => {
            "SELECT org_id, org_id AS canonical_id, 0::smallint AS kind, anonymous_id AS value FROM consent \
             WHERE (org_id, anonymous_id) > ($1, $4) AND $2 IS NOT NULL AND $3 >= -1 \
             ORDER BY org_id, anonymous_id LIMIT $5"
        }
    };
    let rows: Vec<Place> = diesel::sql_query(sql)
        .bind::<SqlUuid, _>(after.map_or(Uuid::nil(), |place| place.org_id))
        .bind::<SqlUuid, _>(after.map_or(Uuid::nil(), |place| place.canonical_id))
        .bind::<SmallInt, _>(after.map_or(-1, |place| place.kind))
        .bind::<Text, _>(after.map_or("", |place| place.value.as_str()))
        .bind::<BigInt, _>(PAGE)
        .load(connection)
        .await?;
    let mut orgs: BTreeMap<Uuid, Vec<&Place>> = BTreeMap::new();
    for row in &rows {
        orgs.entry(row.org_id).or_default().push(row);
    }
    let mut entries = Vec::new();
    for (org, rows) in orgs {
        entries.extend(match walk {
            Walk::Identities => of_identities(connection, org, &rows, now).await?,
            Walk::Links => of_links(connection, org, &rows, now).await?,
            Walk::Consent => of_browsers(connection, org, &rows).await?,
        });
    }
    Ok(Page { entries, next: rows.into_iter().next_back() })
}

async fn of_identities(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    rows: &[&Place],
    now: OffsetDateTime,
) -> Result<Vec<Entry>> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.canonical_id).collect();
    let known = entries::load(connection, org, &ids).await?;
    let mut expected = entries::delivered(connection, org, &known, now).await?;
    let attempts = syncs::find(connection, org, &ids).await?;
    let none = Attempts::new();
    let schedule =
        |(id, own): (&Uuid, &Known)| schedules::entry(org, *id, attempts.get(id).unwrap_or(&none), &own.ties);
    expected.extend(known.iter().map(schedule));
    Ok(expected)
}

async fn of_links(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    rows: &[&Place],
    now: OffsetDateTime,
) -> Result<Vec<Entry>> {
    let mut ids: Vec<Uuid> = rows.iter().map(|row| row.canonical_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let known = entries::load(connection, org, &ids).await?;
    let mut expected = Vec::new();
    for row in rows {
        let kind = Kind::from_number(row.kind);
        let id = Identifier { kind, value: row.value.clone() };
        expected.push(cache_entries::canonical(org, &id, Some(row.canonical_id)));
        if let (Kind::AnonymousId, Some(own)) = (kind, known.get(&row.canonical_id)) {
            expected.push(entries::identity_entry(org, &row.value, own, now));
        }
    }
    Ok(expected)
}

async fn of_browsers(connection: &mut AsyncPgConnection, org: Uuid, rows: &[&Place]) -> Result<Vec<Entry>> {
    let ids: Vec<&str> = rows.iter().map(|row| row.value.as_str()).collect();
    let stored = consent::find(connection, org, &ids).await?;
    Ok(stored.iter().map(|row| cache_entries::consent(org, &row.anonymous_id, Some(row))).collect())
}
