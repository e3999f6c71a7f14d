//! Replays: events of the past that are sent to a destination once more.

use axum::{Json, extract::State};
use diesel::{
    ExpressionMethods, QueryDsl, Queryable, Selectable, SelectableHelper, dsl::now, insert_into, update,
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use http::StatusCode;
use migrations::schema::replays;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::destinations::id_of;
use crate::{
    api::{
        audit::Change,
        body::Body,
        caller::Caller,
        error::Result,
        fields::Fields,
        page::{Page, Paged},
        query::{Below, Query, Under},
    },
    catalog::VendorName,
    state::Management,
};

/// Most names of events.
const MAX_EVENTS: usize = 100;
/// Longest name of an event, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// Events of the past that are sent once more.
#[derive(Debug, Serialize, Queryable, Selectable, ToSchema)]
#[diesel(table_name = replays, check_for_backend(diesel::pg::Pg))]
pub struct Replay {
    id: Uuid,
    /// Time of the first event.
    #[diesel(column_name = from_at)]
    #[serde(with = "time::serde::rfc3339")]
    from: OffsetDateTime,
    /// Time of the last event.
    #[diesel(column_name = to_at)]
    #[serde(with = "time::serde::rfc3339")]
    to: OffsetDateTime,
    /// Names of the events, as they came; none: all.
    events: Vec<String>,
    /// State: `running`, `finished` or `cancelled`.
    state: String,
    /// Events that were sent.
    sent: i64,
    /// Events that were refused, or are not to be sent.
    failed: i64,
    /// Email of whoever began it, or `operator`.
    started_by: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// Time when all were sent. Null: they were not yet.
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
}

/// Input about a replay.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayInput {
    /// Time of the first event. What the log has no more is not sent.
    #[serde(with = "time::serde::rfc3339")]
    from: OffsetDateTime,
    /// Time of the last event.
    #[serde(with = "time::serde::rfc3339")]
    to: OffsetDateTime,
    /// Names of the events, as they came, at most 100; none: all.
    #[serde(default)]
    events: Vec<String>,
}

/// Lists the replays of a destination, the newest first.
#[utoipa::path(get, path = "/v1/admin/sources/{id}/destinations/{vendor}/replays", tag = "destinations",
    params(("id" = Uuid, Path), ("vendor" = String, Path), Page), responses((status = 200, body = Paged<Replay>)))]
pub async fn list(
    State(state): State<Management>,
    caller: Caller,
    Under(source, VendorName(vendor)): Under<VendorName>,
    Query(page): Query<Page>,
) -> Result<Json<Paged<Replay>>> {
    let mut connection = state.connection().await?;
    let id = id_of(&mut connection, caller.org_id, source, &vendor).await?;
    let mut query = replays::table
        .filter(replays::destination_id.eq(id))
        .order(replays::id.desc())
        .limit(page.rows())
        .select(Replay::as_select())
        .into_boxed();
    if let Some(after) = page.after::<Uuid>()? {
        query = query.filter(replays::id.lt(after));
    }
    Ok(Json(page.of(query.load(&mut connection).await?, |row: &Replay| row.id.to_string())))
}

/// Sends events of the past once more, each with the ID that it had. What is new comes first; consent and erasure count as
/// ever.
#[utoipa::path(post, path = "/v1/admin/sources/{id}/destinations/{vendor}/replays", tag = "destinations",
    request_body = ReplayInput, params(("id" = Uuid, Path), ("vendor" = String, Path)),
    responses((status = 202, body = Replay), (status = 422, description = "Fields are not valid.")))]
pub async fn begin(
    State(state): State<Management>,
    caller: Caller,
    Under(source, VendorName(vendor)): Under<VendorName>,
    Body(input): Body<ReplayInput>,
) -> Result<(StatusCode, Json<Replay>)> {
    let mut wrong = Fields::default();
    wrong.check(input.from < input.to, "to", "must be after from");
    let fits = |name: &String| (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.contains('\0');
    let is_fine = input.events.len() <= MAX_EVENTS && input.events.iter().all(fits);
    wrong.check(is_fine, "events", "must have at most 100 entries of 1 to 256 bytes");
    wrong.done()?;
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let destination = id_of(connection, caller.org_id, source, &vendor).await?;
            let replay: Replay = insert_into(replays::table)
                .values((
                    replays::id.eq(Uuid::now_v7()),
                    replays::org_id.eq(caller.org_id),
                    replays::destination_id.eq(destination),
                    replays::from_at.eq(input.from),
                    replays::to_at.eq(input.to),
                    replays::events.eq(&input.events),
                    replays::started_by.eq(&caller.email),
                ))
                .returning(Replay::as_returning())
                .get_result(connection)
                .await?;
            let change = Change {
                action: "destination.replayed",
                resource: "destination",
                id: &format!("{source}/{vendor}"),
            };
            change.note(connection, &caller, json!({"replay": replay.id})).await?;
            Ok((StatusCode::ACCEPTED, Json(replay)))
        })
        .await
}

/// Ends a replay before all is sent. One that has ended stays as it is.
#[utoipa::path(delete, path = "/v1/admin/sources/{id}/destinations/{vendor}/replays/{replay_id}", tag = "destinations",
    params(("id" = Uuid, Path), ("vendor" = String, Path), ("replay_id" = Uuid, Path)),
    responses((status = 204)))]
pub async fn cancel(
    State(state): State<Management>,
    caller: Caller,
    Below(source, VendorName(vendor), replay): Below<VendorName, Uuid>,
) -> Result<StatusCode> {
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let destination = id_of(connection, caller.org_id, source, &vendor).await?;
            let running = replays::table
                .filter(replays::id.eq(replay))
                .filter(replays::destination_id.eq(destination))
                .filter(replays::state.eq("running"));
            let ended = update(running)
                .set((replays::state.eq("cancelled"), replays::finished_at.eq(now)))
                .execute(connection)
                .await?;
            if ended > 0 {
                let change = Change {
                    action: "destination.replay_cancelled",
                    resource: "destination",
                    id: &format!("{source}/{vendor}"),
                };
                change.note(connection, &caller, json!({"replay": replay})).await?;
            }
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}
