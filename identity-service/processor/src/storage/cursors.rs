//! Cursors: who has which destination, and how far it is.

use diesel::{
    OptionalExtension, QueryableByName, sql_query,
    sql_types::{BigInt, Bool, Double, Float, Jsonb, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use migrations::{prepared::Prepared, sealed::SealKeys};
use serde_json::Value;
use uuid::Uuid;

use super::{
    FINGERPRINT, Result, Storage,
    waiting::{self, NewDelivery},
};

/// A cursor that this process has taken.
#[derive(Debug, Clone, QueryableByName)]
pub struct Taken {
    #[diesel(sql_type = SqlUuid)]
    pub destination_id: Uuid,
    #[diesel(sql_type = BigInt)]
    pub epoch: i64,
    #[diesel(sql_type = BigInt)]
    pub position: i64,
}

/// What the owner of a cursor is told when it is moved.
#[derive(Debug, QueryableByName)]
pub struct Held {
    #[diesel(sql_type = Bool)]
    pub is_paused: bool,
    #[diesel(sql_type = Text)]
    pub fingerprint: String,
    #[diesel(sql_type = Bool)]
    pub is_enabled: bool,
    #[diesel(sql_type = Bool)]
    pub is_watched: bool,
}

/// What is written down of a destination.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The new position; none where it is the same.
    pub position: Option<i64>,
    /// Events that came to be behind it.
    pub events: i64,
    /// Bytes of those.
    pub bytes: i64,
    /// The reason for which it rests; none where it does not.
    pub reason: Option<&'static str>,
    /// The time of the next try, in seconds from now.
    pub probe_in: Option<f64>,
    /// Requests a second.
    pub rate: f32,
    /// True where something was delivered since the last report.
    pub succeeded: bool,
    /// True where the destination said that it drops what it is sent.
    pub dropping: bool,
    /// The last failure since the last report.
    pub error: Option<Value>,
    /// True where the log has nothing behind the position: what was counted is then made exact.
    pub is_at_head: bool,
}

impl Storage {
    /// Says that this process is alive, and forgets those that have not for a while.
    pub async fn appear(&self) -> Result<()> {
        let appear = sql_query(
            "WITH gone AS (DELETE FROM delivery_processes WHERE seen_at < now() - interval '1 minute' AND id <> $1) \
             INSERT INTO delivery_processes (id, seen_at) VALUES ($1, now()) \
             ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at",
        )
        .bind::<SqlUuid, _>(self.owner);
        Prepared(appear).execute(&mut *self.pool.get().await?).await?;
        Ok(())
    }

    /// Says that this process takes no more: others have its share.
    pub async fn leave(&self) -> Result<()> {
        let leave = sql_query("DELETE FROM delivery_processes WHERE id = $1").bind::<SqlUuid, _>(self.owner);
        Prepared(leave).execute(&mut *self.pool.get().await?).await?;
        Ok(())
    }

    /// Takes destinations that nobody has, so that each live process has its share, and tells which.
    pub async fn take(&self) -> Result<Vec<Taken>> {
        let take = sql_query(
            "WITH live AS ( \
                 SELECT count(*) AS all, count(*) FILTER (WHERE c.owner = $1 AND c.lease_until > now()) AS own, \
                     (SELECT count(*) FROM delivery_processes \
                      WHERE id <> $1 AND seen_at > now() - interval '15 seconds') + 1 AS processes \
                 FROM delivery_cursors c JOIN destinations d ON d.id = c.destination_id AND d.enabled), \
             free AS ( \
                 SELECT c.destination_id FROM delivery_cursors c \
                 JOIN destinations d ON d.id = c.destination_id AND d.enabled, live \
                 WHERE c.lease_until IS NULL OR c.lease_until < now() \
                 ORDER BY c.lease_until NULLS FIRST, c.destination_id \
                 LIMIT GREATEST((SELECT ceil(live.all::numeric / processes)::bigint - own FROM live), 0) \
                 FOR NO KEY UPDATE OF c SKIP LOCKED) \
             UPDATE delivery_cursors c SET owner = $1, epoch = epoch + 1, lease_until = now() + interval '15 seconds' \
             FROM free WHERE c.destination_id = free.destination_id \
             RETURNING c.destination_id, c.epoch, c.position",
        )
        .bind::<SqlUuid, _>(self.owner);
        Ok(Prepared(take).load(&mut *self.pool.get().await?).await?)
    }

    /// The number of destinations that are too many of this process's, as others have come.
    pub async fn surplus(&self) -> Result<i64> {
        #[derive(QueryableByName)]
        struct Surplus {
            #[diesel(sql_type = BigInt)]
            surplus: i64,
        }
        let surplus = sql_query(
            "SELECT count(*) FILTER (WHERE c.owner = $1 AND c.lease_until > now()) \
                 - ceil(count(*)::numeric / ((SELECT count(*) FROM delivery_processes \
                       WHERE id <> $1 AND seen_at > now() - interval '15 seconds') + 1))::bigint AS surplus \
             FROM delivery_cursors c JOIN destinations d ON d.id = c.destination_id AND d.enabled",
        )
        .bind::<SqlUuid, _>(self.owner);
        let surplus: Surplus = Prepared(surplus).get_result(&mut *self.pool.get().await?).await?;
        Ok(surplus.surplus)
    }

    /// Gives a destination back to whoever comes first.
    pub async fn release(&self, taken: &Taken) -> Result<()> {
        let release = sql_query(
            "UPDATE delivery_cursors SET owner = NULL, lease_until = NULL \
             WHERE destination_id = $1 AND owner = $2 AND epoch = $3",
        )
        .bind::<SqlUuid, _>(taken.destination_id)
        .bind::<SqlUuid, _>(self.owner)
        .bind::<BigInt, _>(taken.epoch);
        Prepared(release).execute(&mut *self.pool.get().await?).await?;
        Ok(())
    }

    /// Writes down how far a destination is and what is to wait, all in one transaction, and holds it for longer; none
    /// where it is another's by now, and nothing was written.
    pub async fn report(
        &self,
        keys: &SealKeys,
        taken: &Taken,
        report: &Report,
        delayed: &[NewDelivery],
    ) -> Result<Option<Held>> {
        let mut connection = self.pool.get().await?;
        connection
            .transaction(async |connection| {
                let Some(held) = self.move_cursor(connection, taken, report).await? else { return Ok(None) };
                waiting::add(connection, keys, taken.destination_id, delayed).await?;
                Ok(Some(held))
            })
            .await
    }

    async fn move_cursor(
        &self,
        connection: &mut AsyncPgConnection,
        taken: &Taken,
        report: &Report,
    ) -> Result<Option<Held>> {
        let sql = format!(
            "UPDATE delivery_cursors c SET position = GREATEST(c.position, COALESCE($4, c.position)), \
                 events = CASE WHEN $13 THEN COALESCE(h.events, c.events + $5) ELSE c.events + $5 END, \
                 bytes = CASE WHEN $13 THEN COALESCE(h.bytes, c.bytes + $6) ELSE c.bytes + $6 END, \
                 lease_until = now() + interval '15 seconds', reason = $7, \
                 until = now() + make_interval(secs => $8), rate = $9, \
                 last_success_at = CASE WHEN $10 THEN now() ELSE c.last_success_at END, \
                 dropping_at = CASE WHEN $11 THEN now() WHEN $10 THEN NULL ELSE c.dropping_at END, \
                 last_error = COALESCE($12, c.last_error) \
             FROM destinations d LEFT JOIN profile_providers p ON p.source_id = d.source_id AND p.org_id = d.org_id \
                 AND p.provider = 'amperity' LEFT JOIN event_heads h ON h.source_id = d.source_id \
                     AND h.seq <= COALESCE($4, 0) \
             WHERE d.id = c.destination_id AND c.destination_id = $1 AND c.owner = $2 AND c.epoch = $3 \
             RETURNING c.paused_at IS NOT NULL AS is_paused, d.enabled AS is_enabled, {FINGERPRINT} AS fingerprint, \
                 EXISTS (SELECT FROM live_watches w WHERE w.source_id = d.source_id AND w.until > now()) AS is_watched"
        );
        let update = sql_query(sql)
            .bind::<SqlUuid, _>(taken.destination_id)
            .bind::<SqlUuid, _>(self.owner)
            .bind::<BigInt, _>(taken.epoch)
            .bind::<Nullable<BigInt>, _>(report.position)
            .bind::<BigInt, _>(report.events)
            .bind::<BigInt, _>(report.bytes)
            .bind::<Nullable<Text>, _>(report.reason)
            .bind::<Nullable<Double>, _>(report.probe_in)
            .bind::<Float, _>(report.rate)
            .bind::<Bool, _>(report.succeeded)
            .bind::<Bool, _>(report.dropping)
            .bind::<Nullable<Jsonb>, _>(&report.error)
            .bind::<Bool, _>(report.is_at_head);
        Ok(Prepared(update).get_result(connection).await.optional()?)
    }
}
