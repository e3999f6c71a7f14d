//! Counters of enrichment. The label `vendor` has the names of built-in vendors, and `custom` for all others.

use std::time::Duration;

use metrics::{counter, histogram};

/// Counts what an asker was told: `resolved`, `cached`, or the reason for skipping.
pub fn answered(vendor: &'static str, outcome: &'static str) {
    counter!("datafly_enrich_total", "vendor" => vendor, "outcome" => outcome).increment(1);
}

/// Counts an asker who shared another's call.
pub fn shared(vendor: &'static str) {
    counter!("datafly_enrich_shared_total", "vendor" => vendor).increment(1);
}

/// Measures a call to a provider, by what came of it.
pub fn called(vendor: &'static str, outcome: &'static str, took: Duration) {
    let labels = [("vendor", vendor), ("outcome", outcome)];
    histogram!("datafly_provider_call_duration_seconds", &labels).record(took.as_secs_f64());
}

/// Counts that a provider is left alone for a while, as it has failed again and again.
pub fn left_alone(vendor: &'static str) {
    counter!("datafly_provider_breaker_opened_total", "vendor" => vendor).increment(1);
}
