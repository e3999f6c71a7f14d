//! Sealing everything of an organisation with the current encryption key.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use diesel_async::AsyncConnection;
use http::{StatusCode, request::Parts};
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    api::{audit::Change, caller::Caller, error::Result, permission::Permission},
    auth::middleware::identify,
    crypto::{
        health::Health,
        reencrypt::{self, Job, Takeover},
    },
    state::Management,
};

/// Progress of re-encryption in an organisation.
#[derive(Debug, Serialize, ToSchema)]
pub struct Progress {
    /// `never`, `running` or `finished`.
    state: &'static str,
    /// Values that were sealed with another key when it began.
    total: i64,
    /// Values that were sealed anew. Together with `failed` they may be fewer than `total`, where some were
    /// changed or removed meanwhile, or more, where some were added.
    done: i64,
    /// Values that no configured key opens. They are logged with table, row and key, and left as they are.
    failed: i64,
    /// ID of the key that they are sealed with: the first 4 bytes of its SHA-256, as hex digits. Null: never.
    key_id: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
}

impl From<Option<Job>> for Progress {
    fn from(job: Option<Job>) -> Self {
        let counts = job.as_ref().map_or((0, 0, 0), |job| (job.total, job.done, job.failed));
        Self {
            state: match &job {
                None => "never",
                Some(Job { finished_at: None, .. }) => "running",
                Some(_) => "finished",
            },
            total: counts.0,
            done: counts.1,
            failed: counts.2,
            key_id: job.as_ref().map(|job| hex::encode(&job.key_id)),
            started_at: job.as_ref().map(|job| job.started_at),
            finished_at: job.and_then(|job| job.finished_at),
        }
    }
}

/// Begins to seal everything of the organisation, test data included, with the current encryption key. It is
/// done in the background while everything is in use; where it is being done already this changes nothing.
#[utoipa::path(post, path = "/v1/admin/crypto/re-encrypt", tag = "crypto",
    responses((status = 202, body = Progress)))]
pub async fn start(State(state): State<Management>, caller: Caller) -> Result<(StatusCode, Json<Progress>)> {
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let begun = reencrypt::begin(connection, &state.keys, caller.org_id, Takeover::Previous).await?;
            let (job, is_new) = begun;
            if is_new {
                let key_id = hex::encode(&job.key_id);
                let change =
                    Change { action: "crypto.reencryption_started", resource: "encryption_key", id: &key_id };
                change.note(connection, &caller, json!({})).await?;
            }
            Ok((StatusCode::ACCEPTED, Json(Some(job).into())))
        })
        .await
}

/// Shows how far re-encryption has come.
#[utoipa::path(get, path = "/v1/admin/crypto/re-encrypt", tag = "crypto",
    responses((status = 200, body = Progress)))]
pub async fn progress(State(state): State<Management>, caller: Caller) -> Result<Json<Progress>> {
    let mut connection = state.connection().await?;
    Ok(Json(reencrypt::find(&mut connection, caller.org_id).await?.into()))
}

/// Tells whether the encryption keys work, to anyone; which they are, and what was tried, to whoever may rotate them.
#[utoipa::path(get, path = "/health/crypto", tag = "crypto", operation_id = "read",
    responses((status = 200, body = Health),
        (status = 503, body = Health, description = "A key does not work, or both are the same.")))]
pub async fn health(State(state): State<Management>, parts: Parts) -> Response {
    let health = &*state.crypto_health;
    let status = if health.is_well() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let caller = identify(&state.auth, &parts).await;
    if caller.is_ok_and(|caller| caller.role.may(Permission::Reencrypt)) {
        (status, Json(health)).into_response()
    } else {
        (status, Json(health.bare())).into_response()
    }
}
