//! The blueprint as a whole: its files, and what events are sent as.

mod golden;
mod laws;

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::{Value, json};
use time::macros::datetime;

use crate::{
    NotSent,
    amperity::BLUEPRINT,
    destination::{self, Kind, Known, Settings},
    facts::Facts,
    json::Node,
    program::Program,
};

/// An event of a known visitor, with all that may be learned of one.
fn facts(event: &str) -> Facts<'_> {
    Facts {
        event: Node::parse(event).unwrap(),
        batch_context: None,
        event_id: Cow::from("0198c0de-0000-8000-8000-000000000001"),
        received_at: datetime!(2026-11-30 10:00:00.123 UTC),
        canonical_id: Cow::from("canonical-1"),
        anonymous_id: Cow::from("anonymous-1"),
        user_id: Cow::from("user-1"),
        ip: Cow::from("203.0.113.7"),
        user_agent: Cow::from("Browser/1.0"),
        is_signed: false,
        stored_consent: None,
        vendor_ids: BTreeMap::from([("fbp".to_owned(), "fb.1.2.3".to_owned())]),
        partner_attrs: vec![("amperity".into(), Node::parse(r#"{"Persona":"Value Hunter"}"#).unwrap())],
        match_keys: Vec::new(),
        settings: BTreeMap::from([("source_value", "DATAFLY".to_owned())]),
    }
}

fn program(settings: &Value) -> Program {
    Settings::read(settings).unwrap().program(Kind::Amperity)
}

fn sent(settings: &Value, event: &Value) -> Value {
    let text = event.to_string();
    let payload = program(settings).apply(&facts(&text)).unwrap();
    serde_json::from_str(&payload.json).unwrap()
}

#[test]
fn the_files_are_sound() {
    assert_eq!(BLUEPRINT.file.version, 2);
    // The two of `pii: sha256` and `original_timestamp` are beside the 65 of the reference.
    assert_eq!(BLUEPRINT.file.global.mappings.len(), 68);
    let names: Vec<&str> = BLUEPRINT.presets.iter().map(|preset| preset.name.as_str()).collect();
    assert_eq!(names, ["retail", "travel", "finance", "saas", "media", "gaming", "publishing"]);
    let handlers: usize = BLUEPRINT.presets.iter().map(|preset| preset.events.len()).sum();
    // A page call has a handler in each preset, of which the reference counts that of retail alone.
    assert_eq!(handlers, 99 + 6);
    let reserved: Vec<&str> = BLUEPRINT
        .file
        .global
        .mappings
        .iter()
        .map(|mapping| mapping.target.as_str())
        .chain(["type"])
        .collect();
    for mapping in &BLUEPRINT.file.global.mappings {
        assert!(
            !mapping.label.is_empty() && ["spec", "field", "own"].contains(&mapping.evidence.as_str()),
            "{mapping:?}"
        );
        assert!(mapping.target.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
    }
    for preset in &BLUEPRINT.presets {
        for (name, handler) in &preset.events {
            assert!(["spec", "field", "inferred"].contains(&handler.evidence.as_str()), "{name}");
            if let Some(like) = &handler.like {
                assert!(preset.events.contains_key(like), "{}: {name} is like {like}", preset.name);
            }
            for target in handler.pick.iter().chain(handler.renamed.values()) {
                assert!(!reserved.contains(&target.as_str()), "{}: {name} reaches {target}", preset.name);
            }
        }
    }
}

#[test]
fn names_are_those_of_the_specification() {
    for (event, expected) in [
        (json!({"type": "page"}), "pageview"),
        (json!({"type": "page", "name": "Home"}), "pageview"),
        (json!({"type": "track", "event": "view_item"}), "view_item"),
        (json!({"type": "track", "event": "Product Viewed"}), "view_item"),
        (json!({"type": "track", "event": "Product List Viewed"}), "view_item_list"),
        (json!({"type": "track", "event": "Product Added"}), "add_to_cart"),
        (json!({"type": "track", "event": "Product Removed"}), "remove_from_cart"),
        (json!({"type": "track", "event": "Cart Viewed"}), "view_cart"),
        (json!({"type": "track", "event": "Checkout Started"}), "begin_checkout"),
        (json!({"type": "track", "event": "Order Completed"}), "purchase"),
        (json!({"type": "track", "event": "order_completed"}), "purchase"),
        (json!({"type": "track", "event": "product_viewed"}), "view_item"),
        (json!({"type": "identify", "userId": "u"}), "identify"),
        (json!({"type": "group", "groupId": "g"}), "group"),
        (json!({"type": "track", "event": "My Own Event"}), "My Own Event"),
        (json!({"event": "purchase"}), "purchase"),
        (json!({}), "track"),
    ] {
        assert_eq!(sent(&json!({}), &event)["type"], expected, "{event}");
    }
    for (preset, event, expected) in [
        ("media", "audio_playback_started", "audio_playback_started"),
        ("media", "Audio Playback Started", "audio_playback_started"),
        ("gaming", "tutorial_begin", "tutorial_begin"),
        ("saas", "Signed Up", "signed_up"),
        ("travel", "Order Completed", "Order Completed"),
    ] {
        let event = json!({"type": "track", "event": event});
        assert_eq!(sent(&json!({"preset": preset}), &event)["type"], expected, "{preset}");
        assert_eq!(
            sent(&json!({"preset": preset}), &json!({"type": "page"}))["type"],
            "pageview",
            "{preset}"
        );
    }
}

/// A flattened property reaches no global target, whatever it is called.
#[test]
fn properties_speak_for_nobody() {
    let event = json!({"type": "track", "event": "Odd", "properties": {
        "source": "EVIL", "type": "purchase", "email": "a@b.example", "cookieid": "x", "amperity_id": "y",
        "consent": true, "timestamp": "1999", "value": 1, "list": [1, {"a": 2}]}});
    let sent = sent(&json!({}), &event);
    assert_eq!(
        (&sent["source"], &sent["type"], &sent["cookieid"]),
        (&json!("DATAFLY"), &json!("Odd"), &json!("anonymous-1"))
    );
    assert_eq!(
        (&sent["prop_source"], &sent["prop_type"], &sent["prop_email"]),
        (&json!("EVIL"), &json!("purchase"), &json!("a@b.example"))
    );
    assert_eq!((&sent["value"], &sent["list"]), (&json!(1), &json!([1, {"a": 2}])));
    assert!(
        sent.get("email").is_none() && sent.get("consent").is_none() && sent.get("amperity_id").is_none()
    );
}

#[test]
fn numbers_consent_and_urls_stay_what_they_are() {
    let consent = r#"{"analytics":true,"categories":{"C0001":true,"C0002":false},"google":{"ad_storage":"denied"},"tcf":"CP"}"#;
    let event = format!(
        r#"{{"type":"track","event":"purchase","timestamp":"2026-11-30T09:59:00Z","properties":{{"value":129.90,"order_id":9007199254740993,"items":[{{"sku":"s","price":1.50,"other":1}},7]}},"context":{{"consent":{consent},"page":{{"url":"https://shop.example/?a=1&_dfl=tok&utm_source=n"}}}}}}"#
    );
    let payload = program(&json!({})).apply(&facts(&event)).unwrap().json;
    for part in [
        r#""value":129.90"#,
        r#""transaction_id":9007199254740993"#,
        &format!(r#""consent":{consent}"#),
        r#""items":[{"item_id":"s","price":1.50}]"#,
        r#""page_url":"https://shop.example/?a=1&utm_source=n""#,
        r#""utm_source":"n""#,
        r#""timestamp":"2026-11-30T09:59:00.000Z""#,
    ] {
        assert!(payload.contains(part), "{part} in {payload}");
    }
    let late = json!({"type": "track", "event": "x", "timestamp": "2020-01-01T00:00:00Z"});
    let sent = sent(&json!({}), &late);
    assert_eq!(
        (&sent["timestamp"], &sent["original_timestamp"]),
        (&json!("2026-11-30T10:00:00.123Z"), &json!("2020-01-01T00:00:00Z"))
    );
}

#[test]
fn a_customer_s_own_settings_come_last() {
    let settings = json!({
        "mappings": [
            {"source": "partner_attrs.amperity.Persona", "target": "user_persona"},
            {"source": "properties.currency", "target": "money", "transform": ["trim", "lowercase"]},
            {"source": "properties.tier", "target": "level", "value_map": {"1": "gold", "*": "other"}},
            {"target": "site", "default": "shop"},
            {"source": "properties.when", "target": "at", "transform": "date_format", "format": "epoch_ms"},
        ],
        "events": {
            "Secret": {"enabled": false},
            "Special": {"vendor_event_name": "special", "properties": "none", "mappings": [{"source": "properties.a", "target": "b"}]},
        },
    });
    let event = json!({"type": "track", "event": "Special", "properties": {"a": 1, "c": 2, "currency": " EUR", "tier": 7, "when": "2026-11-30T00:00:00Z"}});
    let sent = sent(&settings, &event);
    assert_eq!((&sent["type"], &sent["b"], sent.get("c")), (&json!("special"), &json!(1), None));
    assert_eq!(
        (&sent["user_persona"], &sent["money"], &sent["level"]),
        (&json!("Value Hunter"), &json!("eur"), &json!("other"))
    );
    assert_eq!((&sent["site"], &sent["at"]), (&json!("shop"), &json!(1_795_996_800_000_i64)));
    let refused = |settings: &Value, event: &Value| program(settings).apply(&facts(&event.to_string())).err();
    assert_eq!(refused(&settings, &json!({"type": "track", "event": "secret"})), Some(NotSent::Disabled));
    let drops = json!({"unmapped": "drop"});
    assert_eq!(refused(&drops, &json!({"type": "track", "event": "Odd"})), Some(NotSent::Unmapped));
    assert_eq!(refused(&drops, &json!({"type": "identify"})), None);
    let program = program(&settings);
    assert!(program.vendor_fields().contains("gclid"));
}

#[test]
fn settings_that_can_t_be_carried_out_are_told() {
    let openings = egress::openings::Openings::default();
    let reach = egress::target::Reach { allowed: &openings, is_ours: &|_| false };
    let known = Known {
        reach: &reach,
        is_category: &|name| name == "marketing",
        has_match_keys: &|name| name == "meta",
    };
    let wrong = |kind, settings: &Value| -> Vec<String> {
        destination::check(kind, settings, &known).into_iter().map(|(field, _)| field).collect()
    };
    assert_eq!(
        wrong(
            Kind::Amperity,
            &json!({"preset": "retail", "consent_category": "marketing", "rate_limit_rps": 1})
        ),
        [""; 0]
    );
    let hook =
        json!({"url": "https://hooks.example.com/in", "match_keys": ["meta"], "unmapped": "pass_through"});
    assert_eq!(wrong(Kind::Webhook, &hook), [""; 0]);
    for (kind, settings, field) in [
        (Kind::Amperity, json!({"preset": "shoes"}), "preset"),
        (Kind::Amperity, json!({"mappings": [{"target": "a"}]}), "mappings[0].source"),
        (Kind::Amperity, json!({"mappings": [{"source": "nowhere.x", "target": "a"}]}), "mappings[0].source"),
        (
            Kind::Amperity,
            json!({"mappings": [{"source": "event", "target": "consent"}]}),
            "mappings[0].target",
        ),
        (
            Kind::Amperity,
            json!({"mappings": [{"source": "match_keys.nobody", "target": "x"}]}),
            "mappings[0].source",
        ),
        (
            Kind::Amperity,
            json!({"mappings": [{"source": "event", "target": "a", "transform": "eval"}]}),
            "mappings[0].transform",
        ),
        (Kind::Amperity, json!({"mappings": "x"}), "mappings"),
        (Kind::Amperity, json!({"secret": "x"}), "secret"),
        (Kind::Amperity, json!({"url": "https://x.example"}), "url"),
        (Kind::Amperity, json!({"rate_limit_rps": 401}), "rate_limit_rps"),
        (Kind::Amperity, json!({"max_in_flight": 0}), "max_in_flight"),
        (Kind::Amperity, json!({"consent_category": "x"}), "consent_category"),
        (Kind::Webhook, json!({}), "url"),
        (Kind::Webhook, json!({"url": "https://10.0.0.1/"}), "url"),
        (Kind::Webhook, json!({"url": "https://x.example", "match_keys": ["meta", "you"]}), "match_keys[1]"),
        (Kind::Webhook, json!({"url": "https://x.example", "preset": "retail"}), "preset"),
    ] {
        assert_eq!(wrong(kind, &settings), [field], "{settings}");
    }
    let told = destination::check(Kind::Amperity, &json!({"max_in_flight": "hunter2"}), &known);
    assert!(!told[0].1.contains("hunter2"), "{told:?}");
}

#[test]
fn digests_take_the_place_of_addresses_and_numbers() {
    let event = json!({"type": "track", "event": "Odd",
        "traits": {"email": " Jane@Example.com", "phone": "+44 7700 900123"},
        "properties": {"email": "other@example.com", "note": "ask jane@example.com or +44 7700 900123", "deep": [{"phone": 447_700_900_123_i64}]},
        "context": {"page": {"url": "https://shop.example/?m=jane%40example.com"}}});
    let text = program(&json!({"pii": "sha256"})).apply(&facts(&event.to_string())).unwrap().json;
    for plain in ["jane@", "Jane@", "jane%40", "other@", "7700 900123", "447700900123"] {
        assert!(!text.contains(plain), "{plain} in {text}");
    }
    let sent: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(sent["email_sha256"], "8c87b489ce35cf2e2f39f80e282cb2e804932a56a213983eeeb428407d43b52d");
    assert!(sent.get("email").is_none() && sent.get("phone").is_none() && sent["phone_sha256"].is_string());
}
