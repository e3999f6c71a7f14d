//! Enrichment: part of the contract, and not built yet.

use proto::v1::ErrorReason;

use crate::error::ApiError;

/// Answers 501, whoever asks.
pub async fn answer() -> ApiError {
    ErrorReason::NotImplemented.into()
}
