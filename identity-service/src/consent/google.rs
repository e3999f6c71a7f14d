//! The vote of Google's consent mode: `ad_storage` is marketing, `analytics_storage` is analytics.

use serde_json::{Map, Value};

use super::Vote;
use crate::vendors::ConsentNeed;

/// The vote of the object's member `google`.
pub fn vote(object: &Map<String, Value>, need: &ConsentNeed) -> Vote {
    let google = match object.get("google") {
        None | Some(Value::Null) => return Vote::Silent,
        Some(Value::Object(google)) => google,
        Some(_) => return Vote::Deny,
    };
    let name = match need.category {
        "marketing" => "ad_storage",
        "analytics" => "analytics_storage",
        _ => return Vote::Silent,
    };
    match google.get(name) {
        None => Vote::Silent,
        Some(Value::String(text)) if text == "granted" => Vote::Grant,
        Some(_) => Vote::Deny,
    }
}
