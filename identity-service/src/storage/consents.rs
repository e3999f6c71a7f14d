//! Consent signals of browsers, from Redis, else from PostgreSQL.

use std::collections::HashMap;

use uuid::Uuid;

use super::{
    Stores,
    cache_entries::{self, ConsentEntry},
    postgres::{consent, rows::ConsentRow},
    read_through,
    redis::{
        keys::{self, Key},
        protocol::Cached,
    },
};
use crate::error::Result;

/// Signals of many browsers, as far as Redis knows them.
pub struct Served<'a> {
    known: HashMap<String, ConsentEntry>,
    /// Browsers of which PostgreSQL is to be asked, and whether Redis may be told then.
    unknown: Vec<(&'a str, bool)>,
}

/// Asks Redis, in one round trip.
pub async fn served<'a>(stores: &Stores, org: Uuid, anonymous_ids: &[&'a str]) -> Served<'a> {
    let asked: Vec<Key> = anonymous_ids.iter().map(|id| keys::consent(org, id)).collect();
    let answers = stores.redis.texts(&asked).await;
    let mut served = Served { known: HashMap::with_capacity(anonymous_ids.len()), unknown: Vec::new() };
    let mut junk = Vec::new();
    for ((anonymous_id, key), answer) in anonymous_ids.iter().zip(asked).zip(answers) {
        match answer.parse(|text| serde_json::from_str(&text).ok()) {
            Cached::Hit(entry) => _ = served.known.insert((*anonymous_id).to_owned(), entry),
            Cached::Miss => served.unknown.push((anonymous_id, true)),
            Cached::Busy => served.unknown.push((anonymous_id, false)),
            Cached::Junk => {
                served.unknown.push((anonymous_id, true));
                junk.push(key);
            }
        }
    }
    stores.redis.drop_junk(junk).await;
    served
}

/// The signals stored for them, with PostgreSQL's part. That a browser has sent none Redis is told of those that
/// somebody `has`: of others it would keep names that anybody made up, and those of the erased.
pub async fn stored(
    stores: &Stores,
    org: Uuid,
    served: Served<'_>,
    has: impl Fn(&str) -> bool + Send,
) -> Result<HashMap<String, ConsentEntry>> {
    let Served { mut known, unknown } = served;
    if !unknown.is_empty() {
        let fillable = unknown.iter().filter(|(_, missing)| *missing);
        let missing: Vec<Key> = fillable.map(|(id, _)| keys::consent(org, id)).collect();
        let unknown: Vec<&str> = unknown.iter().map(|(id, _)| *id).collect();
        known.extend(load(stores, org, &unknown, &missing, has).await?);
    }
    Ok(known)
}

/// The signals of one browser. Redis is told of it where it `is_known`.
pub async fn of(stores: &Stores, org: Uuid, anonymous_id: &str, is_known: bool) -> Result<ConsentEntry> {
    let served = served(stores, org, &[anonymous_id]).await;
    let mut stored = stored(stores, org, served, |_| is_known).await?;
    Ok(stored.remove(anonymous_id).unwrap_or_else(|| cache_entries::consent_entry(None)))
}

/// The newest signals among the browsers of a canonical identity.
pub async fn newest(stores: &Stores, org: Uuid, canonical: Uuid) -> Result<ConsentEntry> {
    let newest = retry_lost!({ consent::newest(&mut *stores.connection().await?, org, &[canonical]).await })?;
    Ok(cache_entries::consent_entry(newest.first().map(|(_, row)| row)))
}

/// Loads the signals of browsers from PostgreSQL, and fills those keys of theirs that are `missing`; where a browser
/// has sent none, if somebody `has` it.
pub async fn load(
    stores: &Stores,
    org: Uuid,
    anonymous_ids: &[&str],
    missing: &[Key],
    has: impl Fn(&str) -> bool + Send,
) -> Result<HashMap<String, ConsentEntry>> {
    read_through::through(stores, missing, async move {
        let rows =
            retry_lost!({ consent::find(&mut *stores.connection().await?, org, anonymous_ids).await })?;
        let rows: HashMap<&str, &ConsentRow> =
            rows.iter().map(|row| (row.anonymous_id.as_str(), row)).collect();
        let mut known = HashMap::with_capacity(anonymous_ids.len());
        let mut filled = Vec::with_capacity(anonymous_ids.len());
        for anonymous_id in anonymous_ids {
            let row = rows.get(anonymous_id).copied();
            known.insert((*anonymous_id).to_owned(), cache_entries::consent_entry(row));
            if row.is_some() || has(anonymous_id) {
                filled.push(cache_entries::consent(org, anonymous_id, row));
            }
        }
        Ok((known, filled))
    })
    .await
}
