//! Replays: what they are to send again, and how far they are.

use diesel::{
    OptionalExtension, QueryableByName, sql_query,
    sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use migrations::prepared::Prepared;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Storage};

/// A replay that is to be done.
#[derive(Debug, Clone, QueryableByName)]
pub struct ReplayRow {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    pub from_at: OffsetDateTime,
    #[diesel(sql_type = Timestamptz)]
    pub to_at: OffsetDateTime,
    #[diesel(sql_type = Array<Text>)]
    pub events: Vec<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub position: Option<i64>,
}

impl Storage {
    /// The oldest replay of a destination that is to be done.
    pub async fn replay(&self, destination: Uuid) -> Result<Option<ReplayRow>> {
        let replay = sql_query(
            "SELECT id, from_at, to_at, events, position FROM replays WHERE destination_id = $1 AND state = 'running' \
             ORDER BY id LIMIT 1",
        )
        .bind::<SqlUuid, _>(destination);
        Ok(Prepared(replay).get_result(&mut *self.pool.get().await?).await.optional()?)
    }

    /// Writes down how far a replay is; false where it is not to go on.
    pub async fn advance_replay(
        &self,
        replay: Uuid,
        position: i64,
        (sent, failed): (i64, i64),
        is_finished: bool,
    ) -> Result<bool> {
        #[derive(QueryableByName)]
        struct Advanced {
            #[diesel(sql_type = Bool)]
            is_running: bool,
        }
        let advance = sql_query(
            "UPDATE replays SET position = $2, sent = sent + $3, failed = failed + $4, \
                 state = CASE WHEN $5 AND state = 'running' THEN 'finished' ELSE state END, \
                 finished_at = CASE WHEN $5 THEN now() ELSE finished_at END \
             WHERE id = $1 RETURNING state = 'running' AS is_running",
        )
        .bind::<SqlUuid, _>(replay)
        .bind::<BigInt, _>(position)
        .bind::<BigInt, _>(sent)
        .bind::<BigInt, _>(failed)
        .bind::<Bool, _>(is_finished);
        let advanced: Option<Advanced> =
            Prepared(advance).get_result(&mut *self.pool.get().await?).await.optional()?;
        Ok(advanced.is_some_and(|replay| replay.is_running))
    }

    /// Begins a replay, for an operator; none where there is no such destination.
    pub async fn begin_replay(
        &self,
        destination: Uuid,
        (from, to): (OffsetDateTime, OffsetDateTime),
    ) -> Result<Option<Uuid>> {
        #[derive(QueryableByName)]
        struct Begun {
            #[diesel(sql_type = SqlUuid)]
            id: Uuid,
        }
        let begin = sql_query(
            "INSERT INTO replays (id, org_id, destination_id, from_at, to_at, started_by) \
             SELECT $2, org_id, id, $3, $4, 'operator' FROM destinations WHERE id = $1 RETURNING id",
        )
        .bind::<SqlUuid, _>(destination)
        .bind::<SqlUuid, _>(Uuid::now_v7())
        .bind::<Timestamptz, _>(from)
        .bind::<Timestamptz, _>(to);
        let begun: Option<Begun> =
            Prepared(begin).get_result(&mut *self.pool.get().await?).await.optional()?;
        Ok(begun.map(|begun| begun.id))
    }
}
