//! What holds for every event.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{facts, program};
use crate::{amperity::BLUEPRINT, json::Node};

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1_000_000..1_000_000).prop_map(|eighths: i32| Value::from(f64::from(eighths) / 8.0)),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(name(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("source".to_owned()),
        Just("email".to_owned()),
        Just("items".to_owned()),
        Just("products".to_owned()),
        Just("consent".to_owned()),
        Just("page".to_owned()),
        Just("url".to_owned()),
        "[a-z_.\\[\"]{0,6}",
        ".{0,6}",
    ]
}

fn event() -> impl Strategy<Value = Value> {
    let member = || {
        prop::collection::hash_map(name(), value(), 0..6)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    };
    let kind = prop_oneof![Just("track"), Just("page"), Just("identify"), Just("odd")];
    let named = prop_oneof![Just("purchase".to_owned()), Just("Product Viewed".to_owned()), ".{0,10}"];
    (kind, named, member(), member(), value(), value()).prop_map(|(kind, named, properties, context, traits, timestamp)| {
        json!({"type": kind, "event": named, "properties": properties, "context": context, "traits": traits, "timestamp": timestamp})
    })
}

proptest! {
    /// The payload is valid JSON; whose it is, where it goes and its consent are nobody's to change; and every leaf is as
    /// it was sent.
    #[test]
    fn payloads_are_sound(event in event(), preset in 0..7_usize, sha in any::<bool>()) {
        let preset = &BLUEPRINT.presets[preset].name;
        let settings = json!({"preset": preset, "pii": if sha { "sha256" } else { "plain" }});
        let text = event.to_string();
        let payload = program(&settings).apply(&facts(&text)).unwrap();
        let sent: Map<String, Value> = serde_json::from_str(&payload.json).unwrap();
        prop_assert_eq!(&sent["source"], "DATAFLY");
        prop_assert_eq!(&sent["cookieid"], "anonymous-1");
        prop_assert_eq!(&sent["canonical_id"], "canonical-1");
        prop_assert_eq!(&sent["type"], &Value::from(payload.event_name));
        let own = event["context"].get("consent").filter(|own| !own.is_null() && **own != json!(""));
        if !sha {
            prop_assert_eq!(sent.get("consent"), own);
        }
        prop_assert!(Node::parse(&payload.json).is_some());
    }

    #[test]
    fn json_is_read_as_serde_reads_it(value in value()) {
        let text = value.to_string();
        let node = Node::parse(&text).unwrap();
        prop_assert_eq!(serde_json::from_str::<Value>(&node.raw).unwrap(), value);
    }

    #[test]
    fn no_text_is_too_odd_to_be_read_or_refused(text in ".{0,40}") {
        let _ = Node::parse(&text);
        let _ = crate::path::Path::parse(&text);
        let _ = crate::transform::Transform::parse(&text);
        let _ = crate::transform::snake_case(&text);
    }
}
