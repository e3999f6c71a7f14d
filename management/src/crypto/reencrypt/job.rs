//! The row that says what is to be sealed anew, and how much of it is.

use diesel::{
    BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, Queryable, QueryableByName,
    Selectable, SelectableHelper,
    dsl::{exists, now},
    insert_into, select, sql_query,
    sql_types::{Array, BigInt, Binary, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use migrations::{
    schema::{orgs, reencryptions},
    sealed::{
        KeyId, SealKeys,
        columns::{self, Column},
    },
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::api::org_lock::lock_org;

/// An organisation's values on their way to another key.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = reencryptions, check_for_backend(diesel::pg::Pg))]
pub struct Job {
    /// Organisation of the values, and of those of its sibling for test data.
    pub org_id: Uuid,
    /// ID of the key that they are to be sealed with.
    pub key_id: Vec<u8>,
    /// ID of the previous key of whoever began; none where they had none.
    pub previous_key_id: Option<Vec<u8>>,
    /// Values that were sealed with another key at the start.
    pub total: i64,
    /// Values that were sealed anew.
    pub done: i64,
    /// Values that did not open, and are left.
    pub failed: i64,
    /// Table that the job is at, one of [`columns::ALL`].
    pub at_table: String,
    /// Last row of that table that was looked at.
    pub at_row: Uuid,
    /// Time when the job was begun.
    pub started_at: OffsetDateTime,
    /// Time when the job was finished. None: it is not.
    pub finished_at: Option<OffsetDateTime>,
}

/// Unfinished jobs of another key that may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// Replaces a job of the previous key, which we know to be older. Any other key may be a newer one, of
    /// processes that were restarted before us.
    Previous,
    /// Replaces any job of other keys: the operator knows.
    Any,
}

/// Finds the organisation's last job.
pub async fn find(connection: &mut AsyncPgConnection, org: Uuid) -> diesel::QueryResult<Option<Job>> {
    reencryptions::table.find(org).select(Job::as_select()).first(connection).await.optional()
}

/// Jobs that whoever has these keys may work on: of the current key, and begun by somebody who could open no more.
#[diesel::dsl::auto_type(no_type_alias)]
pub fn open_to<'k>(key: &'k [u8], previous: Option<&'k [u8]>) -> _ {
    reencryptions::table
        .filter(reencryptions::finished_at.is_null())
        .filter(reencryptions::key_id.eq(key))
        .filter(reencryptions::previous_key_id.is_null().or(reencryptions::previous_key_id.eq(previous)))
}

/// Tells whether there is a job to be worked on with these keys.
pub async fn is_any(connection: &mut AsyncPgConnection, keys: &SealKeys) -> diesel::QueryResult<bool> {
    let (key, previous) = ids(keys);
    select(exists(open_to(&key, previous.as_deref()))).get_result(connection).await
}

/// IDs of the current key and of the previous one.
pub fn ids(keys: &SealKeys) -> (KeyId, Option<Vec<u8>>) {
    (keys.current().id(), keys.previous().map(|previous| previous.id().to_vec()))
}

/// Begins to seal all of an organisation with the current key, unless that is being done already: the job,
/// and whether it is a new one.
pub async fn begin(
    connection: &mut AsyncPgConnection,
    keys: &SealKeys,
    org: Uuid,
    takeover: Takeover,
) -> diesel::QueryResult<(Job, bool)> {
    let (key, previous) = ids(keys);
    connection
        .transaction(async |connection| {
            lock_org(connection, org).await?;
            if let Some(job) = find(connection, org).await?
                && job.finished_at.is_none()
            {
                let is_older = previous.as_ref().is_some_and(|previous| job.key_id == *previous);
                // Begun by somebody who could not open what we can.
                let opens_less = job.key_id == key && job.previous_key_id.is_none() && previous.is_some();
                let is_same = job.key_id == key && job.previous_key_id == previous;
                if is_same || (takeover == Takeover::Previous && !is_older && !opens_less) {
                    return Ok((job, false));
                }
            }
            let orgs = data_orgs(connection, org).await?;
            let total = left(connection, &orgs, key).await?;
            let [first, ..] = columns::ALL;
            let values = || {
                (
                    reencryptions::key_id.eq(key.to_vec()),
                    reencryptions::previous_key_id.eq(&previous),
                    reencryptions::total.eq(total),
                    reencryptions::done.eq(0),
                    reencryptions::failed.eq(0),
                    reencryptions::at_table.eq(first.table),
                    reencryptions::at_row.eq(Uuid::nil()),
                    reencryptions::started_at.eq(now),
                    reencryptions::finished_at.eq(None::<OffsetDateTime>),
                )
            };
            let job = insert_into(reencryptions::table)
                .values((reencryptions::org_id.eq(org), values()))
                .on_conflict(reencryptions::org_id)
                .do_update()
                .set(values())
                .returning(Job::as_returning())
                .get_result(connection)
                .await?;
            Ok((job, true))
        })
        .await
}

/// Gives the organisation and its sibling.
pub async fn data_orgs(connection: &mut AsyncPgConnection, org: Uuid) -> diesel::QueryResult<Vec<Uuid>> {
    let both = orgs::table.filter(orgs::id.eq(org).or(orgs::test_of.eq(org)));
    both.select(orgs::id).load(connection).await
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    values: i64,
}

/// Gives the rest of a transaction longer statements: counting reads every value, which a busy server does not do in the
/// time that others have.
const LONGER_STATEMENTS: &str = "SELECT set_config('statement_timeout', '4s', true)";

/// Counts, in a transaction, the values of these organisations that are sealed with another key.
pub async fn left(connection: &mut AsyncPgConnection, orgs: &[Uuid], key: KeyId) -> diesel::QueryResult<i64> {
    sql_query(LONGER_STATEMENTS).execute(connection).await?;
    let sql = format!("SELECT {} AS values", columns::ALL.map(count_of_another_key).join(" + "));
    let query = sql_query(sql).bind::<Array<SqlUuid>, _>(orgs).bind::<Binary, _>(key.as_slice());
    Ok(query.get_result::<Count>(connection).await?.values)
}

fn count_of_another_key(column: Column) -> String {
    format!("(SELECT count(*) FROM {} WHERE {})", column.table, of_another_key(column))
}

/// Condition for values of the organisations $1 that are sealed, and not with the key $2.
pub fn of_another_key(Column { column, .. }: Column) -> String {
    // The key's ID follows one byte of version.
    format!("org_id = ANY($1) AND substring({column} FROM 2 FOR 4) <> $2")
}
