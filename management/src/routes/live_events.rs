//! Live Events: the last events of a source, with what was sent of them. They are recorded only while somebody looks.

use axum::{Json, extract::State};
use diesel::sql_types::{Bool, Uuid as SqlUuid};
use diesel::{
    ExpressionMethods, QueryDsl, Queryable, QueryableByName, Selectable, SelectableHelper, sql_query,
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use event_log::{LogKeys, Place};
use migrations::{prepared::Prepared, schema::live_events};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::sources;
use crate::{
    api::{
        audit::Change,
        caller::Caller,
        error::{Code, Result},
        query::{Id, Query},
    },
    state::Management,
};

/// Most events of an answer.
const MAX_EVENTS: i64 = 200;

/// The events that are asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct After {
    /// `next_after` of the answer before. Absent: from the oldest on.
    #[param(value_type = Option<i64>, minimum = 0)]
    after: Option<String>,
    /// Most events: 1 to 200, which is so where it is absent.
    #[param(value_type = Option<i64>, minimum = 1)]
    limit: Option<String>,
}

/// Events of a source.
#[derive(Debug, Serialize, ToSchema)]
pub struct LiveEvents {
    /// The events, the oldest first.
    data: Vec<LiveEvent>,
    /// Value of `after` for what comes next.
    next_after: i64,
    /// Time until which events are recorded; each look makes it ten minutes.
    #[serde(with = "time::serde::rfc3339")]
    recorded_until: OffsetDateTime,
}

/// An event with what was sent of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct LiveEvent {
    /// Time of the record.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// `event` as it was collected, `transformed` with `warnings`, `request` (credentials masked), `status` and `answer`,
    /// `took_ms`, `outcome`, `destination`, `test`. Null: it can't be opened.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    document: Value,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = live_events, check_for_backend(diesel::pg::Pg))]
struct Row {
    source_id: Uuid,
    seq: i64,
    org_id: Uuid,
    event_id: Uuid,
    at: OffsetDateTime,
    body: Vec<u8>,
}

#[derive(QueryableByName)]
struct Watched {
    #[diesel(sql_type = diesel::sql_types::Timestamptz)]
    until: OffsetDateTime,
    #[diesel(sql_type = Bool)]
    is_new: bool,
}

/// Shows the last events of a source, at most 200 of an hour and 20 a second, and has what comes recorded for ten minutes.
#[utoipa::path(get, path = "/v1/admin/sources/{id}/live-events", tag = "destinations",
    params(("id" = Uuid, Path), After), responses((status = 200, body = LiveEvents)))]
pub async fn list(
    State(state): State<Management>,
    caller: Caller,
    Id(source): Id,
    Query(asked): Query<After>,
) -> Result<Json<LiveEvents>> {
    let number = |text: Option<&String>, least: i64, default: i64| match text {
        None => Ok(default),
        Some(text) => {
            text.parse::<i64>().ok().filter(|number| *number >= least).ok_or(Code::InvalidParameter)
        }
    };
    let after = number(asked.after.as_ref(), 0, 0)?;
    let limit = number(asked.limit.as_ref(), 1, MAX_EVENTS)?.min(MAX_EVENTS);
    let mut connection = state.connection().await?;
    let (watched, rows) = connection
        .transaction(async |connection| {
            sources::exists(connection, caller.org_id, source).await?;
            let watch = sql_query(
                "INSERT INTO live_watches AS own (source_id, org_id, until) VALUES ($1, $2, now() + interval '10 minutes') \
                 ON CONFLICT (source_id) DO UPDATE SET until = excluded.until \
                 RETURNING until, COALESCE((SELECT old.until < now() FROM live_watches old WHERE old.source_id = $1), true) \
                     AS is_new",
            )
            .bind::<SqlUuid, _>(source)
            .bind::<SqlUuid, _>(caller.org_id);
            let watched: Watched = Prepared(watch).get_result(connection).await?;
            // Whoever goes on from where they were has been noted.
            if watched.is_new || after == 0 {
                let id = source.to_string();
                let change = Change { action: "source.watched", resource: "source", id: &id };
                change.note(connection, &caller, json!({})).await?;
            }
            let rows: Vec<Row> = live_events::table
                .filter(live_events::source_id.eq(source))
                .filter(live_events::seq.gt(after))
                .order(live_events::seq)
                .limit(limit)
                .select(Row::as_select())
                .load(connection)
                .await?;
            Ok::<_, crate::api::error::ApiError>((watched, rows))
        })
        .await?;
    let keys = LogKeys::derive(state.keys.clone());
    let next_after = rows.last().map_or(after, |row| row.seq);
    let data = rows.into_iter().map(|row| row.shown(&keys)).collect();
    Ok(Json(LiveEvents { data, next_after, recorded_until: watched.until }))
}

impl Row {
    fn shown(self, keys: &LogKeys) -> LiveEvent {
        let place = Place::at(self.org_id, self.source_id, self.event_id, OffsetDateTime::UNIX_EPOCH);
        let opened = keys.open(place, &self.body).ok();
        let document = opened.and_then(|plain| serde_json::from_slice(&plain).ok());
        LiveEvent { at: self.at, document: document.unwrap_or_else(|| json!({"event": null})) }
    }
}
