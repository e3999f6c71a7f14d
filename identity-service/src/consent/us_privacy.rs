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

/// The vote of a string.
pub fn of_text(text: &str) -> Vote {
    match *text.as_bytes() {
        _ if !is_well_formed(text) => Vote::Unreadable,
        [_, _, b'Y' | b'y', _] => Vote::Deny,
        _ => Vote::Silent,
    }
}

/// True where a text is such a string, in letters of either case.
pub fn is_well_formed(text: &str) -> bool {
    matches!(text.as_bytes(), [b'1', rest @ ..]
        if rest.len() == 3 && rest.iter().all(|c| matches!(c.to_ascii_uppercase(), b'Y' | b'N' | b'-')))
}
