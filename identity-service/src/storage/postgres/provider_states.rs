//! What came of calls to providers, which all instances share.

use diesel::{
    prelude::*,
    sql_types::{Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::provider_states;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::Result;
use migrations::prepared::Prepared;

/// A provider of a source.
#[derive(Debug, Clone)]
pub struct ProviderName {
    /// The organisation that configured it.
    pub org: Uuid,
    /// Its source.
    pub source: Uuid,
    /// Name of the vendor, or of the customer's own provider.
    pub provider: String,
}

/// The state of a provider.
#[derive(Debug, Clone, Default, Queryable, Selectable)]
#[diesel(table_name = provider_states, check_for_backend(diesel::pg::Pg))]
pub struct ProviderState {
    source_id: Uuid,
    /// Time until which it has asked for a pause. It holds for the organisation, whatever the source.
    pub backoff_until: Option<OffsetDateTime>,
    /// Version of the settings and credentials that it has refused.
    pub refused_version: Option<OffsetDateTime>,
    /// Time of that refusal.
    pub refused_at: Option<OffsetDateTime>,
    /// Time of the last success, to ten seconds.
    pub last_success_at: Option<OffsetDateTime>,
    /// Reason of the last failure.
    pub last_error: Option<String>,
    /// HTTP status of the last failure, where it had one.
    pub last_status: Option<i16>,
    /// Time of the last failure.
    pub last_error_at: Option<OffsetDateTime>,
}

/// Reads the state of a provider; that of one that was never called is empty.
pub async fn find(connection: &mut AsyncPgConnection, name: &ProviderName) -> Result<ProviderState> {
    let rows: Vec<ProviderState> = provider_states::table
        .filter(provider_states::org_id.eq(name.org))
        .filter(provider_states::provider.eq(&name.provider))
        .select(ProviderState::as_select())
        .load(connection)
        .await?;
    let backoff_until = rows.iter().filter_map(|row| row.backoff_until).max();
    let own = rows.into_iter().find(|row| row.source_id == name.source).unwrap_or_default();
    Ok(ProviderState { backoff_until, ..own })
}

/// Notes a success.
pub async fn succeeded(
    connection: &mut AsyncPgConnection,
    name: &ProviderName,
    now: OffsetDateTime,
) -> Result<()> {
    let sql = "INSERT INTO provider_states AS old (org_id, provider, source_id, last_success_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (org_id, provider, source_id) DO UPDATE SET last_success_at = excluded.last_success_at \
             WHERE old.last_success_at IS NULL OR old.last_success_at < excluded.last_success_at - interval '10 s'";
    let query = diesel::sql_query(sql)
        .bind::<SqlUuid, _>(name.org)
        .bind::<Text, _>(&name.provider)
        .bind::<SqlUuid, _>(name.source)
        .bind::<Timestamptz, _>(now);
    Prepared(query).execute(connection).await?;
    Ok(())
}

/// A failure of a provider.
#[derive(Debug, Clone, Copy)]
pub struct NewFailure {
    /// The reason, as answers have it.
    pub reason: &'static str,
    /// HTTP status of its answer, where there was one.
    pub status: Option<u16>,
    /// Time of the failure.
    pub at: OffsetDateTime,
    /// Time until which it wants to be left alone.
    pub backoff_until: Option<OffsetDateTime>,
    /// Version of the settings and credentials that it has refused.
    pub refused_version: Option<OffsetDateTime>,
}

/// Notes a failure.
pub async fn failed(
    connection: &mut AsyncPgConnection,
    name: &ProviderName,
    failure: NewFailure,
) -> Result<()> {
    let sql = "INSERT INTO provider_states AS old (org_id, provider, source_id, last_error, last_status, last_error_at, \
             backoff_until, refused_version, refused_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $8 IS NOT NULL THEN $6 END) \
         ON CONFLICT (org_id, provider, source_id) DO UPDATE SET last_error = excluded.last_error, \
             last_status = excluded.last_status, last_error_at = excluded.last_error_at, \
             backoff_until = GREATEST(old.backoff_until, excluded.backoff_until), \
             refused_version = COALESCE(excluded.refused_version, old.refused_version), \
             refused_at = COALESCE(excluded.refused_at, old.refused_at)";
    let query = diesel::sql_query(sql)
        .bind::<SqlUuid, _>(name.org)
        .bind::<Text, _>(&name.provider)
        .bind::<SqlUuid, _>(name.source)
        .bind::<Text, _>(failure.reason)
        .bind::<Nullable<SmallInt>, _>(failure.status.and_then(|status| i16::try_from(status).ok()))
        .bind::<Timestamptz, _>(failure.at)
        .bind::<Nullable<Timestamptz>, _>(failure.backoff_until)
        .bind::<Nullable<Timestamptz>, _>(failure.refused_version);
    Prepared(query).execute(connection).await?;
    Ok(())
}
