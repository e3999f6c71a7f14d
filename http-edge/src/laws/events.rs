//! Laws of events: a member that is read stood in the event, within its bounds; an event that is written anew from what
//! was read is the same; and each event of a batch is read as if it came alone.

use std::borrow::Cow;

use serde_json::{Value, json, value::RawValue};

use crate::event::{self, Event, Sender, Traits};

/// Checks the laws on an input: a byte for the sender, and a body.
pub fn hold(input: &[u8]) {
    let Some((sender, body)) = input.split_first() else { return };
    let sender = Sender { signs: sender & 1 != 0, has_cookie: sender & 2 != 0 };
    if let Ok(alone) = event::single(body) {
        assert_eq!((alone.events.len(), alone.wants_syncs), (1, None));
        check(alone.events[0], sender);
    }
    if let Ok(batch) = event::split(body) {
        assert!((1..=500).contains(&batch.events.len()));
        for raw in batch.events {
            check(raw, sender);
            let own = Event::parse(raw, sender);
            if let (Ok(own), Some(shared)) = (own, &batch.shared) {
                check_filled(&own, shared);
            }
        }
    }
}

/// Inputs to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let event = json!({
        "type": "track", "event": "Viewed", "anonymousId": "a-1", "userId": 42, "messageId": "m", "timestamp": "2026-11-30T10:00:00Z",
        "traits": {"email": "a@b.example", "phone": "+49 170 1"},
        "properties": {"price": 1.5, "list": [null, true, {"x": "\u{1f36a}"}]},
        "context": {
            "page": {"url": "https://shop.example/?fbclid=1#x", "search": "?gclid=2", "referrer": "https://a.example/"},
            "traits": {"email_sha256": "a".repeat(64), "phone": 4917}, "consent": {"marketing": true, "tcf": "CPXx"},
            "reset": true, "userHash": "b".repeat(64), "identityToken": "a.b.c", "device": {"type": "idfa"},
        },
    });
    let batch = json!({"batch": [event, {"anonymous_id": "b"}, 7], "context": {"page": {"url": "/x"}}, "syncs": false});
    let odd = [
        r#"{"anonymousId":"a","anonymous_id":"a","anonymousId":"b","context":[],"traits":""}"#,
        r#"{"batch":[{"userId":"\ud83c\udf6a"},{"userId":"\ud83c"},{"x":1e400}],"batch":1}"#,
        r#"{"anonymousId":"\u0000","context":{"consent":[],"reset":"no","page":null}}"#,
        r#" {"user_id" : -7 , "context" : {"consent" : {"a":1}, "consent" : {"a":2}} } "#,
    ];
    let texts = [event.to_string(), batch.to_string()].into_iter().chain(odd.map(str::to_owned));
    texts
        .zip([0u8, 1, 2, 3].into_iter().cycle())
        .map(|(text, sender)| [&[sender], text.as_bytes()].concat())
        .collect()
}

fn check(raw: &RawValue, sender: Sender) {
    let event = match Event::parse(raw, sender) {
        Ok(event) => event,
        // Errors are told with what is known of them, whatever the event is.
        Err(error) => return drop(format!("{error:?}")),
    };
    let value: Value = serde_json::from_str(raw.get()).unwrap_or_else(|error| panic!("{error}: {raw}"));
    assert!(value.as_object().is_some_and(|members| !members.is_empty()), "{raw}");
    let is_known = event.anonymous_id.is_some() || event.user_id.is_some();
    let is_lost = event.left_out.iter().any(|left| ["anonymousId", "userId"].contains(&left.member));
    assert!(is_known || !sender.signs || sender.has_cookie || !is_lost, "whoever it names is lost: {raw}");
    for (text, max) in bounds(&event, sender) {
        let Some(text) = text else { continue };
        assert!(!text.contains('\0') && !text.trim().is_empty(), "{text:?}: {raw}");
        assert!(
            text.trim_matches(|c: char| c.is_ascii_whitespace()).len() <= max,
            "{} bytes: {raw}",
            text.len()
        );
        assert!(
            holds(&value, text) || has_repeated_name(raw.get(), &value),
            "{text:?} is not of the event: {raw}"
        );
    }
    for digest in [&event.traits.email_sha256, &event.traits.phone_sha256].into_iter().flatten() {
        assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest}: {raw}");
    }
    if let Some(consent) = event.consent {
        assert!(
            consent.len() <= 8 * 1024 && serde_json::from_str::<Value>(consent).is_ok(),
            "{consent}: {raw}"
        );
    }
    let anew = written(&event);
    let anew: Box<RawValue> = serde_json::from_str(&anew).unwrap_or_else(|error| panic!("{error}: {anew}"));
    if let Ok(again) = Event::parse(&anew, sender) {
        let event = Event { left_out: Vec::new(), no_syncs: false, ..event };
        let again = Event { left_out: Vec::new(), ..again };
        assert_eq!(again, event, "{anew} of {raw}");
    } else {
        assert!(anew.get().len() > event::MAX_EVENT_BYTES || !is_known, "{anew} of {raw}");
    }
}

/// Texts that are read, each with its bound in bytes.
fn bounds<'e>(event: &'e Event<'_>, sender: Sender) -> Vec<(Option<&'e str>, usize)> {
    let of_id = if sender.signs { 1024 } else { 128 };
    let bounds = [
        (&event.anonymous_id, of_id),
        (&event.user_id, of_id),
        (&event.user_hash, 1024),
        (&event.message_id, 1024),
        (&event.page_url, 4096),
        (&event.page_search, 4096),
        (&event.referrer, 4096),
        (&event.traits.email, 1024),
        (&event.traits.phone, 1024),
        (&event.identity_token, event::MAX_EVENT_BYTES),
        (&event.timestamp, event::MAX_EVENT_BYTES),
    ];
    bounds.map(|(text, max)| (text.as_deref(), max)).to_vec()
}

/// True where a text, or one that begins with it, stands anywhere in a value; an integer by its digits.
fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(own) => own.starts_with(text),
        Value::Number(_) => text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'),
        Value::Array(values) => values.iter().any(|value| holds(value, text)),
        Value::Object(members) => members.values().any(|value| holds(value, text)),
        Value::Null | Value::Bool(_) => false,
    }
}

/// True where the plain reader has lost a member, as another of its name came behind it.
fn has_repeated_name(raw: &str, value: &Value) -> bool {
    let colons = |text: &str| text.matches(':').count();
    colons(raw) > colons(&value.to_string())
}

/// The event anew, from what was read.
fn written(event: &Event<'_>) -> String {
    let Traits { email, phone, email_sha256, phone_sha256 } = &event.traits;
    let consent: &RawValue = serde_json::from_str(event.consent.unwrap_or("null")).unwrap();
    let mut text = json!({
        "type": "track",
        "anonymousId": event.anonymous_id, "userId": event.user_id,
        "messageId": event.message_id, "timestamp": event.timestamp,
        "traits": {"email": email, "phone": phone, "email_sha256": email_sha256, "phone_sha256": phone_sha256},
    })
    .to_string();
    let context = json!({
        "page": {"url": event.page_url, "search": event.page_search, "referrer": event.referrer},
        "reset": event.reset, "userHash": event.user_hash, "identityToken": event.identity_token,
    })
    .to_string();
    // Consent is written as it stands, by hand.
    text.truncate(text.len() - 1);
    text + &format!(r#","context":{},"consent":{consent}}}}}"#, &context[..context.len() - 1])
}

/// Checks that the batch's own context fills gaps alone, and once.
fn check_filled(own: &Event<'_>, shared: &Event<'_>) {
    let mut filled = own.clone();
    filled.fill(shared);
    let mut again = filled.clone();
    again.fill(shared);
    assert_eq!(again, filled);
    let texts = |event: &Event<'_>| -> [Option<String>; 4] {
        [&event.page_url, &event.page_search, &event.referrer, &event.traits.email]
            .map(|text| text.as_ref().map(|text: &Cow<'_, str>| text.clone().into_owned()))
    };
    assert!(texts(own).iter().zip(&texts(&filled)).all(|(own, filled)| own.is_none() || own == filled));
    assert!(own.consent.is_none() || own.consent == filled.consent);
    assert_eq!((&own.anonymous_id, &own.user_id), (&filled.anonymous_id, &filled.user_id));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_hold_for_the_seeds() {
        for seed in seeds() {
            hold(&seed);
        }
    }
}
