//! Rows as statements return them.

use diesel::prelude::*;
use migrations::schema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::storage::attempt::{Attempt, Outcome};

/// The last consent signals of a browser.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, QueryableByName, Selectable)]
#[diesel(table_name = schema::consent, check_for_backend(diesel::pg::Pg))]
pub struct ConsentRow {
    /// Anonymous ID of the browser.
    pub anonymous_id: String,
    /// The consent object, verbatim; none where the browser sent none.
    pub signals: Option<String>,
    /// True where the browser sent `Sec-GPC: 1`.
    pub sec_gpc: bool,
    /// The time at which they were stored.
    pub updated_at: OffsetDateTime,
}

/// A vendor ID of a canonical identity.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = schema::vendor_ids, check_for_backend(diesel::pg::Pg))]
pub struct VendorIdRow {
    /// The canonical identity that it belongs to.
    pub canonical_id: Uuid,
    /// Name of its field.
    pub field: String,
    /// The vendor's ID for the visitor.
    pub value: String,
    /// The way it was come by: `sync`, `enrichment`, `click` or `generated`.
    pub source: String,
    /// The time at which it was received.
    #[serde(with = "time::serde::rfc3339")]
    pub collected_at: OffsetDateTime,
    /// The time from which on it is not returned any more.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    /// The browser it was collected from, where that is known.
    #[serde(default)]
    pub anonymous_id: Option<String>,
    /// The pipeline that collected it, where that is known.
    #[serde(default)]
    pub pipeline_id: Option<Uuid>,
}

impl VendorIdRow {
    /// True where `other` is the very same ID, wherever a merge has brought it.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.field, &self.value, self.collected_at) == (&other.field, &other.value, other.collected_at)
    }
}

/// The schedule of one vendor for a canonical identity.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = schema::sync_attempts, check_for_backend(diesel::pg::Pg))]
pub struct AttemptRow {
    canonical_id: Uuid,
    vendor: String,
    last_synced: Option<OffsetDateTime>,
    ttl_days: Option<i32>,
    outcome: String,
    attempts: i32,
    unanswered_since: Option<OffsetDateTime>,
    next_at: OffsetDateTime,
}

impl AttemptRow {
    /// Takes the row apart: the canonical identity, the vendor, and the schedule.
    pub fn into_attempt(self) -> (Uuid, String, Attempt) {
        let attempt = Attempt {
            last_synced: self.last_synced,
            ttl_days: self.ttl_days,
            outcome: Outcome::from_word(&self.outcome).unwrap_or(Outcome::Attempted),
            attempts: self.attempts,
            unanswered_since: self.unanswered_since,
            next_at: self.next_at,
        };
        (self.canonical_id, self.vendor, attempt)
    }
}

/// A browser, by its anonymous ID, and the name of a vendor.
pub type BrowserAndVendor = (String, String);
