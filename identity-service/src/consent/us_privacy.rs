//! The vote of IAB's US Privacy string: version 1, notice given, opted out of sale, LSPA; each `Y`, `N` or `-`.

use serde_json::{Map, Value};

use super::Vote;

/// The vote of the object's member `us_privacy`: an opt-out, and what can't be read, deny.
pub fn vote(object: &Map<String, Value>) -> Vote {
    match object.get("us_privacy") {
        None => Vote::Silent,
        Some(Value::String(text)) => of_text(text),
        Some(_) => Vote::Unreadable,
    }
}

fn of_text(text: &str) -> Vote {
    let letters: Vec<char> = text.to_ascii_uppercase().chars().collect();
    match letters.as_slice() {
        ['1', rest @ ..] if rest.len() == 3 && rest.iter().all(|c| matches!(c, 'Y' | 'N' | '-')) => {
            if rest.get(1) == Some(&'Y') { Vote::Deny } else { Vote::Silent }
        }
        _ => Vote::Unreadable,
    }
}
