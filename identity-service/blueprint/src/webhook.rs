//! A customer's own endpoint: the event with all that is known of its visitor, signed as Standard Webhooks has it
//! (standard-webhooks/standard-webhooks, specification 1.0.0).

use std::{
    borrow::Cow,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use egress::{Answer, CallError};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, Method, header};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use url::Url;

use crate::{
    facts::Facts,
    json::{self, Node},
    outcome::Outcome,
    pii::Scrubber,
    program::Program,
    transform::iso8601,
};

/// Requests a second that an endpoint is sent.
pub const RATE: u32 = 100;
/// Largest body that an endpoint is sent, in bytes.
pub const MAX_BYTES: usize = 512 * 1024;
/// Members that every body has, or may have: no mapping makes them.
pub const MEMBERS: [&str; 13] = [
    "event",
    "batch_context",
    "received_at",
    "event_id",
    "canonical_id",
    "anonymous_id",
    "user_id",
    "ip",
    "user_agent",
    "vendor_ids",
    "partner_attrs",
    "match_keys",
    "consent",
];
/// Text that secrets begin with.
const SECRET_PREFIX: &str = "whsec_";
/// Shortest and longest secret, in bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The bytes of a secret; none where it is none.
pub fn secret_bytes(text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text.strip_prefix(SECRET_PREFIX)?).ok()?;
    SECRET_BYTES.contains(&bytes.len()).then_some(bytes)
}

/// A new secret of random bytes.
pub fn new_secret(random: [u8; 32]) -> String {
    format!("{SECRET_PREFIX}{}", STANDARD.encode(random))
}

/// The body that an event is sent with: the event as it came, what was learned of it, and the customer's own mappings.
pub fn payload(program: &Program, facts: &Facts<'_>) -> String {
    let mut text = String::from("{");
    let mut push = |name: &str, raw: &str| json::push_member(&mut text, name, raw);
    push("event", &facts.event.raw);
    if let Some(context) = &facts.batch_context {
        push("batch_context", &context.raw);
    }
    let (ip, user_agent) = (facts.ip(), facts.user_agent());
    let texts = [
        ("event_id", facts.event_id.as_ref()),
        ("canonical_id", &facts.canonical_id),
        ("anonymous_id", &facts.anonymous_id),
        ("user_id", &facts.user_id),
        ("ip", ip.as_deref().unwrap_or_default()),
        ("user_agent", user_agent.as_deref().unwrap_or_default()),
    ];
    push("received_at", &json::quoted(&iso8601(facts.received_at)));
    for (name, value) in texts.into_iter().filter(|(_, value)| !value.is_empty()) {
        push(name, &json::quoted(value));
    }
    let ids =
        facts.vendor_ids.iter().map(|(name, value)| (Cow::from(name.as_str()), Node::text(value.as_str())));
    push("vendor_ids", &Node::object(ids.collect()).raw);
    push("partner_attrs", &Node::object(facts.partner_attrs.clone()).raw);
    push("match_keys", &Node::object(facts.match_keys.clone()).raw);
    if let Some(consent) = facts.consent() {
        push("consent", &consent.raw);
    }
    for (name, raw) in program.own_values(facts) {
        push(&name, &raw);
    }
    text.push('}');
    match Scrubber::of(program.pii, facts) {
        Some(scrubber) => scrubber.scrub(&text),
        None => text,
    }
}

/// The request that one event is sent with, signed with each of the secrets.
pub fn request(
    url: &Url,
    secrets: &[SecretString],
    message_id: &str,
    body: String,
    now: SystemTime,
) -> Option<egress::Request> {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs().to_string();
    let signatures: Option<Vec<String>> =
        secrets.iter().map(|secret| sign(secret, message_id, &seconds, &body)).collect();
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", HeaderValue::from_str(message_id).ok()?);
    headers.insert("webhook-timestamp", HeaderValue::from_str(&seconds).ok()?);
    headers.insert("webhook-signature", HeaderValue::from_str(&signatures?.join(" ")).ok()?);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Some(egress::Request { method: Method::POST, url: url.clone(), headers, body: Some(Bytes::from(body)) })
}

fn sign(secret: &SecretString, id: &str, seconds: &str, body: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret_bytes(secret.expose_secret())?).ok()?;
    for part in [id, ".", seconds, ".", body] {
        mac.update(part.as_bytes());
    }
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// What comes of a request.
pub fn outcome(answer: Result<&Answer, CallError>, now: SystemTime) -> Outcome {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Outcome::of_error(error),
    };
    match answer.status.as_u16() {
        200..=299 => Outcome::Delivered { dropping: false },
        410 => Outcome::Paused { reason: "gone", probe: None },
        _ => Outcome::of_status(answer, now).unwrap_or(Outcome::Refused("status")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let secret = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signed = sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", r#"{"test": 2432232314}"#);
        assert_eq!(signed.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
        for no in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAA", "whsec_!!!!"] {
            assert!(secret_bytes(no).is_none(), "{no}");
        }
        assert_eq!(secret_bytes(&new_secret([7; 32])), Some(vec![7; 32]));
    }
}
