//! One request to a destination, with what came of it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use blueprint::Outcome;
use egress::{Answer, CallError, Egress, Limits};
use metrics::{counter, histogram};
use tokio::time::Instant;

use crate::{destination::Destination, prepare::Outgoing};

/// Time for all of a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an answer.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// A request that came to an end.
pub struct Sent {
    /// What it came to.
    pub outcome: Outcome,
    /// The request.
    pub request: Option<egress::Request>,
    /// The answer, or why there is none.
    pub answer: Result<Answer, CallError>,
    /// The time that it took.
    pub took: Duration,
}

impl Sent {
    /// HTTP status of the answer, where there is one.
    pub fn status(&self) -> Option<i16> {
        self.answer.as_ref().ok().and_then(|answer| i16::try_from(answer.status.as_u16()).ok())
    }
}

/// Sends one event.
pub async fn send(egress: Egress, destination: Arc<Destination>, outgoing: Arc<Outgoing>) -> Sent {
    let began = Instant::now();
    let now = system_time();
    let Some(request) = destination.request(&outgoing.message_id, outgoing.payload.clone(), now) else {
        let outcome = Outcome::Paused { reason: "not_configured", probe: None };
        return Sent { outcome, request: None, answer: Err(CallError::NotAllowed), took: Duration::ZERO };
    };
    let limits = Limits { timeout: TIMEOUT, max_bytes: MAX_ANSWER_BYTES };
    let answer = egress.call(request.clone(), limits).await;
    let took = began.elapsed();
    let status = match &answer {
        Ok(answer) => answer.status.as_u16().to_string(),
        Err(CallError::Timeout) => "timeout".to_owned(),
        Err(CallError::NoSuchHost) => "no_such_host".to_owned(),
        Err(CallError::TooLarge) => "too_large".to_owned(),
        Err(CallError::NotAllowed) => "not_allowed".to_owned(),
        Err(CallError::Network) => "network".to_owned(),
    };
    counter!("datafly_delivery_attempts_total", "vendor" => destination.vendor, "status" => status)
        .increment(1);
    histogram!("datafly_delivery_request_seconds", "vendor" => destination.vendor).record(took.as_secs_f64());
    let outcome = destination.outcome(answer.as_ref().map_err(|error| *error), now);
    Sent { outcome, request: Some(request), answer, took }
}

/// The time by this machine's clock, for signatures and for what vendors date.
#[expect(clippy::disallowed_methods, reason = "nothing is judged by it elsewhere")]
pub fn system_time() -> SystemTime {
    SystemTime::now()
}
