//! Amperity's Profile API, as the product specification configures it.

use std::collections::HashSet;

use egress::target::Reach;
use serde_json::Value;

use crate::{
    consent::Category,
    providers::{
        allowlist, endpoint,
        validation::{self, Fields, Problems},
    },
};

/// Facts about a visitor that a linking key may be read from.
const SOURCES: [&str; 5] = ["canonical_id", "anonymous_id", "user_id", "email", "phone"];
/// Text for the ID of a stream that takes events in batches.
const BATCH_STREAM: &str = "is the ID of a batch stream (is-), which takes events and updates no profile in real time: \
    give that of a realtime stream (esm-)";
/// Most linking keys, and most context mappings.
const MAX_ENTRIES: usize = 20;

/// Checks the settings without the keys, which are sealed apart. Required is what event ingest needs: `tenant_subdomain`,
/// `tenant_id`, `event_stream_id` and `source_value`. Whoever has the keys knows whether `profile_collection_id` is.
pub fn check(settings: &Value, reach: &Reach<'_>, problems: &mut Problems) {
    let Some(mut fields) = Fields::of("", settings, problems) else { return };
    fields.required("tenant_subdomain", problems, subdomain);
    fields.required("tenant_id", problems, |text| validation::name(text, 128, "_-."));
    // In place of https://<tenant_subdomain>.amperity.com, for tenants on another host.
    fields.optional("base_url", problems, |text| endpoint::base(text, reach));
    fields.required("event_stream_id", problems, |text| {
        if text.starts_with("is-") { Err(BATCH_STREAM.to_owned()) } else { prefixed(text, "esm-") }
    });
    fields.required("source_value", problems, |text| {
        let fits = (1..=256).contains(&text.len()) && !text.contains(char::is_control);
        if fits { Ok(()) } else { Err("must have 1 to 256 bytes and no control characters") }
    });
    fields.optional("profile_collection_id", problems, |text| prefixed(text, "apc-"));
    check_linking_keys(&mut fields, problems);
    allowlist::check(&mut fields, problems);
    let enabled = fields.boolean("context_enabled", problems).unwrap_or_default();
    let mappings = check_mappings(&mut fields, problems);
    if enabled && mappings == 0 {
        problems.add("context_mappings", "is required where context_enabled is true");
    }
    fields.optional("consent_category", problems, |text| {
        Category::of_name(text).ok_or("must be a category of consent, such as marketing")
    });
    fields.finish(problems);
}

fn subdomain(text: &str) -> Result<(), &'static str> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let inside = !text.starts_with('-') && !text.ends_with('-');
    let fits = (1..=63).contains(&text.len()) && text.bytes().all(fits) && inside;
    if fits { Ok(()) } else { Err("must be the first part of your Amperity host, such as acme") }
}

fn prefixed(text: &str, prefix: &str) -> Result<(), String> {
    let rest = text.strip_prefix(prefix).filter(|rest| validation::name(rest, 64, "_-").is_ok());
    rest.map(drop).ok_or_else(|| format!("must begin with {prefix}"))
}

/// `[{source, key, hash?}]`, tried in order. One key may have several sources.
fn check_linking_keys(fields: &mut Fields<'_>, problems: &mut Problems) {
    let mut known = HashSet::new();
    for (path, entry) in fields.list("linking_keys", MAX_ENTRIES, problems) {
        let Some(mut entry) = Fields::of(path, entry, problems) else { continue };
        let source = entry.required("source", problems, |text| {
            if SOURCES.contains(&text) {
                Ok(text)
            } else {
                Err(format!("must be one of {}", SOURCES.join(", ")))
            }
        });
        entry.required("key", problems, |text| {
            validation::name(text, 64, "_-")?;
            let is_new = source.is_none_or(|source| known.insert((source, text)));
            if is_new { Ok(()) } else { Err("is there already, with the same source".to_owned()) }
        });
        entry.optional(
            "hash",
            problems,
            |text| if text == "sha256" { Ok(()) } else { Err("must be sha256") },
        );
        entry.finish(problems);
    }
}

/// `[{source, target}]`: a path into the event, and the name of the context value; how many there are.
fn check_mappings(fields: &mut Fields<'_>, problems: &mut Problems) -> usize {
    let mut targets = HashSet::new();
    let entries = fields.list("context_mappings", MAX_ENTRIES, problems);
    let count = entries.len();
    for (path, entry) in entries {
        let Some(mut entry) = Fields::of(path, entry, problems) else { continue };
        entry.required("source", problems, |text| {
            let part = |part: &str| validation::name(part, 64, "_-$").is_ok();
            let fits = text.len() <= 256 && text.split('.').all(part);
            if fits { Ok(()) } else { Err("must be a path into the event, such as properties.category") }
        });
        entry.required("target", problems, |text| {
            validation::name(text, 64, "_-.")?;
            if targets.insert(text) { Ok(()) } else { Err("is there already".to_owned()) }
        });
        entry.finish(problems);
    }
    count
}

#[cfg(test)]
mod tests {
    use egress::openings::Openings;
    use serde_json::json;

    use super::*;

    /// The specification's examples, together.
    fn example() -> Value {
        json!({
            "tenant_subdomain": "acme",
            "tenant_id": "acme",
            "event_stream_id": "esm-2VP6va3Zn",
            "source_value": "DATAFLY",
            "profile_collection_id": "apc-vPsQheAm",
            "linking_keys": [
                {"source": "email", "key": "email_sha256", "hash": "sha256"},
                {"source": "canonical_id", "key": "device_cookie"},
                {"source": "user_id", "key": "customer_id"},
            ],
            "browser_attribute_allowlist": "Persona, FavoriteBrand,LifetimeTier",
            "context_enabled": true,
            "context_mappings": [
                {"source": "properties.category", "target": "pageCategory"},
                {"source": "partner_attrs.amperity.LifetimeTier", "target": "tierHint"},
            ],
        })
    }

    fn problems(settings: &Value) -> Vec<String> {
        let allowed = Openings::default();
        let reach = Reach { allowed: &allowed, is_ours: &|_| false };
        let mut problems = Problems::default();
        check(settings, &reach, &mut problems);
        problems.into_list().into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn the_specification_s_examples_are_fine() {
        assert_eq!(problems(&example()), [""; 0]);
        let mut settings = example();
        settings["browser_attribute_allowlist"] = json!(["Persona"]);
        settings["consent_category"] = json!("marketing");
        settings["base_url"] = json!("https://app.amperity.com");
        assert_eq!(problems(&settings), [""; 0]);
        settings["linking_keys"][1]["key"] = json!("email_sha256");
        assert_eq!(problems(&settings), [""; 0], "one key of several sources");
        for optional in ["profile_collection_id", "linking_keys", "browser_attribute_allowlist"] {
            settings.as_object_mut().unwrap().remove(optional);
        }
        assert_eq!(problems(&settings), [""; 0], "events alone");
        let required = ["tenant_subdomain", "tenant_id", "event_stream_id", "source_value"];
        assert_eq!(problems(&json!({})), required);
    }

    /// Replaces one field of the example at a time, which makes one problem.
    #[test]
    fn one_wrong_field_is_one_problem() {
        for (pointer, value, problem) in [
            ("/tenant_subdomain", json!("acme.amperity.com"), "tenant_subdomain"),
            ("/tenant_subdomain", json!("evil.example/x#"), "tenant_subdomain"),
            ("/tenant_subdomain", json!("-a"), "tenant_subdomain"),
            ("/tenant_id", json!("a\r\nb: c"), "tenant_id"),
            ("/event_stream_id", json!("is-2VP6va3Zn"), "event_stream_id"),
            ("/source_value", json!(""), "source_value"),
            ("/profile_collection_id", json!("apc-"), "profile_collection_id"),
            ("/profile_collection_id", json!("apc-../x"), "profile_collection_id"),
            ("/linking_keys", json!("[]"), "linking_keys"),
            ("/linking_keys/0", json!("email"), "linking_keys[0]"),
            ("/linking_keys/0/source", json!("name"), "linking_keys[0].source"),
            ("/linking_keys/0/hash", json!("md5"), "linking_keys[0].hash"),
            ("/linking_keys/1", json!({"source": "email", "key": "email_sha256"}), "linking_keys[1].key"),
            ("/linking_keys/2/key", json!("a&b=c"), "linking_keys[2].key"),
            ("/linking_keys/2", json!({"source": "phone"}), "linking_keys[2].key"),
            ("/linking_keys/2", json!({"source": "phone", "key": "p", "x": 1}), "linking_keys[2].x"),
            ("/browser_attribute_allowlist", json!(1), "browser_attribute_allowlist"),
            ("/browser_attribute_allowlist", json!([1]), "browser_attribute_allowlist"),
            ("/browser_attribute_allowlist", json!("a\nb"), "browser_attribute_allowlist"),
            ("/browser_attribute_allowlist", json!(vec!["a"; 101]), "browser_attribute_allowlist"),
            ("/context_enabled", json!("yes"), "context_enabled"),
            ("/context_mappings", json!([]), "context_mappings"),
            ("/context_mappings/0/source", json!("properties..x"), "context_mappings[0].source"),
            ("/context_mappings/1/target", json!("pageCategory"), "context_mappings[1].target"),
        ] {
            let mut settings = example();
            *settings.pointer_mut(pointer).unwrap() = value.clone();
            assert_eq!(problems(&settings), [problem], "{pointer}: {value}");
        }
        for (field, value) in [
            ("profile_api_key", json!("x")),
            ("consent_category", json!("a b")),
            ("consent_category", json!("sharing")),
            ("base_url", json!("http://x.y")),
        ] {
            let mut settings = example();
            settings[field] = value;
            assert_eq!(problems(&settings), [field]);
        }
    }
}
