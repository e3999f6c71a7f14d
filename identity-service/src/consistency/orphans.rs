//! Keys that stand for nothing: what Redis holds and PostgreSQL does not know.

use std::collections::HashSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bb8_redis::redis::cmd;
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Bytea, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use uuid::Uuid;

use super::{
    CompareError, Stores, kind,
    redis_values::{self, Verdict},
    report::Report,
};
use crate::{
    clock,
    error::Error,
    storage::redis::{
        keys,
        protocol::{Cached, VERSION_FIELD, hash_state},
    },
};

/// Keys asked for in one SCAN.
const SCAN: u32 = 1_000;
/// Most keys in a look-up. Hashed values have no index, so each look-up reads the table: few, and large.
const PAGE_KEYS: usize = 20_000;

/// Finds orphans and adds them to the report. A key that was compared before is looked up once more, which is
/// simpler than to remember all.
pub async fn find(stores: &mut Stores, report: &mut Report) -> Result<(), CompareError> {
    // PostgreSQL does not know how large a look-up is, and looked for one key after the other in the whole table, or
    // merged by organisation and kind and hashed each pair.
    let hash_joins = "SET enable_nestloop = off; SET enable_mergejoin = off";
    stores.postgres.batch_execute(hash_joins).await.map_err(Error::from)?;
    let (mut cursor, mut names) = (0_u64, Vec::new());
    loop {
        let (next, found): (u64, Vec<Vec<u8>>) =
            cmd("SCAN").arg(cursor).arg("COUNT").arg(SCAN).query_async(&mut stores.redis).await?;
        let found = found.into_iter().filter_map(|name| String::from_utf8(name).ok());
        names.extend(found.filter(|name| keys::mirrors(name)));
        cursor = next;
        if cursor == 0 || names.len() >= PAGE_KEYS {
            // SCAN may return a key twice.
            names.sort_unstable();
            names.dedup();
            look_up(stores, &names, report).await?;
            names.clear();
            eprintln!("looked for more");
        }
        if cursor == 0 {
            return Ok(());
        }
    }
}

async fn look_up(stores: &mut Stores, names: &[String], report: &mut Report) -> Result<(), CompareError> {
    let known = known(stores, names).await?;
    for (name, _) in names.iter().zip(known).filter(|(_, known)| !known) {
        if !is_soft(stores, name).await? {
            report.count(name, Verdict::Orphan);
        }
    }
    Ok(())
}

/// True where a key without a row is a placeholder, says that there is none, or is gone by now.
async fn is_soft(stores: &mut Stores, name: &str) -> Result<bool, CompareError> {
    let hash: Result<Option<String>, _> =
        cmd("HGET").arg(name).arg(VERSION_FIELD).query_async(&mut stores.redis).await;
    if let Ok(version) = hash {
        let exists: bool = cmd("EXISTS").arg(name).query_async(&mut stores.redis).await?;
        return Ok(!exists || hash_state(version.as_deref()) == Cached::Busy);
    }
    let text: Result<Option<String>, _> = cmd("GET").arg(name).query_async(&mut stores.redis).await;
    if text.as_ref().is_err_and(|error| error.code() == Some("WRONGTYPE")) {
        return Ok(false);
    }
    Ok(match Cached::of(text?) {
        Cached::Miss | Cached::Busy => true,
        Cached::Junk => false,
        Cached::Hit(text) => kind(name) == "consent" && redis_values::says_nothing(&text, clock::now()),
    })
}

#[derive(QueryableByName)]
struct Found {
    /// Position of the key among those asked for; the first is 1.
    #[diesel(sql_type = BigInt)]
    at: i64,
}

/// Says for each key whether PostgreSQL has a row for it, in the order asked.
async fn known(stores: &mut Stores, names: &[String]) -> Result<Vec<bool>, CompareError> {
    let parts: Vec<Option<Parts>> = names.iter().map(|name| Parts::of(name)).collect();
    let part = |get: fn(&Parts) -> Option<String>| -> Vec<Option<String>> {
        parts.iter().map(|parts| parts.as_ref().and_then(get)).collect()
    };
    let hashes: Vec<Option<Vec<u8>>> = parts.iter().map(|parts| parts.as_ref()?.hash.clone()).collect();
    let orgs: Vec<Option<Uuid>> = parts.iter().map(|parts| Some(parts.as_ref()?.org)).collect();
    // Every branch is one join of the whole batch, so a hashed value costs one pass over the table a batch.
    // What was found is all that is asked for: whether each wanted key was among it, PostgreSQL may choose to find out
    // by as many passes as there are keys.
    let rows: Vec<Found> = diesel::sql_query(
        "WITH wanted AS ( \
             SELECT * FROM unnest($1, $2, $3, $4) WITH ORDINALITY AS w (kind, org_id, value, hash, at) \
         ), found AS ( \
             SELECT w.at FROM wanted w JOIN canonicals c ON c.org_id = w.org_id AND c.id::text = w.value \
             WHERE w.kind IN ('cvid', 'syncs') \
             UNION ALL SELECT w.at FROM wanted w JOIN links l ON l.org_id = w.org_id AND l.value = w.value \
                 AND l.kind = 0 WHERE w.kind IN ('anonymous_id', 'identity') \
             UNION ALL SELECT w.at FROM wanted w JOIN links l ON l.org_id = w.org_id \
                 AND sha256(convert_to(l.value, 'UTF8')) = w.hash \
                 AND l.kind = CASE w.kind WHEN 'user_id' THEN 1 ELSE 0 END \
             WHERE w.kind IN ('anonymous_id', 'user_id', 'identity') \
             UNION ALL SELECT w.at FROM wanted w JOIN consent c ON c.org_id = w.org_id \
                 AND c.anonymous_id = w.value WHERE w.kind = 'consent' \
             UNION ALL SELECT w.at FROM wanted w JOIN consent c ON c.org_id = w.org_id \
                 AND sha256(convert_to(c.anonymous_id, 'UTF8')) = w.hash WHERE w.kind = 'consent' \
         ) SELECT DISTINCT at FROM found",
    )
    .bind::<Array<Nullable<Text>>, _>(part(|parts| Some(parts.kind.clone())))
    .bind::<Array<Nullable<SqlUuid>>, _>(orgs)
    .bind::<Array<Nullable<Text>>, _>(part(|parts| parts.value.clone()))
    .bind::<Array<Nullable<Bytea>>, _>(hashes)
    .load(&mut stores.postgres)
    .await
    .map_err(Error::from)?;
    let found: HashSet<i64> = rows.into_iter().map(|row| row.at).collect();
    Ok((1..).zip(names).map(|(at, _)| found.contains(&at)).collect())
}

/// A key's name, taken apart. Its value is plain or hashed.
struct Parts {
    kind: String,
    org: Uuid,
    value: Option<String>,
    hash: Option<Vec<u8>>,
}

impl Parts {
    /// Takes a name apart; none where it is not built as ours are, which makes it an orphan.
    fn of(name: &str) -> Option<Self> {
        let (kind, rest) = name.split_once(':')?;
        let (org, rest) = rest.split_once(':')?;
        let (kind, value) = if kind == "canonical" { rest.split_once(':')? } else { (kind, rest) };
        let hash = value.strip_prefix('~').map(|hash| URL_SAFE_NO_PAD.decode(hash));
        let (value, hash) = match hash {
            Some(hash) => (None, Some(hash.ok()?)),
            None => (Some(value.to_owned()), None),
        };
        Some(Self { kind: kind.to_owned(), org: org.parse().ok()?, value, hash })
    }
}
