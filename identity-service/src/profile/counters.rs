//! Counters of profiles. The label `provider` has the names of providers.

use metrics::counter;

/// Counts what an asker was told: `found`, or the reason for which there is no profile.
pub fn told(provider: &'static str, outcome: &'static str) {
    counter!("datafly_profile_total", "provider" => provider, "outcome" => outcome).increment(1);
}

/// Counts a profile that was found out by asking, and not from what is cached.
pub fn found_out(provider: &'static str, outcome: &'static str) {
    counter!("datafly_profile_lookups_total", "provider" => provider, "outcome" => outcome).increment(1);
}

/// Counts a personalisation: `cached`, `found`, or the reason for which there is none.
pub fn personalized(provider: &'static str, outcome: &'static str) {
    counter!("datafly_profile_personalized_total", "provider" => provider, "outcome" => outcome).increment(1);
}
