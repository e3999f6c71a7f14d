//! The vote of consent categories: a member named as the category, in the object itself or in its `categories`.

use serde_json::{Map, Value};

use super::Vote;
use crate::vendors::ConsentNeed;

/// The vote of both places.
pub fn vote(object: &Map<String, Value>, need: &ConsentNeed) -> Vote {
    let listed = match object.get("categories") {
        None | Some(Value::Null) => Vote::Silent,
        Some(Value::Object(categories)) => boolean(categories.get(need.category)),
        Some(_) => Vote::Deny,
    };
    boolean(object.get(need.category)).and(listed)
}

/// The vote of a member: present and not the boolean `true` is a denial, since "true", 1 and null are no consent.
fn boolean(value: Option<&Value>) -> Vote {
    match value {
        None => Vote::Silent,
        Some(Value::Bool(true)) => Vote::Grant,
        Some(_) => Vote::Deny,
    }
}
