//! Enrichment: part of the contract, not there yet.

use proto::v1::ErrorReason;

use crate::error::ApiError;

/// 501 for everyone.
pub async fn answer() -> ApiError {
    ErrorReason::NotImplemented.into()
}
