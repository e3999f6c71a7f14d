//! The catalogue of metrics: every one that a process of ours exports, with what it means.
//! `docs/operations.md` has the same table for people, with the values of labels; tests hold it, and the code
//! that counts, against this one.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// A metric as it is exported.
#[derive(Debug)]
pub struct Metric {
    /// The name, which is fixed: dashboards and alerts rely on it.
    pub name: &'static str,
    /// The kind, by which it is read.
    pub kind: Kind,
    /// The unit of its values.
    pub unit: Unit,
    /// Names of its labels. None of them ever has personal data or an unbounded number of values.
    pub labels: &'static [&'static str],
    /// The meaning, a sentence that is exported as HELP.
    pub help: &'static str,
}

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// A distribution of values.
    Histogram,
}

/// The metrics of all four processes; each exports those that it counts.
pub const METRICS: &[Metric] = &[
    counter("datafly_sync_offered_total", &["vendor"], "Syncs that were listed in an answer."),
    counter(
        "datafly_log_appends_total",
        &["outcome"],
        "Requests whose events were to be kept, by what came of it.",
    ),
    histogram(
        "datafly_log_append_seconds",
        &[],
        "Time until the events of a request were durable, or were not.",
    ),
    counter(
        "datafly_deliveries_total",
        &["vendor", "outcome"],
        "Events that a destination was to get, by what came of them.",
    ),
    counter(
        "datafly_delivery_attempts_total",
        &["vendor", "status"],
        "Requests to destinations, by the answer.",
    ),
    histogram("datafly_delivery_request_seconds", &["vendor"], "Time of requests to destinations."),
    histogram(
        "datafly_delivery_age_seconds",
        &["vendor"],
        "Time from the arrival of an event to its delivery.",
    ),
    gauge("datafly_delivery_lag_events", &["vendor"], "Events that wait for destinations."),
    seconds(
        "datafly_delivery_lag_oldest_seconds",
        &["vendor"],
        "Age of the oldest event that waits for a destination.",
    ),
    gauge(
        "datafly_delivery_rate",
        &["vendor"],
        "Requests a second that the destination last reported on is sent at most.",
    ),
    gauge("datafly_destinations", &["vendor", "state"], "Destinations by how they fare."),
    gauge(
        "datafly_dead_letters",
        &["vendor", "reason"],
        "Events that were given up, and are kept for people to look at.",
    ),
    counter(
        "datafly_mapping_problems_total",
        &["vendor", "problem"],
        "Events that went without something that belongs to them.",
    ),
    counter("datafly_replayed_total", &["vendor"], "Events of the past that were sent once more."),
    counter(
        "datafly_enrich_total",
        &["vendor", "outcome"],
        "Askers of an enrichment, by what they were told.",
    ),
    counter(
        "datafly_enrich_shared_total",
        &["vendor"],
        "Askers of an enrichment who shared the call of another.",
    ),
    counter(
        "datafly_profile_total",
        &["provider", "outcome"],
        "Visitors whose profile was asked for, by what was told.",
    ),
    counter(
        "datafly_profile_lookups_total",
        &["provider", "outcome"],
        "Profiles that were found out and not taken from the cache, by what was found.",
    ),
    counter(
        "datafly_profile_personalized_total",
        &["provider", "outcome"],
        "Contexts of events that a profile was wanted for, by what was told.",
    ),
    histogram(
        "datafly_provider_call_duration_seconds",
        &["vendor", "outcome"],
        "Duration of calls to a provider, by what came of them.",
    ),
    counter(
        "datafly_provider_breaker_opened_total",
        &["vendor"],
        "Times that a provider was left alone, as it had failed again and again.",
    ),
    counter("datafly_sync_attempted_total", &["vendor"], "Browsers that were sent to the vendor by a 302."),
    counter(
        "datafly_sync_first_attempts_total",
        &["vendor"],
        "Periods of a browser's tries with the vendor, of its TTL each, however often it is tried in one.",
    ),
    counter(
        "datafly_sync_first_successes_total",
        &["vendor"],
        "Periods in which the vendor's ID was stored, at whichever try.",
    ),
    counter(
        "datafly_sync_browser_attempts_total",
        &["vendor", "browser"],
        "Periods of browsers' tries with the vendor (first_attempts), by the family of the browser.",
    ),
    counter(
        "datafly_sync_browser_successes_total",
        &["vendor", "browser"],
        "Periods in which the vendor's ID was stored (first_successes), by the family of the browser.",
    ),
    histogram(
        "datafly_sync_chain_seconds",
        &["vendor"],
        "Time from the 302 to the callback, of browsers that came back with a state of ours.",
    ),
    counter(
        "datafly_sync_refused_total",
        &["vendor", "reason"],
        "Requests for a sync that were answered 204 instead of 302, by reason.",
    ),
    counter(
        "datafly_sync_breaker_opened_total",
        &["vendor"],
        "Times that an organisation's visitors stopped being sent to the vendor, whose answers kept being no IDs.",
    ),
    counter("datafly_sync_succeeded_total", &["vendor"], "Callbacks whose ID is stored."),
    counter(
        "datafly_sync_failed_total",
        &["vendor", "reason"],
        "Callbacks whose ID is not stored, or not in Redis yet (store_failed), by reason.",
    ),
    counter(
        "datafly_consent_not_understood_total",
        &[],
        "Events whose consent object holds nothing that is known, which denies.",
    ),
    counter(
        "datafly_consent_purged_total",
        &["vendor"],
        "Vendor IDs that were removed because consent was withdrawn.",
    ),
    counter("datafly_resolves_total", &["outcome"], "Subjects of Resolve, by outcome."),
    counter("datafly_merges_total", &[], "Identities that became one with another."),
    counter(
        "datafly_link_refusals_total",
        &["reason"],
        "Identifiers that were left out of an identity, by reason.",
    ),
    counter("datafly_erased_total", &[], "People who were erased."),
    counter("datafly_reaped_total", &["what"], "Rows and identities that were removed by age."),
    counter(
        "datafly_key_checks_total",
        &["outcome"],
        "Calls of browsers and signed calls, by how their key was judged.",
    ),
    counter(
        "datafly_service_token_refused_total",
        &["reason"],
        "Calls of services that were not let in, by reason.",
    ),
    counter(
        "datafly_shed_total",
        &["by"],
        "Calls and changes that were refused as OVERLOADED, by the bound that they met.",
    ),
    histogram(
        "datafly_grpc_request_duration_seconds",
        &["method", "code"],
        "Durations of calls of the core, by path and gRPC code.",
    ),
    histogram("datafly_pool_wait_seconds", &["pool"], "Waits for a PostgreSQL connection."),
    counter(
        "datafly_pool_timeouts_total",
        &["pool"],
        "Waits for a PostgreSQL connection that ended without one.",
    ),
    counter(
        "datafly_redis_errors_total",
        &["kind"],
        "Commands and connections of Redis that failed, by kind.",
    ),
    counter(
        "datafly_redis_repairs_added_total",
        &[],
        "Changes that could not be told to Redis and are to be repaired.",
    ),
    counter("datafly_redis_repairs_done_total", &[], "Repairs that were made."),
    counter(
        "datafly_redis_repairs_parked_total",
        &[],
        "Repairs that failed five times by their own fault and are left alone.",
    ),
    seconds("datafly_redis_repairs_age_seconds", &[], "Age of the oldest repair that waits."),
    seconds("datafly_settings_age_seconds", &[], "Time since PostgreSQL last confirmed the settings."),
    seconds(
        "datafly_clock_behind_seconds",
        &[],
        "Time by which this machine's clock is behind the database's.",
    ),
    counter("datafly_events_total", &["outcome"], "Events at the edge, by outcome."),
    counter(
        "datafly_throttled_total",
        &["by"],
        "Requests that the edge alone refused, by what was over its rate.",
    ),
    counter(
        "datafly_new_identities_throttled_total",
        &[],
        "Requests whose address had brought too many new identities.",
    ),
    counter("datafly_core_failures_total", &["rpc"], "Calls that the core failed, or that did not reach it."),
    counter("datafly_logins_total", &["outcome"], "Logins, by outcome."),
    counter(
        "datafly_refreshes_total",
        &["outcome"],
        "Refreshes of tokens, by outcome; reused is a stolen token, or a broken client.",
    ),
    gauge("datafly_key_seals", &[], "Values that were sealed with the current encryption key."),
    gauge(
        "datafly_reencrypt_left",
        &[],
        "Values that are still to be sealed with the current encryption key.",
    ),
    counter("datafly_reencrypt_unreadable_total", &[], "Values that no encryption key opens."),
    counter(
        "datafly_postgres_errors_total",
        &["kind"],
        "Statements that PostgreSQL refused, by kind; a conflict is tried again.",
    ),
    gauge("datafly_dependency_up", &["dependency"], "Whether the store answers: 1 or 0."),
    histogram(
        "datafly_http_request_duration_seconds",
        &["route", "method", "status"],
        "Durations of requests until the answer's head, by route, method and status.",
    ),
    gauge("datafly_connections", &["listener"], "Connections that are open now."),
    counter(
        "datafly_connections_ended_total",
        &["listener", "reason"],
        "Connections that this side ended, by reason.",
    ),
    counter(
        "datafly_tls_handshake_failures_total",
        &[],
        "Connections of clients that showed no good certificate, or spoke no TLS.",
    ),
    counter("datafly_background_panics_total", &["task"], "Panics of background tasks, which began anew."),
    counter(
        "datafly_log_lines_dropped_total",
        &[],
        "Log lines that were dropped because nobody reads standard output.",
    ),
];

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, unit: Unit::Count, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit: Unit::Count, labels, help }
}

/// A gauge of a time.
const fn seconds(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit: Unit::Seconds, labels, help }
}

/// A distribution of times, the only kind of distributions that there is.
const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, unit: Unit::Seconds, labels, help }
}

/// Tells the recorder what every metric means.
pub(crate) fn describe() {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.unit, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.unit, metric.help),
            Kind::Histogram => describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
}
