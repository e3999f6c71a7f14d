//! The user who is logged in, and their password.

use axum::{Json, extract::State};
use diesel::{ExpressionMethods, QueryDsl, update};
use diesel_async::{AsyncConnection, RunQueryDsl};
use http::StatusCode;
use migrations::schema::{orgs, users};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    api::{
        audit::Change,
        body::Body,
        caller::Caller,
        error::{Code, Result},
        permission::Role,
    },
    auth::{
        login,
        new_password::hash_of_new,
        sessions::{self, Ending},
    },
    state::Management,
};

/// The user who is logged in.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    id: Uuid,
    email: String,
    name: String,
    org_id: Uuid,
    org_name: String,
    /// ID of its sibling, where the data of test keys are: services name it over gRPC to read them.
    test_org_id: Uuid,
    role: Role,
    /// Permissions of the role, by the names that operations ask for.
    permissions: Vec<&'static str>,
}

/// A change of one's own password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnPassword {
    #[schema(value_type = String, format = Password, max_length = 128)]
    current_password: SecretString,
    /// 12 to 128 characters, and not easy to guess.
    #[schema(value_type = String, format = Password, min_length = 12, max_length = 128)]
    new_password: SecretString,
}

/// Shows who is logged in, and what they may do.
#[utoipa::path(get, path = "/v1/admin/me", tag = "auth", responses((status = 200, body = Me)))]
pub async fn read(State(state): State<Management>, caller: Caller) -> Result<Json<Me>> {
    let mut connection = state.connection().await?;
    let name = users::table.filter(users::id.eq(caller.user_id)).filter(users::org_id.eq(caller.org_id));
    let name = name.select(users::name).first(&mut **connection).await?;
    let org_name = orgs::table.find(caller.org_id).select(orgs::name).first(&mut **connection).await?;
    let sibling = orgs::table.filter(orgs::test_of.eq(caller.org_id)).select(orgs::id);
    let test_org_id = sibling.first(&mut **connection).await?;
    let (id, org_id, role) = (caller.user_id, caller.org_id, caller.role);
    Ok(Json(Me {
        id,
        email: caller.email,
        name,
        org_id,
        org_name,
        test_org_id,
        role,
        permissions: role.permissions(),
    }))
}

/// Changes the caller's own password. Every other session of theirs ends.
#[utoipa::path(put, path = "/v1/admin/me/password", tag = "auth", request_body = OwnPassword,
    responses((status = 204),
        (status = 401, description = "The current password is wrong, or the access token is."),
        (status = 429, description = "Too many tries; they count as failed logins do.")))]
pub async fn change_password(
    State(state): State<Management>,
    caller: Caller,
    Body(input): Body<OwnPassword>,
) -> Result<StatusCode> {
    let (org, id) = (caller.org_id, caller.user_id);
    let current = login::confirm(&state.auth, &caller, input.current_password, "current_password").await?;
    let own = users::table.filter(users::id.eq(id)).filter(users::org_id.eq(org));
    let mut connection = state.connection().await?;
    let name: String = own.select(users::name).first(&mut **connection).await?;
    drop(connection);
    let about = vec![caller.email.clone(), name];
    let hash = hash_of_new(&state.auth, org, about, input.new_password, "new_password").await?;
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let unchanged = own.filter(users::password_hash.eq(current));
            if update(unchanged).set(users::password_hash.eq(hash)).execute(connection).await? == 0 {
                // It was changed since it was confirmed.
                return Err(Code::InvalidCredentials.into());
            }
            sessions::revoke(connection, org, id, Ending::AllBut(caller.session_id)).await?;
            let id = id.to_string();
            let change = Change { action: "user.password_changed", resource: "user", id: &id };
            change.note(connection, &caller, json!({})).await?;
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}
