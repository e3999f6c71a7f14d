//! A step: one batch of values in one transaction.

use std::collections::{BTreeSet, HashMap};

use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, QueryableByName, SelectableHelper,
    dsl::now,
    sql_query,
    sql_types::{Array, BigInt, Binary, Uuid as SqlUuid},
    update,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use migrations::{
    schema::reencryptions,
    sealed::{
        self, CountedError, KeyId, SealKeys,
        columns::{self, Column},
        count,
    },
};
use uuid::Uuid;

use super::{
    super::audience::{self, VendorOrigins},
    job::{Job, data_orgs, ids, left, of_another_key, open_to},
};

/// Values of one transaction, which takes some tens of milliseconds: for so long at most a writer waits for
/// it.
const BATCH_VALUES: i64 = 1000;

/// A step that was done.
pub struct Step {
    /// The job as it is now.
    pub job: Job,
    /// Values that don't open.
    pub unreadable: Vec<Unreadable>,
    /// True where others are changing what is left: it is looked at again in a while.
    pub waits: bool,
}

/// A value that doesn't open.
pub struct Unreadable {
    /// Column that holds the value.
    pub column: Column,
    /// ID of its row.
    pub row: Uuid,
    /// ID of the key that it says it is sealed with; empty where it says none.
    pub key_id: String,
}

#[derive(QueryableByName)]
struct SealedValue {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    org_id: Uuid,
    #[diesel(sql_type = Binary)]
    sealed: Vec<u8>,
}

/// Does a batch of a job of these keys that nobody else is working on; none where there is no such job.
/// Credentials of before they had an audience get the one that they have by their settings.
pub async fn step(
    connection: &mut AsyncPgConnection,
    keys: &SealKeys,
    vendors: &VendorOrigins,
) -> Result<Option<Step>, CountedError> {
    connection
        .transaction(async |connection| {
            let Some(job) = claim(connection, keys).await? else { return Ok(None) };
            let (mut step, finished) = advance(connection, keys, vendors, job).await?;
            step.job = save(connection, &step.job, finished).await?;
            Ok(Some(step))
        })
        .await
}

/// Finds the oldest job that nobody else holds and that these keys open, and holds it until the end of the transaction.
async fn claim(connection: &mut AsyncPgConnection, keys: &SealKeys) -> diesel::QueryResult<Option<Job>> {
    let (key, previous) = ids(keys);
    let ours = open_to(&key, previous.as_deref());
    let oldest = ours.order(reencryptions::started_at).select(Job::as_select());
    oldest.for_update().skip_locked().first(connection).await.optional()
}

/// Does the next batch, and tells whether that was the last.
async fn advance(
    connection: &mut AsyncPgConnection,
    keys: &SealKeys,
    vendors: &VendorOrigins,
    job: Job,
) -> Result<(Step, bool), CountedError> {
    let (orgs, key) = (data_orgs(connection, job.org_id).await?, keys.current().id());
    let [first, ..] = columns::ALL;
    // A table that is no more: the others are looked through again.
    let at = columns::ALL.iter().position(|column| column.table == job.at_table).unwrap_or_default();
    let column = columns::ALL.get(at).copied().unwrap_or(first);
    // Held before any value is: who holds it waits for none of ours, as we wait for none of theirs.
    count(connection, key, 0).await?;
    let values = batch(connection, column, &orgs, key, job.at_row).await?;
    let mut step = Step { job, unreadable: Vec::new(), waits: false };
    let job = &mut step.job;
    if let Some(last) = values.last() {
        job.at_row = last.id;
        let rows: Vec<Uuid> = values.iter().map(|value| value.id).collect();
        let audiences = audience::of_rows(connection, column, &rows, vendors).await?;
        let (ids, blobs, unreadable) = seal(keys, column, &values, &audiences)?;
        let (done, failed) = (width(ids.len()), width(unreadable.len()));
        count(connection, key, done).await?;
        replace(connection, column, &orgs, &ids, &blobs).await?;
        job.done += done;
        job.failed += failed;
        step.unreadable = unreadable;
    } else if let Some(next) = columns::ALL.get(at + 1) {
        next.table.clone_into(&mut job.at_table);
        job.at_row = Uuid::nil();
    } else if left(connection, &orgs, key).await? > job.failed {
        // Somebody held them, or has sealed them with another key meanwhile.
        first.table.clone_into(&mut job.at_table);
        (job.at_row, job.failed, step.waits) = (Uuid::nil(), 0, true);
    } else {
        return Ok((step, true));
    }
    Ok((step, false))
}

/// Reads the next values, and holds them unless somebody else does.
async fn batch(
    connection: &mut AsyncPgConnection,
    column: Column,
    orgs: &[Uuid],
    key: KeyId,
    after: Uuid,
) -> diesel::QueryResult<Vec<SealedValue>> {
    let Column { table, column: name } = column;
    let sql = format!(
        "SELECT id, org_id, {name} AS sealed FROM {table} WHERE {} AND id > $3 ORDER BY id LIMIT $4 \
        FOR NO KEY UPDATE SKIP LOCKED",
        of_another_key(column)
    );
    let query = sql_query(sql).bind::<Array<SqlUuid>, _>(orgs).bind::<Binary, _>(key.as_slice());
    query.bind::<SqlUuid, _>(after).bind::<BigInt, _>(BATCH_VALUES).load(connection).await
}

/// Rows, their values sealed with the current key, and what doesn't open.
type Resealed = (Vec<Uuid>, Vec<Vec<u8>>, Vec<Unreadable>);

fn seal(
    keys: &SealKeys,
    column: Column,
    values: &[SealedValue],
    audiences: &HashMap<Uuid, BTreeSet<String>>,
) -> Result<Resealed, CountedError> {
    let (mut ids, mut blobs, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
    for value in values {
        let place = column.place(value.org_id, value.id);
        if let Ok(plain) = keys.open(place, &value.sealed) {
            let bound = audiences.get(&value.id).and_then(|audience| {
                let bound = audience::bind(column, &plain, audience)?;
                let told: Vec<&str> = audience.iter().map(String::as_str).collect();
                audience::note_bound(column.table, value.id, &told.join(" "));
                Some(bound)
            });
            ids.push(value.id);
            blobs.push(keys.seal(place, bound.as_ref().unwrap_or(&plain))?);
        } else {
            let key_id = sealed::key_id(&value.sealed).map(hex::encode).unwrap_or_default();
            unreadable.push(Unreadable { column, row: value.id, key_id });
        }
    }
    Ok((ids, blobs, unreadable))
}

/// Changes nothing but how the values are sealed, which no trigger heeds.
async fn replace(
    connection: &mut AsyncPgConnection,
    column: Column,
    orgs: &[Uuid],
    ids: &[Uuid],
    blobs: &[Vec<u8>],
) -> diesel::QueryResult<usize> {
    let Column { table, column } = column;
    let sql = format!(
        "UPDATE {table} SET {column} = new.blob FROM unnest($2, $3) AS new (id, blob) \
        WHERE {table}.id = new.id AND {table}.org_id = ANY($1)"
    );
    let query = sql_query(sql).bind::<Array<SqlUuid>, _>(orgs).bind::<Array<SqlUuid>, _>(ids);
    query.bind::<Array<Binary>, _>(blobs).execute(connection).await
}

async fn save(connection: &mut AsyncPgConnection, job: &Job, finished: bool) -> diesel::QueryResult<Job> {
    let position = (
        reencryptions::done.eq(job.done),
        reencryptions::failed.eq(job.failed),
        reencryptions::at_table.eq(&job.at_table),
        reencryptions::at_row.eq(job.at_row),
    );
    let finished = finished.then(|| reencryptions::finished_at.eq(now));
    let own = update(reencryptions::table.find(job.org_id)).set((position, finished));
    own.returning(Job::as_returning()).get_result(connection).await
}

fn width(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
