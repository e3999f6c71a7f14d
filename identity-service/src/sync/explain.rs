//! Explaining why a vendor is, or is not, offered to one identity.

use proto::v1::{VendorExplanation, VendorSyncStatus};
use time::{Duration, OffsetDateTime};

use super::pending;
use crate::{
    clock::timestamp,
    settings::Source,
    storage::{attempt::Attempt, cache_entries::ConsentEntry},
    vendor_ids::schedules::ByVendor,
    vendors::{self, SyncVendor},
};

/// Explains each vendor of the table, in its order.
pub fn explain(
    source: &Source,
    schedules: &ByVendor<'_>,
    consent: &ConsentEntry,
    now: OffsetDateTime,
) -> Vec<VendorExplanation> {
    vendors::syncs()
        .map(|vendor| {
            let (status, until) = status(vendor, source, schedules.get(vendor.name), consent, now);
            VendorExplanation {
                vendor: vendor.name.to_owned(),
                status: status.into(),
                until: until.map(timestamp),
            }
        })
        .collect()
}

/// Judges one vendor: what is stored comes first, then what stands in the way, in the order in which it would
/// be met.
fn status(
    vendor: &SyncVendor,
    source: &Source,
    attempt: Option<&Attempt>,
    consent: &ConsentEntry,
    now: OffsetDateTime,
) -> (VendorSyncStatus, Option<OffsetDateTime>) {
    let expires = attempt
        .and_then(|attempt| Some(attempt.last_synced? + Duration::days(i64::from(attempt.ttl_days?))))
        .filter(|expires| *expires > now);
    if expires.is_some() {
        return (VendorSyncStatus::Synced, expires);
    }
    let Some(enabled) = source.vendor(vendor.name) else { return (VendorSyncStatus::Disabled, None) };
    if !pending::allows(source, enabled, consent, now) {
        return (VendorSyncStatus::Consent, None);
    }
    match attempt {
        Some(attempt) if attempt.is_exhausted(now) => (VendorSyncStatus::Exhausted, None),
        Some(attempt) if !attempt.is_due(now) => (VendorSyncStatus::Waiting, Some(attempt.next_at)),
        _ => (VendorSyncStatus::Pending, None),
    }
}
