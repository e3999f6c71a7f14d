//! Live Events: what whoever watches a source is shown of its last events. Recorded only while somebody does.

use std::sync::Arc;

use blueprint::json::{Node, push_member, quoted};
use egress::{Answer, CallError};
use event_log::{LogKeys, Place};
use http::HeaderMap;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::{
    destination::Destination,
    prepare::{Action, OpenEvent, Prepared},
    storage::Storage,
};

/// Most events a second that are recorded.
const MOST_A_SECOND: u32 = 20;
/// Most bytes of an answer that are shown.
const MAX_ANSWER_BYTES: usize = 2048;

/// Records events for whoever watches.
pub struct Live {
    storage: Storage,
    keys: Arc<LogKeys>,
    is_watched: bool,
    second: Instant,
    recorded: u32,
}

/// What came of an event.
pub struct Shown<'a> {
    /// The request that was sent, or would have been.
    pub request: Option<&'a egress::Request>,
    /// The answer, or why there is none; none where nothing was sent.
    pub answer: Option<&'a Result<Answer, CallError>>,
    /// Milliseconds until the answer.
    pub took_ms: Option<u128>,
    /// The word for what came of it.
    pub outcome: &'a str,
}

impl Live {
    /// A recorder that nobody watches yet.
    pub fn new(storage: Storage, keys: Arc<LogKeys>) -> Self {
        Self { storage, keys, is_watched: false, second: Instant::now(), recorded: 0 }
    }

    /// Notes whether somebody watches.
    pub fn set_watched(&mut self, is_watched: bool) {
        self.is_watched = is_watched;
    }

    /// Records what came of an event, if somebody watches and it is not one too many of this second.
    pub fn record(&mut self, destination: &Destination, prepared: &Prepared, shown: &Shown<'_>) {
        if !self.is_watched {
            return;
        }
        if self.second.elapsed().as_secs() >= 1 {
            (self.second, self.recorded) = (Instant::now(), 0);
        }
        if self.recorded >= MOST_A_SECOND {
            return;
        }
        self.recorded += 1;
        let event = prepared.event.clone();
        let text = document(destination, prepared, shown);
        let (storage, keys) = (self.storage.clone(), self.keys.clone());
        // It must hold up no delivery.
        tokio::spawn(async move {
            let body = seal(&keys, &event, &text);
            if let Err(error) = storage.add_live(&event, body).await {
                tracing::debug!(%error, "a live event was not recorded");
            }
        });
    }
}

fn seal(keys: &LogKeys, event: &OpenEvent, text: &str) -> Vec<u8> {
    let place = Place::at(event.org, event.source, event.id, OffsetDateTime::UNIX_EPOCH);
    keys.cipher(place.source, place.day).seal(place, text.as_bytes())
}

/// The document of an event, a JSON object.
fn document(destination: &Destination, prepared: &Prepared, shown: &Shown<'_>) -> String {
    let event = &prepared.event;
    let mut text = String::from("{");
    let mut push = |name: &str, raw: &str| push_member(&mut text, name, raw);
    push("event_id", &quoted(&event.id.to_string()));
    push("destination", &quoted(destination.vendor));
    push("received_at", &quoted(&blueprint::transform::iso8601(event.received_at)));
    push("canonical_id", &quoted(&event.canonical.to_string()));
    push("test", if event.envelope.test { "true" } else { "false" });
    if let Some(json) =
        std::str::from_utf8(&event.envelope.json).ok().filter(|json| Node::parse(json).is_some())
    {
        push("event", json);
    }
    if let Action::Send(outgoing) | Action::Test(outgoing) = &prepared.action {
        push("transformed", &outgoing.payload);
        let warnings: Vec<String> = outgoing.warnings.iter().map(|warning| quoted(warning)).collect();
        push("warnings", &format!("[{}]", warnings.join(",")));
    }
    if let Some(request) = shown.request {
        let mut sent = String::from("{");
        push_member(&mut sent, "method", &quoted(request.method.as_str()));
        push_member(&mut sent, "url", &quoted(request.url.as_str()));
        push_member(&mut sent, "headers", &headers(&request.headers));
        let body =
            request.body.as_deref().and_then(|body| std::str::from_utf8(body).ok()).unwrap_or_default();
        push_member(&mut sent, "body", &quoted(body));
        sent.push('}');
        push("request", &sent);
    }
    match shown.answer {
        Some(Ok(answer)) => {
            push("status", &answer.status.as_u16().to_string());
            let part = answer.body.get(..MAX_ANSWER_BYTES).unwrap_or(&answer.body);
            push("answer", &quoted(&String::from_utf8_lossy(part)));
        }
        Some(Err(error)) => push("error", &quoted(&error.to_string())),
        None => {}
    }
    if let Some(took) = shown.took_ms {
        push("took_ms", &took.to_string());
    }
    push("outcome", &quoted(shown.outcome));
    text.push('}');
    text
}

/// Headers for people; those that carry credentials are masked.
fn headers(headers: &HeaderMap) -> String {
    let mut text = String::from("{");
    for (name, value) in headers {
        let shown = match value.to_str() {
            Ok(value) if !value_is_secret(name.as_str()) => value.to_owned(),
            _ if name == "authorization" => "Bearer ***".to_owned(),
            _ => "***".to_owned(),
        };
        push_member(&mut text, name.as_str(), &quoted(&shown));
    }
    text + "}"
}

fn value_is_secret(name: &str) -> bool {
    ["authorization", "webhook-signature"].contains(&name)
}
