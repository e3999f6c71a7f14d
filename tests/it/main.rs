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
mod people;
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

use std::time::Duration;

use harness::{browser::Answer, within, world::World};
use serde_json::{Value, json};

/// Waits until `dependency.postgres` says so at every core. By design a loss and a return show after 1.9 s at worst;
/// the rest is for a busy machine.
async fn postgres_is(world: &World, state: &str) {
    within(Duration::from_secs(5), state, async || {
        for core in 0..world.cluster.cores.len() {
            let now = faults::health_at(world, core, "dependency.postgres").await;
            if now != state {
                return Err(format!("core {core}: {now}"));
            }
        }
        Ok(())
    })
    .await;
}

/// Consent that grants what gateway sync needs.
fn granted() -> Value {
    json!({"marketing": true})
}

/// Consent that denies it.
fn denied() -> Value {
    json!({"marketing": false})
}

/// A batch's answer that took `accepted` events and found no fault.
#[track_caller]
fn assert_accepted(answer: &Answer, accepted: usize) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["success"], json!(true), "{body}");
    assert_eq!(body["accepted"], json!(accepted), "{body}");
    assert_eq!(body["errors"], json!([]), "{body}");
}

/// A batch's answer whose only event is to be sent again.
#[track_caller]
fn assert_retry(answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["accepted"], json!(0), "{body}");
    assert_eq!(body["errors"][0]["retry"], json!(true), "{body}");
}

/// Nothing holds on to a transaction any more.
async fn assert_no_open_transaction(world: &World) {
    within(Duration::from_secs(5), "transactions to end", async || {
        let open = "datname = current_database() AND state LIKE 'idle in transaction%'";
        match world.database.count("pg_stat_activity", open).await {
            0 => Ok(()),
            open => Err(format!("{open} sessions are idle in transaction")),
        }
    })
    .await;
}

/// The last hop of a sync is the GIF.
#[track_caller]
fn assert_gif(answer: &Answer) {
    assert!(answer.is_gif(), "{} answered {} {:?}", answer.url, answer.status, answer.headers);
}
