//! People: who somebody is, all that is stored of them, their erasure, and merges taken apart. The core does
//! it; the audit log names nobody.

mod view;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::RunQueryDsl;
use http::{HeaderValue, StatusCode, header};
use migrations::schema::orgs;
use proto::v1::{
    DeleteRequest, ExportRequest, IdentityRef, LookupRequest, UnmergeRequest, identity_ref::Id as Named,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use self::view::Person;
use crate::{
    api::{
        audit::Change,
        body::Body,
        caller::Caller,
        error::{ApiError, Code, Result},
        query::{Id, Query},
    },
    state::Management,
};

/// ID by which somebody is looked up: exactly one.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct IdentityQuery {
    /// A browser's anonymous ID.
    anonymous_id: Option<String>,
    /// User ID, your own ID of a person.
    user_id: Option<String>,
    /// A canonical identity; an old one leads to what it was merged into.
    canonical_id: Option<Uuid>,
    /// `live` (where absent), or `test`: the data of test keys.
    #[serde(default)]
    #[param(inline)]
    environment: Environment,
}

/// World that the data is of.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EnvironmentQuery {
    /// `live` (where absent), or `test`: the data of test keys.
    #[serde(default)]
    #[param(inline)]
    environment: Environment,
}

/// World of an organisation: it has two, which are kept apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Data of live keys.
    #[default]
    Live,
    /// Data of test keys.
    Test,
}

/// Looks somebody up by any of their IDs. That somebody was looked up is on record, and not whom.
#[utoipa::path(get, path = "/v1/admin/identities", tag = "identities", params(IdentityQuery),
    responses((status = 200, body = Person), (status = 404, description = "Nobody is known by that ID.")))]
pub async fn look_up(
    State(state): State<Management>,
    caller: Caller,
    Query(who): Query<IdentityQuery>,
) -> Result<Json<Person>> {
    let IdentityQuery { anonymous_id, user_id, canonical_id, environment } = who;
    let canonical_id = canonical_id.map(|id| Named::CanonicalId(id.to_string()));
    let named = [anonymous_id.map(Named::AnonymousId), user_id.map(Named::UserId), canonical_id];
    let mut named = named.into_iter().flatten();
    let (Some(id), None) = (named.next(), named.next()) else {
        return Err(ApiError::with_message(Code::InvalidParameter, "Exactly one ID is needed."));
    };
    let org_id = data_org(&state, &caller, environment).await?;
    order("identity.looked_up", "", &state, &caller).await?;
    let identity = Some(IdentityRef { id: Some(id), ..IdentityRef::default() });
    let request = LookupRequest { org_id, identity };
    let person = state.core.lookup(request).await?.person.ok_or(Code::NotFound)?;
    Ok(Json(person.into()))
}

/// Exports all that is stored about somebody, as a file to hand to them.
#[utoipa::path(get, path = "/v1/admin/identities/{id}/export", tag = "identities",
    params(("id" = Uuid, Path, description = "A canonical identity."), EnvironmentQuery),
    responses((status = 200, body = serde_json::Value, description = "All of it; times are RFC 3339 in UTC.")))]
pub async fn export(
    State(state): State<Management>,
    caller: Caller,
    Id(id): Id,
    Query(of): Query<EnvironmentQuery>,
) -> Result<Response> {
    let org_id = data_org(&state, &caller, of.environment).await?;
    order("identity.export", "", &state, &caller).await?;
    let document = state.core.export(ExportRequest { org_id, identity: Some(canonical(id)) }).await?.document;
    let document = proto::json::object(document.ok_or(Code::NotFound)?);
    let name = HeaderValue::from_static("attachment; filename=\"identity.json\"");
    Ok(([(header::CONTENT_DISPOSITION, name)], Json(document)).into_response())
}

/// Erases somebody across all of their linked IDs, in every store. What is gone, or never was, is no error.
#[utoipa::path(delete, path = "/v1/admin/identities/{id}", tag = "identities",
    params(("id" = Uuid, Path, description = "A canonical identity."), EnvironmentQuery),
    responses((status = 204)))]
pub async fn erase(
    State(state): State<Management>,
    caller: Caller,
    Id(id): Id,
    Query(of): Query<EnvironmentQuery>,
) -> Result<StatusCode> {
    let org_id = data_org(&state, &caller, of.environment).await?;
    order("identity.erase", "", &state, &caller).await?;
    state.core.delete(DeleteRequest { org_id, identity: Some(canonical(id)) }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Merge that is to be taken apart.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhichMerge {
    /// ID of one of the identity's `merges`.
    merge_id: Uuid,
}

/// Identity that stands on its own again.
#[derive(Debug, Serialize, ToSchema)]
pub struct Unmerged {
    canonical_id: String,
}

/// Takes one merge of an identity apart again: what it moved goes back. Doing it twice is no error.
#[utoipa::path(post, path = "/v1/admin/identities/{id}/unmerge", tag = "identities", request_body = WhichMerge,
    params(("id" = Uuid, Path, description = "The canonical identity that others were merged into."),
        EnvironmentQuery),
    responses((status = 200, body = Unmerged)))]
pub async fn unmerge(
    State(state): State<Management>,
    caller: Caller,
    Id(id): Id,
    Query(of): Query<EnvironmentQuery>,
    Body(WhichMerge { merge_id }): Body<WhichMerge>,
) -> Result<Json<Unmerged>> {
    let org_id = data_org(&state, &caller, of.environment).await?;
    let request = LookupRequest { org_id: org_id.clone(), identity: Some(canonical(id)) };
    let person = state.core.lookup(request).await?.person.ok_or(Code::NotFound)?;
    let merge_id = merge_id.to_string();
    if !person.merges.iter().any(|merge| merge.merge_id == merge_id) {
        return Err(Code::NotFound.into());
    }
    order("identity.unmerge", &merge_id, &state, &caller).await?;
    let canonical_id = state.core.unmerge(UnmergeRequest { org_id, merge_id }).await?.canonical_id;
    Ok(Json(Unmerged { canonical_id }))
}

fn canonical(id: Uuid) -> IdentityRef {
    IdentityRef { id: Some(Named::CanonicalId(id.to_string())), ..IdentityRef::default() }
}

/// Gives the organisation, or its sibling for test data.
async fn data_org(state: &Management, caller: &Caller, environment: Environment) -> Result<String> {
    if environment == Environment::Live {
        return Ok(caller.org_id.to_string());
    }
    let mut connection = state.connection().await?;
    let sibling = orgs::table.filter(orgs::test_of.eq(caller.org_id)).select(orgs::id);
    let sibling: Uuid = sibling.first(&mut **connection).await?;
    Ok(sibling.to_string())
}

/// Puts on record that `caller` orders it, before the core is told: nothing is done that nobody knows of. The
/// person whom it is about is left out, as they may have just been erased.
async fn order(action: &'static str, id: &str, state: &Management, caller: &Caller) -> Result<()> {
    let mut connection = state.connection().await?;
    Change { action, resource: "identity", id }.note(&mut connection, caller, json!({})).await
}
