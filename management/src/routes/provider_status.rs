//! The state of a source's provider, as the core tells it.

use axum::Json;
use proto::v1::{self, ProviderKind, ProviderStatusRequest};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{api::error::Result, json::time, state::Management};

/// State of a provider.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderStatus {
    /// Time of the last success, to ten seconds. Null: there was none.
    #[serde(with = "time::serde::rfc3339::option")]
    last_success_at: Option<OffsetDateTime>,
    /// Time until which it is not called, as it has asked for a pause. Absent: it has not.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    backoff_until: Option<OffsetDateTime>,
    /// Time when it refused the credentials, or there were none; it is not called until they change. Absent: it has
    /// not, or they have changed since.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    credentials_refused_at: Option<OffsetDateTime>,
    /// Last failure. Absent: there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    last_error: Option<ProviderError>,
    /// State of the breaker in the core that answered.
    breaker: Breaker,
}

/// Failure of a call to a provider.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderError {
    /// Reason, such as `timeout` or `rate_limited`.
    reason: String,
    /// HTTP status of its answer. Absent: there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    status: Option<u32>,
    #[serde(with = "time::serde::rfc3339::option")]
    at: Option<OffsetDateTime>,
}

/// Whether a provider is called, by its failures of late.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Breaker {
    /// Calls go through.
    Closed,
    /// It has failed again and again, and nobody calls it for a while.
    Open,
    /// One call tries whether it is back.
    HalfOpen,
}

impl ProviderStatus {
    /// Asks the core for the state of a source's provider.
    pub async fn of(
        state: &Management,
        org: Uuid,
        source: Uuid,
        kind: ProviderKind,
        name: &str,
    ) -> Result<Json<Self>> {
        let request = ProviderStatusRequest {
            org_id: org.to_string(),
            name: name.to_owned(),
            source_id: source.to_string(),
            kind: kind.into(),
        };
        Ok(Json(state.core.provider_status(request).await?.into()))
    }
}

impl From<v1::ProviderStatusResponse> for ProviderStatus {
    fn from(status: v1::ProviderStatusResponse) -> Self {
        Self {
            breaker: match status.breaker() {
                v1::BreakerState::Unspecified | v1::BreakerState::Closed => Breaker::Closed,
                v1::BreakerState::Open => Breaker::Open,
                v1::BreakerState::HalfOpen => Breaker::HalfOpen,
            },
            last_success_at: status.last_success_at.and_then(time),
            backoff_until: status.backoff_until.and_then(time),
            credentials_refused_at: status.credentials_refused_at.and_then(time),
            last_error: status.last_error.map(|error| ProviderError {
                reason: error.reason,
                status: error.status,
                at: error.at.and_then(time),
            }),
        }
    }
}
