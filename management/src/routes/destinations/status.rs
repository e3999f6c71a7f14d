//! How a destination fares, and holding it up by hand.

use axum::{Json, extract::State};
use diesel::{
    OptionalExtension, QueryableByName, sql_query,
    sql_types::{BigInt, Bool, Double, Float, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use migrations::prepared::Prepared;
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{AMPERITY, id_of, tenant};
use crate::{
    api::{
        audit::Change,
        caller::Caller,
        error::{Code, Result},
        query::Under,
    },
    catalog::VendorName,
    state::Management,
};

/// How a destination fares.
#[derive(Debug, Serialize, ToSchema)]
pub struct DestinationStatus {
    /// State: `active`; `down`, where everything fails and one event is tried now and then; or `paused`.
    state: &'static str,
    /// Reason for a pause: `people`, who have paused it; `credentials` (401), `forbidden` (403), `not_found` (404), `rejected`
    /// (409), `gone` (410), `not_allowed`, `not_configured`, `settings`, `encryption_key`, which the processor lacks, or
    /// `disabled`. Absent: it is not paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    reason: Option<String>,
    /// Time of the next try. Absent: there is none planned.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    until: Option<OffsetDateTime>,
    /// Events that wait for it.
    lag: Lag,
    /// Requests a second that it is sent at most now. Null: nobody has delivered to it yet.
    rate: Option<f32>,
    /// Time of the last delivery. Null: there was none.
    #[serde(with = "time::serde::rfc3339::option")]
    last_success_at: Option<OffsetDateTime>,
    /// Last failure: reason, HTTP status, time. Null: there was none.
    #[schema(value_type = Option<Object>)]
    last_error: Option<Value>,
    /// True where it says that it drops what it is sent (204).
    dropping: bool,
    /// Events that wait to be tried again, and behind those.
    parked: i64,
    /// Events that were given up.
    dead: i64,
    /// Value of the field `source` that every event is sent with. Absent: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    source_value: Option<String>,
    /// Advice, where all seems well and need not be. Absent: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    hint: Option<String>,
}

/// Events that wait.
#[derive(Debug, Serialize, ToSchema)]
pub struct Lag {
    /// Number of them.
    events: i64,
    /// Age of the oldest, in seconds.
    oldest_seconds: f64,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Bool)]
    enabled: bool,
    #[diesel(sql_type = Bool)]
    is_paused: bool,
    #[diesel(sql_type = Nullable<Text>)]
    reason: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    until: Option<OffsetDateTime>,
    #[diesel(sql_type = Nullable<Float>)]
    rate: Option<f32>,
    #[diesel(sql_type = Bool)]
    dropping: bool,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    last_success_at: Option<OffsetDateTime>,
    #[diesel(sql_type = Nullable<Jsonb>)]
    last_error: Option<Value>,
    #[diesel(sql_type = BigInt)]
    events: i64,
    #[diesel(sql_type = Double)]
    oldest: f64,
    #[diesel(sql_type = BigInt)]
    parked: i64,
    #[diesel(sql_type = BigInt)]
    dead: i64,
}

const STATUS: &str = "SELECT d.enabled, c.paused_at IS NOT NULL AS is_paused, c.reason, c.until, c.rate, \
        c.dropping_at IS NOT NULL AS dropping, c.last_success_at, c.last_error, \
        COALESCE(h.events - c.events, 0) AS events, \
        COALESCE(extract(epoch FROM now() - oldest.received_at), 0)::float8 AS oldest, \
        (SELECT count(*) FROM deliveries x WHERE x.destination_id = d.id AND x.dead_at IS NULL) AS parked, \
        (SELECT count(*) FROM deliveries x WHERE x.destination_id = d.id AND x.dead_at IS NOT NULL) AS dead \
    FROM destinations d JOIN delivery_cursors c ON c.destination_id = d.id \
    LEFT JOIN event_heads h ON h.source_id = d.source_id AND h.seq > c.position \
    LEFT JOIN LATERAL (SELECT received_at FROM events e WHERE e.source_id = h.source_id AND e.seq > c.position \
        ORDER BY e.seq LIMIT 1) AS oldest ON true \
    WHERE d.id = $1 AND d.org_id = $2";

impl DestinationStatus {
    async fn of(connection: &mut AsyncPgConnection, org: Uuid, source: Uuid, vendor: &str) -> Result<Self> {
        let id = id_of(connection, org, source, vendor).await?;
        let query = Prepared(sql_query(STATUS).bind::<SqlUuid, _>(id).bind::<SqlUuid, _>(org));
        let row: Row = query.get_result(connection).await.optional()?.ok_or(Code::NotFound)?;
        let tenant = if vendor == AMPERITY { tenant(connection, org, source).await? } else { None };
        let source_value = tenant.and_then(|tenant| Some(tenant.get("source_value")?.as_str()?.to_owned()));
        let (state, reason) = match row.reason {
            _ if !row.enabled => ("paused", Some("disabled".to_owned())),
            _ if row.is_paused => ("paused", Some("people".to_owned())),
            Some(reason) if reason == "down" => ("down", None),
            Some(reason) => ("paused", Some(reason)),
            None => ("active", None),
        };
        let hint = match &source_value {
            _ if row.dropping => Some("The stream is set to drop every event (204).".to_owned()),
            Some(value) if state == "active" && row.last_success_at.is_some() => Some(format!(
                "Events are accepted. Where none shows in Amperity, the routing expression of the stream does not match \
                 the source value {value}, to the letter."
            )),
            _ => None,
        };
        Ok(Self {
            state,
            reason,
            until: row.until,
            lag: Lag { events: row.events.max(0), oldest_seconds: row.oldest.max(0.0) },
            rate: row.rate,
            last_success_at: row.last_success_at,
            last_error: row.last_error,
            dropping: row.dropping,
            parked: row.parked,
            dead: row.dead,
            source_value,
            hint,
        })
    }
}

/// Tells how a destination fares, and what waits for it.
#[utoipa::path(get, path = "/v1/admin/sources/{id}/destinations/{vendor}/status", tag = "destinations",
    params(("id" = Uuid, Path), ("vendor" = String, Path)), responses((status = 200, body = DestinationStatus)))]
pub async fn read(
    State(state): State<Management>,
    caller: Caller,
    Under(source, VendorName(vendor)): Under<VendorName>,
) -> Result<Json<DestinationStatus>> {
    let mut connection = state.connection().await?;
    Ok(Json(DestinationStatus::of(&mut connection, caller.org_id, source, &vendor).await?))
}

/// Holds events up: they are kept, and sent when the destination is resumed.
#[utoipa::path(post, path = "/v1/admin/sources/{id}/destinations/{vendor}/pause", tag = "destinations",
    params(("id" = Uuid, Path), ("vendor" = String, Path)), responses((status = 200, body = DestinationStatus)))]
pub async fn pause(
    State(state): State<Management>,
    caller: Caller,
    Under(source, VendorName(vendor)): Under<VendorName>,
) -> Result<Json<DestinationStatus>> {
    hold(&state, &caller, source, &vendor, true).await
}

/// Has events sent again that were held up.
#[utoipa::path(post, path = "/v1/admin/sources/{id}/destinations/{vendor}/resume", tag = "destinations",
    params(("id" = Uuid, Path), ("vendor" = String, Path)), responses((status = 200, body = DestinationStatus)))]
pub async fn resume(
    State(state): State<Management>,
    caller: Caller,
    Under(source, VendorName(vendor)): Under<VendorName>,
) -> Result<Json<DestinationStatus>> {
    hold(&state, &caller, source, &vendor, false).await
}

async fn hold(
    state: &Management,
    caller: &Caller,
    source: Uuid,
    vendor: &str,
    is_paused: bool,
) -> Result<Json<DestinationStatus>> {
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let id = id_of(connection, caller.org_id, source, vendor).await?;
            let hold = sql_query(
                "UPDATE delivery_cursors SET paused_at = CASE WHEN $2 THEN now() END \
                 WHERE destination_id = $1 AND (paused_at IS NOT NULL) <> $2",
            )
            .bind::<SqlUuid, _>(id)
            .bind::<Bool, _>(is_paused);
            if Prepared(hold).execute(connection).await? > 0 {
                let action = if is_paused { "destination.paused" } else { "destination.resumed" };
                let change = Change { action, resource: "destination", id: &format!("{source}/{vendor}") };
                change.note(connection, caller, json!({})).await?;
            }
            Ok(Json(DestinationStatus::of(connection, caller.org_id, source, vendor).await?))
        })
        .await
}
