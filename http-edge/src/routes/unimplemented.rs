//! Enrichment: part of the contract, and not built yet.

use proto::v1::ErrorReason;

use crate::error::ApiError;

/// Answers 501, whoever asks.
#[utoipa::path(get, path = "/v1/enrich", responses((status = 501, description = "Profiles are not there yet.")))]
pub async fn answer() -> ApiError {
    ErrorReason::NotImplemented.into()
}
