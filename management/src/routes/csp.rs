//! The Content-Security-Policy that a site needs for its syncs: a browser holds each hop of an image against `img-src`.

use std::collections::BTreeSet;

use axum::{Json, extract::State};
use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::RunQueryDsl;
use migrations::schema::{collect_hosts, identity_sources, pipelines as pipeline_rows};
use serde::Serialize;
use serve::origin::origin_of;
use utoipa::ToSchema;

use super::pipelines;
use crate::{
    api::{caller::Caller, error::Result, query::Id},
    state::Management,
};

/// What a site's Content-Security-Policy has to allow.
#[derive(Debug, Serialize, ToSchema)]
pub struct Csp {
    /// Origins to allow in `img-src`: the collect hosts, and of each vendor whose sync is enabled the endpoint's and those
    /// that its syncs are known to run through. Sorted.
    img_src: Vec<String>,
    /// The same as a directive to put into the policy, beside what it allows already. Null: there is nothing to allow.
    directive: Option<String>,
}

/// Tells which hosts the pages' Content-Security-Policy has to allow for the pipeline's syncs.
#[utoipa::path(get, path = "/v1/admin/pipelines/{id}/csp", tag = "pipelines",
    params(("id" = Uuid, Path)), responses((status = 200, body = Csp)))]
pub async fn hosts(State(state): State<Management>, caller: Caller, Id(pipeline): Id) -> Result<Json<Csp>> {
    let mut connection = state.connection().await?;
    pipelines::exists(&mut connection, caller.org_id, pipeline).await?;
    let enabled: Vec<(String, Option<String>)> = identity_sources::table
        .filter(identity_sources::org_id.eq(caller.org_id))
        .filter(identity_sources::pipeline_id.eq(pipeline))
        .filter(identity_sources::enabled)
        .select((identity_sources::vendor, identity_sources::endpoint))
        .load(&mut connection)
        .await?;
    let source = pipeline_rows::table
        .filter(pipeline_rows::org_id.eq(caller.org_id))
        .filter(pipeline_rows::id.eq(pipeline))
        .select(pipeline_rows::source_id);
    let collecting: Vec<String> = collect_hosts::table
        .filter(collect_hosts::org_id.eq(caller.org_id))
        .filter(collect_hosts::source_id.eq_any(source))
        .select(collect_hosts::url)
        .load(&mut connection)
        .await?;
    drop(connection);
    let vendors = state.catalog.vendors().await?;
    let mut origins: BTreeSet<String> = collecting.iter().filter_map(|url| origin_of(url)).collect();
    for (name, endpoint) in enabled {
        let Some(known) = vendors.sync.iter().find(|known| known.name == name) else { continue };
        let own = origin_of(&known.default_endpoint);
        let hosts = known.csp_hosts.iter().map(|host| format!("https://{host}"));
        // Where another endpoint is set, the vendor's default one is not called.
        origins.extend(hosts.filter(|host| endpoint.is_none() || Some(host) != own.as_ref()));
        origins.extend(endpoint.as_deref().and_then(origin_of));
    }
    let img_src: Vec<String> = origins.into_iter().collect();
    let directive = (!img_src.is_empty()).then(|| format!("img-src {}", img_src.join(" ")));
    Ok(Json(Csp { img_src, directive }))
}
