//! The context of an event that an answer is personalised for, and how many of them an organisation may have.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Map, Value};
use tokio::time::Instant;
use uuid::Uuid;

/// Longest value of a context, in bytes.
const MAX_VALUE_BYTES: usize = 256;
/// Contexts of one organisation within [`WINDOW`] that a process asks about: each is a call for each visitor.
const MAX_CONTEXTS: usize = 500;
/// Time within which contexts are counted, which is as long as an answer is kept.
const WINDOW: Duration = Duration::from_mins(2);

/// The values of an event that are sent, by name; those that are absent, too long or no texts, numbers or booleans are
/// left out.
pub fn values(
    mappings: &[(String, String)],
    event: &Value,
    attributes: &Map<String, Value>,
) -> BTreeMap<String, String> {
    let value = |(path, target): &(String, String)| {
        let value = match path.strip_prefix("partner_attrs.amperity.") {
            Some(rest) => walk(attributes.get(rest.split('.').next()?)?, rest.split('.').skip(1)),
            None => walk(event, path.split('.')),
        };
        let text = match value? {
            Value::String(text) if !text.trim().is_empty() => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            _ => return None,
        };
        (text.len() <= MAX_VALUE_BYTES).then(|| (target.clone(), text))
    };
    mappings.iter().filter_map(value).collect()
}

fn walk<'a, 'b>(value: &'a Value, mut path: impl Iterator<Item = &'b str>) -> Option<&'a Value> {
    path.try_fold(value, |value, member| value.get(member))
}

/// The contexts that organisations have had of late.
#[derive(Default)]
pub struct Contexts(Mutex<HashMap<Uuid, Seen>>);

/// The contexts of one organisation since a time.
type Seen = (Option<Instant>, HashSet<[u8; 32]>);

impl Contexts {
    /// True where the context of that digest may be asked about.
    pub fn admits(&self, org: Uuid, context: [u8; 32], now: Instant) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, seen) = all.entry(org).or_default();
        if since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            *since = Some(now);
            seen.clear();
        }
        seen.contains(&context) || seen.len() < MAX_CONTEXTS && seen.insert(context)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_specification_s_mappings_read_an_event() {
        let mappings = [
            ("properties.category", "pageCategory"),
            ("properties.value", "cartValue"),
            ("context.page.path", "pagePath"),
            ("partner_attrs.amperity.LifetimeTier", "tierHint"),
            ("properties.items", "items"),
            ("properties.long", "long"),
            ("properties.absent", "absent"),
            ("event", "name"),
        ]
        .map(|(source, target)| (source.to_owned(), target.to_owned()));
        let event = json!({"event": "view_item", "context": {"page": {"path": "/shoes"}},
            "properties": {"category": "shoes", "value": 12.5, "items": [1], "long": "x".repeat(257)}});
        let attributes = json!({"LifetimeTier": "gold"});
        let read = values(&mappings, &event, attributes.as_object().unwrap());
        let expected = [
            ("cartValue", "12.5"),
            ("name", "view_item"),
            ("pageCategory", "shoes"),
            ("pagePath", "/shoes"),
            ("tierHint", "gold"),
        ];
        let read: Vec<(&str, &str)> =
            read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn one_that_counts_up_is_stopped_and_others_go_on() {
        let (contexts, now) = (Contexts::default(), Instant::now());
        let context = |number: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_be_bytes());
            digest
        };
        assert!((0..MAX_CONTEXTS).all(|number| contexts.admits(Uuid::nil(), context(number), now)));
        assert!(!contexts.admits(Uuid::nil(), context(MAX_CONTEXTS), now));
        assert!(contexts.admits(Uuid::nil(), context(0), now), "one that is known");
        assert!(contexts.admits(Uuid::max(), context(MAX_CONTEXTS), now), "another's");
        assert!(contexts.admits(Uuid::nil(), context(MAX_CONTEXTS), now + WINDOW));
    }
}
