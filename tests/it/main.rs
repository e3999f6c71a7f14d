//! End to end: real processes, real stores, vendors over real HTTP. Each module covers one concern.

mod callbacks;
mod canaries;
mod cancellation;
mod catalog;
mod catalog_over_http;
// libfaketime is loaded in the way of Linux.
#[cfg(target_os = "linux")]
mod clock;
mod collected;
mod compare;
mod concurrency;
mod consent;
mod contacts;
mod control_faults;
mod cookies;
mod core_lost;
mod crash_points;
mod credentials;
mod document;
mod drain;
mod faults;
mod graph_model;
mod graph_people;
mod graph_races;
mod grpc;
mod hostile_grpc;
mod hostile_visitors;
mod identities;
mod journey;
mod jwt;
mod key_use;
mod keys;
mod logins;
mod logs;
mod people_over_http;
mod permissions;
mod pipelines;
// The limit on files is set in the way of Linux.
#[cfg(target_os = "linux")]
mod postgres_disk;
mod postgres_failover;
mod postgres_faults;
mod privacy;
mod proofs;
mod reaper;
mod redis_faults;
mod redis_refuses;
mod redis_split;
mod reencrypt;
mod refusals;
mod round_trips;
mod schema;
mod signed_calls;
mod sources;
mod start_up;
mod tenants;
mod tls;
mod tokens;
mod transport;
mod transport_http2;
mod users;
mod vendors;
mod withdrawals;
