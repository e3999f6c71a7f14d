//! Statements of the processor. None changes what another owner has taken over.

mod cursors;
mod replays;
mod waiting;

use diesel::{
    OptionalExtension, QueryableByName, sql_query,
    sql_types::{Binary, Bool, Jsonb, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use migrations::{
    pool::{PgPool, PgPoolError},
    prepared::Prepared,
    sealed::CountedError,
};
use serde_json::Value;
use uuid::Uuid;

pub use self::{
    cursors::{Report, Taken},
    replays::ReplayRow,
    waiting::{DeliveryRow, NewDelivery},
};
use crate::prepare::OpenEvent;

/// The reason why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// There was no connection.
    #[error("no connection: {0}")]
    Pool(#[from] PgPoolError),
    /// A statement failed.
    #[error("{0}")]
    Postgres(#[from] diesel::result::Error),
    /// Nothing more can be sealed.
    #[error("{0}")]
    Sealed(#[from] CountedError),
}

type Result<T, E = StorageError> = std::result::Result<T, E>;

/// A destination as it is stored, with the tenant that it may share.
#[derive(Debug, QueryableByName)]
pub struct DestinationRow {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub org_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub source_id: Uuid,
    #[diesel(sql_type = Text)]
    pub vendor: String,
    #[diesel(sql_type = Jsonb)]
    pub config: Value,
    #[diesel(sql_type = Nullable<Binary>)]
    pub sealed: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub provider_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Jsonb>)]
    pub provider_config: Option<Value>,
    #[diesel(sql_type = Nullable<Binary>)]
    pub provider_sealed: Option<Vec<u8>>,
    #[diesel(sql_type = Bool)]
    pub has_profiles: bool,
    #[diesel(sql_type = Text)]
    pub fingerprint: String,
}

/// The database, as one process uses it.
#[derive(Clone)]
pub struct Storage {
    pool: PgPool,
    /// This process.
    pub owner: Uuid,
}

/// What a destination is set up with, in one text: another text is another try.
const FINGERPRINT: &str = "concat_ws(' ', d.version, p.version, p.sealed_at, d.sealed_at)";

impl Storage {
    /// The database of that pool, for a new process.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, owner: Uuid::new_v4() }
    }

    /// Reads a destination; none where it is gone or off.
    pub async fn destination(&self, id: Uuid) -> Result<Option<DestinationRow>> {
        let sql = format!(
            "SELECT d.id, d.org_id, d.source_id, d.vendor, d.config, d.sealed, p.id AS provider_id, \
                 p.config AS provider_config, p.sealed AS provider_sealed, \
                 COALESCE(p.enabled AND p.credentials @> ARRAY['profile_api_key'], false) AS has_profiles, \
                 {FINGERPRINT} AS fingerprint \
             FROM destinations d LEFT JOIN profile_providers p ON p.source_id = d.source_id AND p.org_id = d.org_id \
                 AND p.provider = 'amperity' \
             WHERE d.id = $1 AND d.enabled"
        );
        let query = Prepared(sql_query(sql).bind::<SqlUuid, _>(id));
        Ok(query.get_result(&mut *self.pool.get().await?).await.optional()?)
    }

    /// Adds what whoever watches a source is shown, and keeps the last of it. Of who was erased meanwhile nothing is.
    pub async fn add_live(&self, event: &OpenEvent, body: Vec<u8>) -> Result<()> {
        let add = sql_query(
            "WITH added AS ( \
                 INSERT INTO live_events (source_id, org_id, canonical_id, event_id, at, body) \
                 SELECT $1, org_id, id, $4, now(), $5 FROM canonicals WHERE org_id = $2 AND id = $3 FOR KEY SHARE \
                 RETURNING seq) \
             DELETE FROM live_events WHERE source_id = $1 AND seq <= (SELECT seq FROM live_events WHERE source_id = $1 \
                 ORDER BY seq DESC OFFSET 199 LIMIT 1)",
        )
        .bind::<SqlUuid, _>(event.source)
        .bind::<SqlUuid, _>(event.org)
        .bind::<SqlUuid, _>(event.canonical)
        .bind::<SqlUuid, _>(event.id)
        .bind::<Binary, _>(body);
        Prepared(add).execute(&mut *self.pool.get().await?).await?;
        Ok(())
    }
}
