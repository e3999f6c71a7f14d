//! Golden fixtures: for each handler of each preset an event, and what is sent of it. `UPDATE_FIXTURES=1 cargo test -p
//! blueprint` writes them anew, for a reviewer to read.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

use super::{facts, program};
use crate::{amperity::BLUEPRINT, format::Handler};

/// An event with a value for each property that the handler takes.
fn event(preset: &str, name: &str, handler: &Handler) -> Value {
    if name == "page" {
        return json!({"type": "page", "name": "Home", "properties": {"title": "Home", "url": "https://shop.example/"}});
    }
    let mut properties = Map::new();
    let mut line = Some(handler);
    let presets = &BLUEPRINT.preset(preset).unwrap().events;
    while let Some(own) = line {
        for (at, property) in own.pick.iter().chain(own.renamed.keys()).enumerate() {
            let value = if at % 3 == 2 { json!(at) } else { json!(format!("{property} of {name}")) };
            properties.entry(property.clone()).or_insert(value);
        }
        if own.items {
            properties.insert(
                "products".to_owned(),
                json!([{"product_id": "p1", "price": 9.5, "quantity": 2}, {"sku": "s2"}]),
            );
        }
        line = own.like.as_ref().and_then(|like| presets.get(like));
    }
    properties.insert("not_named".to_owned(), json!(true));
    let sent = handler.aka.first().cloned().unwrap_or_else(|| name.replace('*', "started"));
    json!({"type": "track", "event": sent, "messageId": "m-1", "properties": properties})
}

#[test]
fn each_handler_sends_what_its_fixture_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/amperity");
    let mut handlers = 0;
    for preset in &BLUEPRINT.presets {
        let program = program(&json!({"preset": preset.name}));
        let file = folder.join(format!("{}.json", preset.name));
        let mut made = Vec::new();
        for (name, handler) in &preset.events {
            let event = event(&preset.name, name, handler);
            let text = event.to_string();
            let payload = program.apply(&facts(&text)).unwrap();
            assert!(!payload.is_unmapped && payload.problems.is_empty(), "{name}");
            assert!(!payload.json.contains("not_named"), "{name}: a property that no handler names");
            let sent: Value = serde_json::from_str(&payload.json).unwrap();
            made.push(json!({"handler": name, "event": event, "payload": sent}));
            handlers += 1;
        }
        let made = serde_json::to_string_pretty(&made).unwrap() + "\n";
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&file, &made).unwrap();
        }
        let stored = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(stored, made, "{}", file.display());
    }
    assert_eq!(handlers, 105);
}
