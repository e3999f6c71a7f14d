//! Events that a destination was given up on: to look at, to send again, to remove.

use axum::{Json, extract::State};
use diesel::{ExpressionMethods, QueryDsl, Queryable, Selectable, SelectableHelper, dsl::now, update};
use diesel_async::{AsyncConnection, RunQueryDsl};
use http::StatusCode;
use migrations::{
    schema::deliveries,
    sealed::{SealKeys, columns},
};
use prost::Message;
use proto::event::Envelope;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::destinations::id_of;
use crate::{
    api::{
        audit::Change,
        body::Body,
        caller::Caller,
        error::{ApiError, Result},
        page::{Page, Paged},
        query::{Below, Query, Under},
    },
    catalog::VendorName,
    state::Management,
};

/// Most events that are named at once.
const MAX_IDS: usize = 1000;

/// An event that was given up.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetter {
    /// ID of the event.
    event_id: Uuid,
    /// Canonical identity at the time of its arrival.
    canonical_id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    received_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    dead_at: Option<OffsetDateTime>,
    /// Reason, such as `bad_request`, `too_large`, `status`, `timeout` or `unreadable`.
    reason: Option<String>,
    /// HTTP status of the last try. Null: there was no answer.
    status: Option<i16>,
    /// Tries so far.
    attempts: i16,
    /// The event as it came. Null: it can't be opened.
    #[schema(value_type = Option<Object>)]
    event: Option<Value>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = deliveries, check_for_backend(diesel::pg::Pg))]
struct Row {
    id: Uuid,
    org_id: Uuid,
    canonical_id: Uuid,
    event_id: Uuid,
    received_at: OffsetDateTime,
    sealed: Vec<u8>,
    attempts: i16,
    dead_at: Option<OffsetDateTime>,
    reason: Option<String>,
    last_status: Option<i16>,
}

impl Row {
    fn shown(self, keys: &SealKeys) -> DeadLetter {
        let opened = keys.open(columns::DELIVERIES.place(self.org_id, self.id), &self.sealed).ok();
        let envelope = opened.and_then(|plain| Envelope::decode(plain.as_slice()).ok());
        DeadLetter {
            event_id: self.event_id,
            canonical_id: self.canonical_id,
            received_at: self.received_at,
            dead_at: self.dead_at,
            reason: self.reason,
            status: self.last_status,
            attempts: self.attempts,
            event: envelope.and_then(|envelope| serde_json::from_slice(&envelope.json).ok()),
        }
    }
}

/// Lists the events that were given up, the oldest first. They are kept for 14 days.
#[utoipa::path(get, path = "/v1/admin/sources/{id}/destinations/{vendor}/dead-letters", tag = "destinations",
    params(("id" = Uuid, Path), ("vendor" = String, Path), Page),
    responses((status = 200, body = Paged<DeadLetter>)))]
pub async fn list(
    State(state): State<Management>,
    caller: Caller,
    Under(source, VendorName(vendor)): Under<VendorName>,
    Query(page): Query<Page>,
) -> Result<Json<Paged<DeadLetter>>> {
    let mut connection = state.connection().await?;
    let id = id_of(&mut connection, caller.org_id, source, &vendor).await?;
    let mut query = deliveries::table
        .filter(deliveries::destination_id.eq(id))
        .filter(deliveries::dead_at.is_not_null())
        .order(deliveries::id)
        .limit(page.rows())
        .select(Row::as_select())
        .into_boxed();
    if let Some(after) = page.after::<Uuid>()? {
        query = query.filter(deliveries::id.gt(after));
    }
    let change = Change {
        action: "destination.dead_letters_read",
        resource: "destination",
        id: &format!("{source}/{vendor}"),
    };
    change.note(&mut connection, &caller, json!({})).await?;
    let rows: Paged<Row> = page.of(query.load(&mut connection).await?, |row: &Row| row.id.to_string());
    Ok(Json(rows.map(|row| row.shown(&state.keys))))
}

/// Input about which events are to be sent again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryInput {
    /// IDs of events, at most 1,000.
    #[serde(default)]
    ids: Vec<Uuid>,
    /// True where all of them are.
    #[serde(default)]
    all: bool,
}

/// Number of events.
#[derive(Debug, Serialize, ToSchema)]
pub struct Retried {
    /// Number of events that are sent again.
    retried: usize,
}

/// Has events sent again that were given up, each with the ID that it had.
#[utoipa::path(post, path = "/v1/admin/sources/{id}/destinations/{vendor}/dead-letters/retry", tag = "destinations",
    request_body = RetryInput, params(("id" = Uuid, Path), ("vendor" = String, Path)),
    responses((status = 202, body = Retried), (status = 422, description = "Neither `ids` nor `all`, or both.")))]
pub async fn retry(
    State(state): State<Management>,
    caller: Caller,
    Under(source, VendorName(vendor)): Under<VendorName>,
    Body(input): Body<RetryInput>,
) -> Result<(StatusCode, Json<Retried>)> {
    if input.ids.is_empty() != input.all || input.ids.len() > MAX_IDS {
        return Err(ApiError::field("ids", "must have 1 to 1000 entries, or all must be true"));
    }
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let id = id_of(connection, caller.org_id, source, &vendor).await?;
            let dead = deliveries::table
                .filter(deliveries::destination_id.eq(id))
                .filter(deliveries::dead_at.is_not_null())
                .into_boxed();
            let dead = if input.all { dead } else { dead.filter(deliveries::event_id.eq_any(&input.ids)) };
            let rows: Vec<Uuid> = dead.select(deliveries::id).load(connection).await?;
            let retried = update(deliveries::table.filter(deliveries::id.eq_any(&rows)))
                .set((
                    deliveries::dead_at.eq(None::<OffsetDateTime>),
                    deliveries::next_at.eq(now),
                    deliveries::attempts.eq(0),
                ))
                .execute(connection)
                .await?;
            let change = Change {
                action: "destination.dead_letters_retried",
                resource: "destination",
                id: &format!("{source}/{vendor}"),
            };
            change.note(connection, &caller, json!({"events": retried})).await?;
            Ok((StatusCode::ACCEPTED, Json(Retried { retried })))
        })
        .await
}

/// Removes an event that was given up. What is gone, or never was, is no error.
#[utoipa::path(delete, path = "/v1/admin/sources/{id}/destinations/{vendor}/dead-letters/{event_id}", tag = "destinations",
    params(("id" = Uuid, Path), ("vendor" = String, Path), ("event_id" = Uuid, Path)),
    responses((status = 204)))]
pub async fn remove(
    State(state): State<Management>,
    caller: Caller,
    Below(source, VendorName(vendor), event): Below<VendorName, Uuid>,
) -> Result<StatusCode> {
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let id = id_of(connection, caller.org_id, source, &vendor).await?;
            let own = deliveries::table
                .filter(deliveries::destination_id.eq(id))
                .filter(deliveries::event_id.eq(event))
                .filter(deliveries::dead_at.is_not_null());
            if diesel::delete(own).execute(connection).await? > 0 {
                let change = Change {
                    action: "destination.dead_letter_removed",
                    resource: "destination",
                    id: &format!("{source}/{vendor}"),
                };
                change.note(connection, &caller, json!({"event_id": event})).await?;
            }
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}
