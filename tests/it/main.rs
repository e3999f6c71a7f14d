//! End to end: real processes, real stores, vendors over real HTTP. Each module covers one concern.

mod callbacks;
mod concurrency;
mod consent;
mod cookies;
mod crash_points;
mod faults;
mod grpc;
mod identities;
mod journey;
mod privacy;
mod refusals;
mod round_trips;
mod schema;
mod shutdown;
mod start_up;
mod vendors;

use harness::browser::Answer;
use serde_json::{Value, json};

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

/// The last hop of a sync is the GIF.
#[track_caller]
fn assert_gif(answer: &Answer) {
    assert!(answer.is_gif(), "{} answered {} {:?}", answer.url, answer.status, answer.headers);
}
