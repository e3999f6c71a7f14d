//! Sources: sites and apps that send events, with their domains, collect hosts and pipeline.

mod input;

use std::collections::HashMap;

use axum::{Json, extract::State};
use diesel::{ExpressionMethods, QueryDsl, Queryable, Selectable, SelectableHelper, delete, insert_into};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use http::StatusCode;
use migrations::{
    rows::{self, Pipeline},
    schema::{collect_hosts, pipelines, refused_hosts, sources},
};
use serde::Serialize;
use time::{Date, OffsetDateTime};
use utoipa::ToSchema;
use uuid::Uuid;

pub use self::input::INSIDE;
use self::input::{CollectHost, SourceInput, SourceSettings};
use crate::{
    api::{
        audit,
        body::Body,
        caller::Caller,
        error::{ApiError, Code, Result},
        limit::limit,
        org_lock::lock_org,
        page::{Page, Paged},
        permission::Permission,
        query::{Id, IfMatch, Query},
        versioned::Versioned,
    },
    state::Management,
};

time::serde::format_description!(day, Date, "[year]-[month]-[day]");

/// Most sources of one organisation: every core holds all of them in memory.
const MAX_SOURCES: i64 = 1000;

/// A source, with its domains and collect hosts.
#[derive(Debug, Serialize, ToSchema)]
pub struct SourceView {
    id: Uuid,
    /// ID of its pipeline, which is made with it.
    pipeline_id: Uuid,
    name: String,
    domains: Vec<String>,
    collect_hosts: Vec<CollectHost>,
    browser_identity: String,
    require_signature: bool,
    require_timestamp: bool,
    /// Words that are no identifiers here, in lower case.
    placeholders: Vec<String>,
    /// Host by which a call with a key of this source was refused last, as none of `collect_hosts`; its first 100
    /// characters, and whatever somebody sent. Null: none.
    last_refused_host: Option<String>,
    /// Day (UTC) of that refusal.
    #[serde(with = "day::option")]
    last_refused_on: Option<Date>,
    /// Version of the record, for `If-Match`.
    version: i32,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl SourceView {
    fn settings(&self) -> SourceSettings {
        SourceSettings {
            name: self.name.clone(),
            domains: self.domains.clone(),
            collect_hosts: self.collect_hosts.clone(),
            browser_identity: self.browser_identity.clone(),
            require_signature: self.require_signature,
            require_timestamp: self.require_timestamp,
            placeholders: self.placeholders.clone(),
        }
    }
}

/// Lists sources, oldest first.
#[utoipa::path(get, path = "/v1/admin/sources", tag = "sources", params(Page),
    responses((status = 200, body = Paged<SourceView>)))]
pub async fn list(
    State(state): State<Management>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Paged<SourceView>>> {
    let mut connection = state.connection().await?;
    let mut query = sources::table
        .filter(sources::org_id.eq(caller.org_id))
        .order(sources::id)
        .limit(page.rows())
        .select(SourceRow::as_select())
        .into_boxed();
    if let Some(after) = page.after::<Uuid>()? {
        query = query.filter(sources::id.gt(after));
    }
    let found: Vec<SourceRow> = query.load(&mut **connection).await?;
    let views = views(&mut connection, caller.org_id, found).await?;
    Ok(Json(page.of(views, |view| view.id.to_string())))
}

/// Makes a source and its pipeline.
#[utoipa::path(post, path = "/v1/admin/sources", tag = "sources", request_body = SourceInput,
    responses((status = 201, body = SourceView),
        (status = 409, description = "The organisation has 1,000 sources, or a collect host is another organisation's.")))]
pub async fn create(
    State(state): State<Management>,
    caller: Caller,
    Body(input): Body<SourceInput>,
) -> Result<Versioned<SourceView>> {
    let settings = input.checked(state.allow_loopback)?.over(SourceSettings::default());
    let (id, org) = (Uuid::now_v7(), caller.org_id);
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let pipeline = Pipeline {
                id: Uuid::now_v7(),
                org_id: org,
                source_id: id,
                consent_mode: "explicit".to_owned(),
                purge_on_withdrawal: false,
                rate_limit_rps: None,
                consent_mapping: None,
            };
            lock_org(connection, org).await?;
            let own = sources::table.filter(sources::org_id.eq(org)).count();
            limit(own.get_result(connection).await?, MAX_SOURCES)?;
            insert_into(sources::table).values(settings.row(id, org)).execute(connection).await?;
            insert_into(pipelines::table).values(pipeline).execute(connection).await?;
            insert_hosts(connection, org, id, &settings.collect_hosts).await?;
            let made = one(connection, org, id).await?;
            note(connection, &caller, id, None, Some(&made)).await?;
            Ok(Versioned(StatusCode::CREATED, made.version, made))
        })
        .await
}

/// Shows a source of the organisation.
#[utoipa::path(get, path = "/v1/admin/sources/{id}", tag = "sources", params(("id" = Uuid, Path)),
    responses((status = 200, body = SourceView)))]
pub async fn read(
    State(state): State<Management>,
    caller: Caller,
    Id(id): Id,
) -> Result<Versioned<SourceView>> {
    let mut connection = state.connection().await?;
    let source = one(&mut connection, caller.org_id, id).await?;
    Ok(Versioned(StatusCode::OK, source.version, source))
}

/// Changes a source's settings. What is left out stays as it is.
#[utoipa::path(put, path = "/v1/admin/sources/{id}", tag = "sources", request_body = SourceInput,
    params(("id" = Uuid, Path), ("If-Match" = Option<String>, Header, description = "The version, quoted.")),
    responses((status = 200, body = SourceView),
        (status = 409, description = "The version is not the newest, or a collect host is another organisation's.")))]
pub async fn update(
    State(state): State<Management>,
    caller: Caller,
    Id(id): Id,
    seen: IfMatch,
    Body(input): Body<SourceInput>,
) -> Result<Versioned<SourceView>> {
    let input = input.checked(state.allow_loopback)?;
    let org = caller.org_id;
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let before = locked(connection, org, id).await?;
            seen.check(Some(before.version))?;
            let present = before.settings();
            let settings = input.over(present.clone());
            if settings.shut_out(&present) && !caller.role.may(Permission::DeleteSettings) {
                let whose = "Removing a domain or host, and requiring signatures, is for owners and admins.";
                return Err(ApiError::with_message(Code::Forbidden, whose));
            }
            let own = sources::table.filter(sources::org_id.eq(org)).filter(sources::id.eq(id));
            diesel::update(own)
                .set((
                    sources::name.eq(&settings.name),
                    sources::domains.eq(&settings.domains),
                    sources::browser_identity.eq(&settings.browser_identity),
                    sources::require_signature.eq(settings.require_signature),
                    sources::require_timestamp.eq(settings.require_timestamp),
                    sources::placeholders.eq(&settings.placeholders),
                ))
                .execute(connection)
                .await?;
            let hosts = collect_hosts::table.filter(collect_hosts::org_id.eq(org));
            delete(hosts.filter(collect_hosts::source_id.eq(id))).execute(connection).await?;
            insert_hosts(connection, org, id, &settings.collect_hosts).await?;
            let after = one(connection, org, id).await?;
            note(connection, &caller, id, Some(&before), Some(&after)).await?;
            Ok(Versioned(StatusCode::OK, after.version, after))
        })
        .await
}

/// Removes a source with its keys and all of its settings: calls with its keys are refused within a second.
/// Removing one that is gone is no error.
#[utoipa::path(delete, path = "/v1/admin/sources/{id}", tag = "sources", params(("id" = Uuid, Path)),
    responses((status = 204)))]
pub async fn remove(State(state): State<Management>, caller: Caller, Id(id): Id) -> Result<StatusCode> {
    let org = caller.org_id;
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let before = match locked(connection, org, id).await {
                Err(error) if error.code() == Code::NotFound => {
                    return audit::already_removed(connection, org, "source.deleted", id).await;
                }
                found => found?,
            };
            let own = sources::table.filter(sources::org_id.eq(org)).filter(sources::id.eq(id));
            delete(own).execute(connection).await?;
            note(connection, &caller, id, Some(&before), None).await?;
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

/// Row of a source.
#[derive(Queryable, Selectable)]
#[diesel(table_name = sources, check_for_backend(diesel::pg::Pg))]
struct SourceRow {
    #[diesel(embed)]
    source: rows::Source,
    version: i32,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl SourceRow {
    /// Makes the view of the source; none where its pipeline is gone, as it was removed meanwhile.
    fn shown(
        self,
        pipelines: &HashMap<Uuid, Uuid>,
        hosts: &[rows::CollectHost],
        refused: &mut HashMap<Uuid, (String, Date)>,
    ) -> Option<SourceView> {
        let Self { source, version, created_at, updated_at } = self;
        let (last_refused_host, last_refused_on) = refused.remove(&source.id).unzip();
        let own = hosts.iter().filter(|host| host.source_id == source.id);
        Some(SourceView {
            id: source.id,
            pipeline_id: *pipelines.get(&source.id)?,
            name: source.name,
            domains: source.domains,
            collect_hosts: own.map(CollectHost::from).collect(),
            browser_identity: source.browser_identity,
            require_signature: source.require_signature,
            require_timestamp: source.require_timestamp,
            placeholders: source.placeholders,
            last_refused_host,
            last_refused_on,
            version,
            created_at,
            updated_at,
        })
    }
}

async fn insert_hosts(
    connection: &mut AsyncPgConnection,
    org_id: Uuid,
    source_id: Uuid,
    hosts: &[CollectHost],
) -> Result<()> {
    // In their order, of which the core takes the first where a signed call is by no collect host: the IDs grow.
    let rows: Vec<_> = hosts.iter().map(|host| host.row(Uuid::now_v7(), org_id, source_id)).collect();
    insert_into(collect_hosts::table).values(rows).execute(connection).await?;
    Ok(())
}

/// Finds the source of that ID, if it is the organisation's.
async fn one(connection: &mut AsyncPgConnection, org: Uuid, id: Uuid) -> Result<SourceView> {
    let own = sources::table.filter(sources::org_id.eq(org)).filter(sources::id.eq(id));
    let found: SourceRow = own.select(SourceRow::as_select()).first(connection).await?;
    Ok(views(connection, org, vec![found]).await?.pop().ok_or(Code::NotFound)?)
}

/// Finds the source as [`one`] does; nobody else changes it until the end of the transaction.
async fn locked(connection: &mut AsyncPgConnection, org: Uuid, id: Uuid) -> Result<SourceView> {
    lock(connection, org, id).await?;
    one(connection, org, id).await
}

/// Refuses where the organisation has no source of that ID.
pub async fn exists(connection: &mut AsyncPgConnection, org: Uuid, id: Uuid) -> Result<()> {
    let own = sources::table.filter(sources::org_id.eq(org)).filter(sources::id.eq(id));
    own.select(sources::id).first::<Uuid>(connection).await?;
    Ok(())
}

/// Refuses as [`exists`] does; and whoever else changes the source, or what belongs to it, waits for the end
/// of the transaction.
pub async fn lock(connection: &mut AsyncPgConnection, org: Uuid, id: Uuid) -> Result<()> {
    let own = sources::table.filter(sources::org_id.eq(org)).filter(sources::id.eq(id));
    own.select(sources::id).for_update().first::<Uuid>(connection).await?;
    Ok(())
}

/// Makes the views of these sources, in their order.
async fn views(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    found: Vec<SourceRow>,
) -> Result<Vec<SourceView>> {
    let ids: Vec<Uuid> = found.iter().map(|row| row.source.id).collect();
    let of_these =
        pipelines::table.filter(pipelines::org_id.eq(org)).filter(pipelines::source_id.eq_any(&ids));
    let pipelines: Vec<(Uuid, Uuid)> =
        of_these.select((pipelines::source_id, pipelines::id)).load(connection).await?;
    let pipelines: HashMap<Uuid, Uuid> = pipelines.into_iter().collect();
    let of_these = collect_hosts::table
        .filter(collect_hosts::org_id.eq(org))
        .filter(collect_hosts::source_id.eq_any(&ids));
    let in_order = of_these.order((collect_hosts::created_at, collect_hosts::id));
    let hosts: Vec<rows::CollectHost> =
        in_order.select(rows::CollectHost::as_select()).load(connection).await?;
    let of_these = refused_hosts::table
        .filter(refused_hosts::org_id.eq(org))
        .filter(refused_hosts::source_id.eq_any(&ids));
    let refused: Vec<(Uuid, (String, Date))> = of_these
        .select((refused_hosts::source_id, (refused_hosts::host, refused_hosts::refused_on)))
        .load(connection)
        .await?;
    let mut refused = refused.into_iter().collect();
    Ok(found.into_iter().filter_map(|row| row.shown(&pipelines, &hosts, &mut refused)).collect())
}

async fn note(
    connection: &mut AsyncPgConnection,
    caller: &Caller,
    id: Uuid,
    before: Option<&SourceView>,
    after: Option<&SourceView>,
) -> Result<()> {
    audit::record(connection, caller, "source", &id.to_string(), before, after).await
}
