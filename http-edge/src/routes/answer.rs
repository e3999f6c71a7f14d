//! The answer to events, as it is written.

use proto::v1::PendingSync;
use serde::Serialize;
use utoipa::ToSchema;

use super::warnings::Warning;
use crate::error::{ApiError, Refusal};

/// Answer to a batch or an event; its names are the product's.
#[derive(Serialize, ToSchema)]
pub struct Answer {
    /// True, as far as the request goes: what became of each event is below.
    pub success: bool,
    /// Number of events taken for identity.
    pub accepted: usize,
    /// Events that were not taken, by their place in the batch.
    pub errors: Vec<Rejected>,
    /// Members that don't count of events that were taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// ID of the visitor; null only for a call that knows nobody but by user ID.
    pub anonymous_id: Option<String>,
    /// Syncs that the page is to fire now, at most five.
    pub pending_syncs: Vec<Pending>,
}

/// Event that was not taken, with its place in the batch.
#[derive(Serialize, ToSchema)]
pub struct Rejected {
    /// Place of the event in the batch, from 0.
    pub index: usize,
    /// The reason for which it was not taken.
    #[serde(flatten)]
    #[schema(value_type = Refusal<'static>)]
    pub error: ApiError,
    /// Flag, present where the same event may be taken later.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub retry: bool,
}

/// Sync that the page fires as an image.
#[derive(Serialize, ToSchema)]
pub struct Pending {
    /// Name of the vendor.
    vendor: String,
    /// Path of the image on the collect host, to which the key and the visitor's ID are added.
    url: String,
    /// The customer's number at the vendor.
    partner_id: String,
}

impl From<PendingSync> for Pending {
    fn from(PendingSync { vendor, url, partner_id }: PendingSync) -> Self {
        Self { vendor, url, partner_id }
    }
}
