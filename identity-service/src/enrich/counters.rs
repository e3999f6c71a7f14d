//! Counters of enrichment. The label `vendor` has the names of built-in vendors, and `custom` for all others.

use metrics::counter;

/// Counts what an asker was told: `resolved`, `cached`, or the reason for skipping.
pub fn answered(vendor: &'static str, outcome: &'static str) {
    counter!("datafly_enrich_total", "vendor" => vendor, "outcome" => outcome).increment(1);
}

/// Counts an asker who shared another's call.
pub fn shared(vendor: &'static str) {
    counter!("datafly_enrich_shared_total", "vendor" => vendor).increment(1);
}
