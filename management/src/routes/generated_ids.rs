//! Generated IDs: of which vendors a pipeline collects click IDs and makes IDs in their format, without
//! asking them. It does of all of them, unless it is said otherwise.

use axum::{Json, extract::State};
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, Queryable, Selectable, SelectableHelper, insert_into,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use http::StatusCode;
use migrations::{rows::GeneratedIds, schema::generated_ids};
use proto::v1::CollectedVendor;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    custom_providers,
    identity_sources::unknown_vendor,
    named::{listed_rows, named_rows},
    pipelines,
};
use crate::{
    api::{
        audit,
        body::Body,
        caller::Caller,
        error::{ApiError, Code, Result},
        page::{Page, Paged},
        query::{Id, IfMatch, Query, Under},
        versioned::Versioned,
    },
    catalog::VendorName,
    state::Management,
};

/// Input that says whether a vendor's IDs are collected.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GeneratedIdsInput {
    /// True where the IDs are collected, as they are where nothing is said.
    enabled: bool,
}

/// Setting by which a pipeline collects a vendor's click IDs and generates its IDs, or does not.
#[derive(Debug, Serialize, Queryable, Selectable, ToSchema)]
#[diesel(table_name = generated_ids, check_for_backend(diesel::pg::Pg))]
pub struct GeneratedIdsView {
    vendor: String,
    enabled: bool,
    /// Version of the record, for `If-Match`.
    version: i32,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// Lists the vendors of which it is said, by name. Those of all others are collected.
#[utoipa::path(get, path = "/v1/admin/pipelines/{id}/generated-ids", tag = "generated-ids",
    params(("id" = Uuid, Path), Page), responses((status = 200, body = Paged<GeneratedIdsView>)))]
pub async fn list(
    State(state): State<Management>,
    caller: Caller,
    Id(pipeline): Id,
    Query(page): Query<Page>,
) -> Result<Json<Paged<GeneratedIdsView>>> {
    let mut connection = state.connection().await?;
    pipelines::exists(&mut connection, caller.org_id, pipeline).await?;
    let found = listed(&mut connection, caller.org_id, pipeline, &page).await?;
    Ok(Json(found))
}

/// Shows what is said of a vendor.
#[utoipa::path(get, path = "/v1/admin/pipelines/{id}/generated-ids/{vendor}", tag = "generated-ids",
    params(("id" = Uuid, Path), ("vendor" = String, Path)), responses((status = 200, body = GeneratedIdsView)))]
pub async fn read(
    State(state): State<Management>,
    caller: Caller,
    Under(pipeline, vendor): Under<VendorName>,
) -> Result<Versioned<GeneratedIdsView>> {
    let mut connection = state.connection().await?;
    let found = one(&mut connection, caller.org_id, pipeline, &vendor.0).await?.ok_or(Code::NotFound)?;
    Ok(Versioned(StatusCode::OK, found.version, found))
}

/// Says whether a vendor's click IDs are collected and its IDs made.
#[utoipa::path(put, path = "/v1/admin/pipelines/{id}/generated-ids/{vendor}", tag = "generated-ids",
    request_body = GeneratedIdsInput,
    params(("id" = Uuid, Path), ("vendor" = String, Path, description = "Of the catalogue; 404 for another."),
        ("If-Match" = Option<String>, Header, description = "The version, quoted.")),
    responses((status = 200, body = GeneratedIdsView), (status = 201, body = GeneratedIdsView),
        (status = 409, description = "The version is not the newest.")))]
pub async fn set(
    State(state): State<Management>,
    caller: Caller,
    Under(pipeline, vendor): Under<VendorName>,
    seen: IfMatch,
    Body(input): Body<GeneratedIdsInput>,
) -> Result<Versioned<GeneratedIdsView>> {
    let (org, vendor) = (caller.org_id, vendor.0);
    pipelines::exists(&mut *state.connection().await?, org, pipeline).await?;
    let vendors = state.catalog.vendors().await?;
    let known = vendors.collected.iter().find(|known| known.name == vendor);
    let known = known.ok_or_else(|| unknown_vendor("/v1/admin/catalog/generated-ids"))?;
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let locked = pipelines::locked(connection, org, pipeline).await?;
            let before = one(connection, org, pipeline, &vendor).await?;
            seen.check(before.as_ref().map(|before| before.version))?;
            if input.enabled {
                nobody_fills(connection, org, locked.source_id, known).await?;
            }
            let id = format!("{pipeline}/{vendor}");
            let row = GeneratedIds { org_id: org, pipeline_id: pipeline, vendor, enabled: input.enabled };
            let after: GeneratedIdsView = insert_into(generated_ids::table)
                .values(row)
                .on_conflict((generated_ids::pipeline_id, generated_ids::vendor))
                .do_update()
                .set(generated_ids::enabled.eq(input.enabled))
                .returning(GeneratedIdsView::as_returning())
                .get_result(connection)
                .await?;
            audit::record(connection, &caller, "generated_ids", &id, before.as_ref(), Some(&after)).await?;
            Ok(Versioned::put(before.is_some(), after.version, after))
        })
        .await
}

/// Takes back what was said: from then on the vendor's IDs are collected. Where nothing was said that is no error.
#[utoipa::path(delete, path = "/v1/admin/pipelines/{id}/generated-ids/{vendor}", tag = "generated-ids",
    params(("id" = Uuid, Path), ("vendor" = String, Path)), responses((status = 204)))]
pub async fn remove(
    State(state): State<Management>,
    caller: Caller,
    Under(pipeline, VendorName(vendor)): Under<VendorName>,
) -> Result<StatusCode> {
    pipelines::exists(&mut *state.connection().await?, caller.org_id, pipeline).await?;
    let vendors = state.catalog.vendors().await?;
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let locked = pipelines::locked(connection, caller.org_id, pipeline).await?;
            if let Some(known) = vendors.collected.iter().find(|known| known.name == vendor) {
                nobody_fills(connection, caller.org_id, locked.source_id, known).await?;
            }
            if let Some(removed) = take(connection, caller.org_id, pipeline, &vendor).await? {
                let id = format!("{pipeline}/{vendor}");
                audit::record(connection, &caller, "generated_ids", &id, Some(&removed), None).await?;
            }
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

named_rows!(generated_ids by pipeline_id and vendor -> GeneratedIdsView);
listed_rows!(generated_ids by pipeline_id and vendor -> GeneratedIdsView);

/// Refuses where a provider of the source's own, of before they were reserved, fills one of the vendor's fields.
async fn nobody_fills(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    source: Uuid,
    vendor: &CollectedVendor,
) -> Result<()> {
    let clicks = vendor.click_ids.iter().map(|id| id.field.as_str());
    let fields = clicks.chain(vendor.generated_ids.iter().map(|id| id.field.as_str()));
    let filler = custom_providers::filler_of(connection, org, source, fields).await?;
    filler.map_or(Ok(()), |why| Err(ApiError::field("enabled", why)))
}
