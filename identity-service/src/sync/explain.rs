//! Explaining why a vendor is, or is not, offered to one identity.

use proto::v1::{SyncOutcome, SyncRefusal, VendorExplanation, VendorSyncStatus};
use time::{Duration, OffsetDateTime};

use super::{
    client::Client,
    pending::{self, Asker},
};
use crate::{
    clock::timestamp,
    storage::attempt::{Attempt, Outcome},
    vendor_ids::schedules::ByVendor,
    vendors::{self, SyncVendor},
};

/// Explains each vendor of the table, in its order.
pub fn explain(asker: &Asker<'_>, schedules: &ByVendor<'_>) -> Vec<VendorExplanation> {
    let client = Client::of(asker.user_agent);
    vendors::syncs()
        .map(|vendor| {
            let attempt = schedules.get(vendor.name);
            let (status, until) = status(vendor, asker, client, attempt);
            VendorExplanation {
                vendor: vendor.name.to_owned(),
                status: status.into(),
                until: until.map(timestamp),
                last_outcome: attempt.map_or(SyncOutcome::Unspecified, answered).into(),
                unanswered: attempt.map_or(0, |attempt| attempt.attempts.unsigned_abs()),
            }
        })
        .collect()
}

fn answered(attempt: &Attempt) -> SyncOutcome {
    match attempt.outcome {
        Outcome::Attempted => SyncOutcome::Unspecified,
        Outcome::Stored => SyncOutcome::Stored,
        Outcome::NoId => SyncOutcome::NoId,
        Outcome::SharedId => SyncOutcome::SharedId,
    }
}

/// Judges one vendor: what is stored comes first, then what stands in the way, in the order in which it would
/// be met.
fn status(
    vendor: &SyncVendor,
    asker: &Asker<'_>,
    client: Client,
    attempt: Option<&Attempt>,
) -> (VendorSyncStatus, Option<OffsetDateTime>) {
    let Asker { org, source, consent, breakers, now, .. } = *asker;
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
    match pending::unfit(enabled, client) {
        Some(SyncRefusal::Crawler) => return (VendorSyncStatus::Crawler, None),
        Some(_) => return (VendorSyncStatus::UnsupportedBrowser, None),
        None => {}
    }
    let open_until = breakers.open_until(org, vendor.name, now);
    if open_until.is_some() {
        return (VendorSyncStatus::BreakerOpen, open_until);
    }
    match attempt {
        Some(attempt) if attempt.is_exhausted(now) => (VendorSyncStatus::Exhausted, None),
        Some(attempt) if !attempt.is_due(now) => (VendorSyncStatus::Waiting, Some(attempt.next_at)),
        _ => (VendorSyncStatus::Pending, None),
    }
}
