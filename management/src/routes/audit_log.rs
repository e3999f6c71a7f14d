//! The audit log: who has changed what, newest first.

use axum::{Json, extract::State};
use diesel::{ExpressionMethods, QueryDsl, Queryable, Selectable, SelectableHelper};
use diesel_async::RunQueryDsl;
use migrations::schema::audit_log;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    api::{
        caller::Caller,
        error::{Code, Result},
        page::{Cursor, Limit, Page, Paged},
        query::Query,
    },
    state::Management,
};

/// Filter of the entries to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// `next_cursor` of the page before. Absent: the newest.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
    /// Entries on the page: 1 to 100, 50 where it is absent.
    #[param(value_type = Option<i64>, minimum = 1)]
    limit: Option<Limit>,
    /// Entries of one action alone, such as `source.updated`.
    action: Option<String>,
    /// Entries about one kind of thing alone, such as `source`.
    resource_type: Option<String>,
    /// ID or name of the thing that was changed.
    resource_id: Option<String>,
    /// ID of the user who did it.
    user_id: Option<Uuid>,
    /// Earliest time, RFC 3339.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Time that all entries come before, RFC 3339.
    #[param(format = DateTime)]
    until: Option<String>,
}

/// A thing that was done.
#[derive(Debug, Serialize, Queryable, Selectable, ToSchema)]
#[diesel(table_name = audit_log, check_for_backend(diesel::pg::Pg))]
pub struct Entry {
    id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// ID of the user who did it. Null: nobody was logged in.
    user_id: Option<Uuid>,
    /// Email address of that user, as it was then.
    user_email: Option<String>,
    /// The thing and what was done to it, such as `source.updated`.
    action: String,
    /// Kind of the thing, such as `source`.
    resource_type: String,
    /// ID or name of the thing; empty where that would name a visitor.
    resource_id: String,
    /// Fields that were changed, each with `{"old", "new"}`. Never a secret.
    changes: Value,
    /// Address that the request came from.
    ip: String,
    user_agent: String,
}

/// Lists what was done in the last 90 days, newest first.
#[utoipa::path(get, path = "/v1/admin/audit-log", tag = "audit-log", params(Filter),
    responses((status = 200, body = Paged<Entry>)))]
pub async fn list(
    State(state): State<Management>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<Paged<Entry>>> {
    let page = Page { cursor: filter.cursor, limit: filter.limit };
    let mut query = audit_log::table
        .filter(audit_log::org_id.eq(caller.org_id))
        .order(audit_log::id.desc())
        .limit(page.rows())
        .select(Entry::as_select())
        .into_boxed();
    if let Some(after) = page.after::<Uuid>()? {
        query = query.filter(audit_log::id.lt(after));
    }
    for text in [&filter.action, &filter.resource_type, &filter.resource_id].into_iter().flatten() {
        if text.contains('\0') {
            return Err(Code::InvalidParameter.into());
        }
    }
    if let Some(action) = filter.action {
        query = query.filter(audit_log::action.eq(action));
    }
    if let Some(kind) = filter.resource_type {
        query = query.filter(audit_log::resource_type.eq(kind));
    }
    if let Some(id) = filter.resource_id {
        query = query.filter(audit_log::resource_id.eq(id));
    }
    if let Some(user) = filter.user_id {
        query = query.filter(audit_log::user_id.eq(user));
    }
    if let Some(since) = time(filter.since.as_deref())? {
        query = query.filter(audit_log::at.ge(since));
    }
    if let Some(until) = time(filter.until.as_deref())? {
        query = query.filter(audit_log::at.lt(until));
    }
    let mut connection = state.connection().await?;
    let entries = query.load(&mut **connection).await?;
    Ok(Json(page.of(entries, |entry: &Entry| entry.id.to_string())))
}

/// Parses a time that PostgreSQL knows, too.
fn time(text: Option<&str>) -> Result<Option<OffsetDateTime>> {
    let Some(text) = text else { return Ok(None) };
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| Code::InvalidParameter)?;
    if (1..=9998).contains(&time.year()) { Ok(Some(time)) } else { Err(Code::InvalidParameter.into()) }
}
