//! Counters of calls to providers. The label `vendor` has the names of built-in vendors, and `custom` for all others.

use std::time::Duration;

use metrics::{counter, histogram};

/// Measures a call to a provider, by what came of it.
pub fn called(vendor: &'static str, outcome: &'static str, took: Duration) {
    let labels = [("vendor", vendor), ("outcome", outcome)];
    histogram!("datafly_provider_call_duration_seconds", &labels).record(took.as_secs_f64());
}

/// Counts that a provider is left alone for a while, as it has failed again and again.
pub fn left_alone(vendor: &'static str) {
    counter!("datafly_provider_breaker_opened_total", "vendor" => vendor).increment(1);
}
