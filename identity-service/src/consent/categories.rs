//! The vote of consent categories: a member named as the category, in the object itself, or in its `categories` (or
//! `categoryPreferences`), there also by a code that the pipeline maps to the category.

use serde_json::{Map, Value};

use super::{ConsentRule, Vote, mapping::Category};
use crate::vendors::ConsentNeed;

/// The members that list categories.
pub const LISTS: [&str; 2] = ["categories", "categoryPreferences"];

/// The vote of all places. Of several codes of the category any that is not `true` denies; an absent one says nothing.
pub fn vote(object: &Map<String, Value>, need: &ConsentNeed, rule: &ConsentRule) -> Vote {
    let own = object
        .iter()
        .filter(|(name, _)| Category::of_name(name).is_some_and(|own| own.name() == need.category));
    let own = own.map(|(_, value)| boolean(value));
    let listed = LISTS.iter().filter_map(|list| object.get(*list)).map(|list| match list {
        Value::Object(list) => list
            .iter()
            .filter(|(code, _)| rule.categories(code).any(|own| own.name() == need.category))
            .map(|(_, value)| boolean(value))
            .max()
            .unwrap_or(Vote::Silent),
        _ => Vote::Unreadable,
    });
    own.chain(listed).max().unwrap_or(Vote::Silent)
}

/// The vote of a member: "true", 1 and "yes" are no consent.
fn boolean(value: &Value) -> Vote {
    match value {
        Value::Bool(true) => Vote::Grant,
        Value::Bool(false) => Vote::Deny,
        _ => Vote::Unreadable,
    }
}
