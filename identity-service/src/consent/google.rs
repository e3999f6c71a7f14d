//! The vote of Google's consent mode: `ad_storage` is marketing, `analytics_storage` is analytics, and `ad_user_data` speaks
//! for Google's advertising IDs alone.

use serde_json::{Map, Value};

use super::Vote;
use crate::vendors::ConsentNeed;

/// The names of Google's consent mode.
pub const NAMES: [&str; 4] = ["ad_storage", "ad_user_data", "ad_personalization", "analytics_storage"];

/// The vote of the object's member `google`.
pub fn vote(object: &Map<String, Value>, need: &ConsentNeed) -> Vote {
    let google = match object.get("google") {
        None => return Vote::Silent,
        Some(Value::Object(google)) => google,
        Some(_) => return Vote::Unreadable,
    };
    let state = |name: &str| match google.get(name) {
        None => Vote::Silent,
        Some(Value::String(text)) if text == "granted" => Vote::Grant,
        Some(Value::String(text)) if text == "denied" => Vote::Deny,
        Some(_) => Vote::Unreadable,
    };
    let storage = match need.category {
        "marketing" => state("ad_storage"),
        "analytics" => state("analytics_storage"),
        _ => Vote::Silent,
    };
    // That the data may go to Google is no word on whether anything may be kept.
    let user_data = Some(state("ad_user_data")).filter(|vote| need.google && *vote != Vote::Grant);
    storage.max(user_data.unwrap_or(Vote::Silent))
}
