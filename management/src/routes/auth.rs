//! Logging in and out.

use axum::{Json, extract::State};
use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    api::{
        audit::Change,
        body::Body,
        caller::{Caller, Origin},
        error::Result,
    },
    auth::{
        login, refresh,
        sessions::{self, Ending, Pair},
    },
    state::Management,
};

/// Email and password of a user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Email address, in upper or lower case.
    #[schema(max_length = 254)]
    email: String,
    /// ID or name of the organisation, needed where users of several have that address.
    #[schema(max_length = 200)]
    org: Option<String>,
    #[schema(value_type = String, format = Password, max_length = 128)]
    password: SecretString,
}

/// Input to renew a pair of tokens with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshInput {
    /// Newest refresh token of the session.
    #[schema(value_type = String)]
    refresh_token: SecretString,
}

/// Logs a user in.
#[utoipa::path(post, path = "/v1/admin/auth/login", tag = "auth", request_body = Credentials,
    responses((status = 200, body = Pair),
        (status = 401, description = "The email address or the password is wrong, or the user is disabled."),
        (status = 409, description = "`ORG_NEEDED`: the password is right, and users of several organisations have \
            that address."),
        (status = 429, description = "Ten failures in 15 minutes of the account from this network, or 100 from it.")))]
pub async fn log_in(
    State(state): State<Management>,
    origin: Origin,
    Body(credentials): Body<Credentials>,
) -> Result<Json<Pair>> {
    let Credentials { email, org, password } = credentials;
    login::login(&state.auth, &email, org.as_deref(), password, &origin).await.map(Json)
}

/// Gives a new pair of tokens for a refresh token, which is good for that once. A token that was used before
/// ends every session of its user while its own session lasts, and is refused from then on; a token that
/// another request used in the same second is refused, and nothing ends.
#[utoipa::path(post, path = "/v1/admin/auth/refresh", tag = "auth", request_body = RefreshInput,
    responses((status = 200, body = Pair),
        (status = 401, description = "The refresh token is unknown, expired, revoked, or was used before."),
        (status = 409, description = "Another request has used it a moment ago, and has the new pair."),
        (status = 429, description = "A hundred failures in 15 minutes, logins included, from this network.")))]
pub async fn refresh(
    State(state): State<Management>,
    origin: Origin,
    Body(input): Body<RefreshInput>,
) -> Result<Json<Pair>> {
    refresh::refresh(&state.auth, input.refresh_token.expose_secret(), &origin).await.map(Json)
}

/// Ends the session that the access token belongs to, with all of its tokens.
#[utoipa::path(post, path = "/v1/admin/auth/logout", tag = "auth", responses((status = 204)))]
pub async fn log_out(State(state): State<Management>, caller: Caller) -> Result<StatusCode> {
    let mut connection = state.connection().await?;
    sessions::revoke(&mut connection, caller.org_id, caller.user_id, Ending::Only(caller.session_id)).await?;
    let id = caller.user_id.to_string();
    let change = Change { action: "auth.logout", resource: "user", id: &id };
    change.note(&mut connection, &caller, json!({})).await?;
    Ok(StatusCode::NO_CONTENT)
}
