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

/// The metrics of all three processes; each exports those that it counts.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "datafly_sync_offered_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["vendor"],
        help: "Syncs that were listed in an answer.",
    },
    Metric {
        name: "datafly_enrich_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["vendor", "outcome"],
        help: "Askers of an enrichment, by what they were told.",
    },
    Metric {
        name: "datafly_enrich_shared_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["vendor"],
        help: "Askers of an enrichment who shared the call of another.",
    },
    Metric {
        name: "datafly_profile_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["provider", "outcome"],
        help: "Visitors whose profile was asked for, by what was told.",
    },
    Metric {
        name: "datafly_profile_lookups_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["provider", "outcome"],
        help: "Profiles that were found out and not taken from the cache, by what was found.",
    },
    Metric {
        name: "datafly_profile_personalized_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["provider", "outcome"],
        help: "Contexts of events that a profile was wanted for, by what was told.",
    },
    Metric {
        name: "datafly_provider_call_duration_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        labels: &["vendor", "outcome"],
        help: "Duration of calls to a provider, by what came of them.",
    },
    Metric {
        name: "datafly_provider_breaker_opened_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["vendor"],
        help: "Times that a provider was left alone, as it had failed again and again.",
    },
    Metric {
        name: "datafly_sync_attempted_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["vendor"],
        help: "Browsers that were sent to the vendor by a 302.",
    },
    Metric {
        name: "datafly_sync_first_attempts_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["vendor"],
        help: "Periods of a browser's tries with the vendor, of its TTL each, however often it is tried in one.",
    },
    Metric {
        name: "datafly_sync_first_successes_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["vendor"],
        help: "Periods in which the vendor's ID was stored, at whichever try.",
    },
    Metric {
        name: "datafly_sync_browser_attempts_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["vendor", "browser"],
        help: "Periods of browsers' tries with the vendor (first_attempts), by the family of the browser.",
    },
    Metric {
        name: "datafly_sync_browser_successes_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["vendor", "browser"],
        help: "Periods in which the vendor's ID was stored (first_successes), by the family of the browser.",
    },
    Metric {
        name: "datafly_sync_chain_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        labels: &["vendor"],
        help: "Time from the 302 to the callback, of browsers that came back with a state of ours.",
    },
    Metric {
        name: "datafly_sync_refused_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["vendor", "reason"],
        help: "Requests for a sync that were answered 204 instead of 302, by reason.",
    },
    Metric {
        name: "datafly_sync_breaker_opened_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["vendor"],
        help: "Times that an organisation's visitors stopped being sent to the vendor, whose answers kept being no IDs.",
    },
    Metric {
        name: "datafly_sync_succeeded_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["vendor"],
        help: "Callbacks whose ID is stored.",
    },
    Metric {
        name: "datafly_sync_failed_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["vendor", "reason"],
        help: "Callbacks whose ID is not stored, or not in Redis yet (store_failed), by reason.",
    },
    Metric {
        name: "datafly_consent_not_understood_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "Events whose consent object holds nothing that is known, which denies.",
    },
    Metric {
        name: "datafly_consent_purged_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["vendor"],
        help: "Vendor IDs that were removed because consent was withdrawn.",
    },
    Metric {
        name: "datafly_resolves_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["outcome"],
        help: "Subjects of Resolve, by outcome.",
    },
    Metric {
        name: "datafly_merges_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "Identities that became one with another.",
    },
    Metric {
        name: "datafly_link_refusals_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["reason"],
        help: "Identifiers that were left out of an identity, by reason.",
    },
    Metric {
        name: "datafly_erased_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "People who were erased.",
    },
    Metric {
        name: "datafly_reaped_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["what"],
        help: "Rows and identities that were removed by age.",
    },
    Metric {
        name: "datafly_key_checks_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["outcome"],
        help: "Calls of browsers and signed calls, by how their key was judged.",
    },
    Metric {
        name: "datafly_service_token_refused_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["reason"],
        help: "Calls of services that were not let in, by reason.",
    },
    Metric {
        name: "datafly_shed_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["by"],
        help: "Calls and changes that were refused as OVERLOADED, by the bound that they met.",
    },
    Metric {
        name: "datafly_grpc_request_duration_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        labels: &["method", "code"],
        help: "Durations of calls of the core, by path and gRPC code.",
    },
    Metric {
        name: "datafly_pool_wait_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        labels: &["pool"],
        help: "Waits for a PostgreSQL connection.",
    },
    Metric {
        name: "datafly_pool_timeouts_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["pool"],
        help: "Waits for a PostgreSQL connection that ended without one.",
    },
    Metric {
        name: "datafly_redis_errors_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["kind"],
        help: "Commands and connections of Redis that failed, by kind.",
    },
    Metric {
        name: "datafly_redis_repairs_added_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "Changes that could not be told to Redis and are to be repaired.",
    },
    Metric {
        name: "datafly_redis_repairs_done_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "Repairs that were made.",
    },
    Metric {
        name: "datafly_redis_repairs_parked_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "Repairs that failed five times by their own fault and are left alone.",
    },
    Metric {
        name: "datafly_redis_repairs_age_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        labels: &[],
        help: "Age of the oldest repair that waits.",
    },
    Metric {
        name: "datafly_settings_age_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        labels: &[],
        help: "Time since PostgreSQL last confirmed the settings.",
    },
    Metric {
        name: "datafly_clock_behind_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        labels: &[],
        help: "Time by which this machine's clock is behind the database's.",
    },
    Metric {
        name: "datafly_events_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["outcome"],
        help: "Events at the edge, by outcome.",
    },
    Metric {
        name: "datafly_throttled_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["by"],
        help: "Requests that the edge alone refused, by what was over its rate.",
    },
    Metric {
        name: "datafly_new_identities_throttled_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "Requests whose address had brought too many new identities.",
    },
    Metric {
        name: "datafly_core_failures_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["rpc"],
        help: "Calls that the core failed, or that did not reach it.",
    },
    Metric {
        name: "datafly_logins_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["outcome"],
        help: "Logins, by outcome.",
    },
    Metric {
        name: "datafly_refreshes_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["outcome"],
        help: "Refreshes of tokens, by outcome; reused is a stolen token, or a broken client.",
    },
    Metric {
        name: "datafly_key_seals",
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &[],
        help: "Values that were sealed with the current encryption key.",
    },
    Metric {
        name: "datafly_reencrypt_left",
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &[],
        help: "Values that are still to be sealed with the current encryption key.",
    },
    Metric {
        name: "datafly_reencrypt_unreadable_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "Values that no encryption key opens.",
    },
    Metric {
        name: "datafly_postgres_errors_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["kind"],
        help: "Statements that PostgreSQL refused, by kind; a conflict is tried again.",
    },
    Metric {
        name: "datafly_dependency_up",
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &["dependency"],
        help: "Whether the store answers: 1 or 0.",
    },
    Metric {
        name: "datafly_http_request_duration_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        labels: &["route", "method", "status"],
        help: "Durations of requests until the answer's head, by route, method and status.",
    },
    Metric {
        name: "datafly_connections",
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &["listener"],
        help: "Connections that are open now.",
    },
    Metric {
        name: "datafly_connections_ended_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["listener", "reason"],
        help: "Connections that this side ended, by reason.",
    },
    Metric {
        name: "datafly_tls_handshake_failures_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "Connections of clients that showed no good certificate, or spoke no TLS.",
    },
    Metric {
        name: "datafly_background_panics_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["task"],
        help: "Panics of background tasks, which began anew.",
    },
    Metric {
        name: "datafly_log_lines_dropped_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "Log lines that were dropped because nobody reads standard output.",
    },
];

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
