//! Counters of gateway sync. Those of the specification count every try; beside them first attempts and first successes
//! are what a match rate is made of.

use metrics::{counter, histogram};
use proto::v1::SyncOutcome;
use time::Duration;

use super::client::Family;
use crate::settings::Snapshot;

/// Reasons for which a callback's ID is not stored, as the label `reason` has them.
const REASONS: [&str; 7] =
    ["no_id", "no_canonical", "store_failed", "bad_state", "invalid_id", "consent", "shared_id"];

/// Exports every series of the vendors that are enabled anywhere, at 0 where nothing has happened yet: an alert on a rate
/// needs the series before its first event.
pub fn announce(snapshot: &Snapshot) {
    for vendor in snapshot.enabled_vendors() {
        for name in [
            "datafly_sync_offered_total",
            "datafly_sync_breaker_opened_total",
            "datafly_sync_attempted_total",
            "datafly_sync_succeeded_total",
            "datafly_sync_first_attempts_total",
            "datafly_sync_first_successes_total",
        ] {
            counter!(name, "vendor" => vendor).increment(0);
        }
        for family in Family::ALL {
            browser_attempts(vendor, family, 0);
            browser_successes(vendor, family, 0);
        }
        for reason in REASONS {
            failed(vendor, reason, 0);
        }
    }
}

/// Counts a 302 to the vendor.
pub fn attempted(vendor: &'static str) {
    counter!("datafly_sync_attempted_total", "vendor" => vendor).increment(1);
}

/// Counts the first 302 of a period.
pub fn first_attempt(vendor: &'static str, family: Family) {
    browser_attempts(vendor, family, 1);
    counter!("datafly_sync_first_attempts_total", "vendor" => vendor).increment(1);
}

/// Counts the first ID of a period.
pub fn first_success(vendor: &'static str, family: Family) {
    browser_successes(vendor, family, 1);
    counter!("datafly_sync_first_successes_total", "vendor" => vendor).increment(1);
}

/// Counts a browser that came back with a state of ours, so long after its 302.
pub fn returned(vendor: &'static str, after: Duration) {
    histogram!("datafly_sync_chain_seconds", "vendor" => vendor).record(after.as_seconds_f64().max(0.0));
}

/// Counts what came of a callback. `repair` where the ID is in PostgreSQL, and Redis will have it later.
pub fn answered(vendor: &'static str, outcome: SyncOutcome, repair: bool) {
    let reason = match outcome {
        SyncOutcome::Stored if !repair => {
            counter!("datafly_sync_succeeded_total", "vendor" => vendor).increment(1);
            return;
        }
        SyncOutcome::Stored | SyncOutcome::StoreFailed => "store_failed",
        SyncOutcome::NoId => "no_id",
        SyncOutcome::NoCanonical => "no_canonical",
        SyncOutcome::BadState => "bad_state",
        SyncOutcome::InvalidId => "invalid_id",
        SyncOutcome::ConsentDenied => "consent",
        SyncOutcome::SharedId => "shared_id",
        SyncOutcome::Unspecified => "unspecified",
    };
    failed(vendor, reason, 1);
}

fn browser_attempts(vendor: &'static str, family: Family, by: u64) {
    let browser = family.label();
    counter!("datafly_sync_browser_attempts_total", "vendor" => vendor, "browser" => browser).increment(by);
}

fn browser_successes(vendor: &'static str, family: Family, by: u64) {
    let browser = family.label();
    counter!("datafly_sync_browser_successes_total", "vendor" => vendor, "browser" => browser).increment(by);
}

fn failed(vendor: &'static str, reason: &'static str, by: u64) {
    counter!("datafly_sync_failed_total", "vendor" => vendor, "reason" => reason).increment(by);
}
