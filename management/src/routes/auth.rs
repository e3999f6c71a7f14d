//! Logging in and out, and who is logged in.

use axum::{Json, extract::State};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    api::{body::Body, caller::Caller, error::Result, permission::Role},
    auth::{login, sessions::Pair},
    state::Management,
};

/// Email and password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    email: String,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// Who is logged in.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    id: Uuid,
    org_id: Uuid,
    email: String,
    role: Role,
}

/// Logs in.
#[utoipa::path(post, path = "/v1/admin/auth/login", tag = "auth", request_body = Credentials,
    responses((status = 200, body = Pair)))]
pub async fn log_in(
    State(state): State<Management>,
    Body(credentials): Body<Credentials>,
) -> Result<Json<Pair>> {
    login::login(&state, &credentials.email, credentials.password).await.map(Json)
}

/// Shows who is logged in.
#[utoipa::path(get, path = "/v1/admin/me", tag = "auth", responses((status = 200, body = Me)))]
pub async fn me(caller: Caller) -> Json<Me> {
    Json(Me { id: caller.user_id, org_id: caller.org_id, email: caller.email, role: caller.role })
}
