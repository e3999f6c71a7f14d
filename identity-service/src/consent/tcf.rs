//! The vote of IAB's Transparency and Consent Framework string. It is not read yet: where one is present it
//! counts as one that can't be parsed, and denies.

use serde_json::{Map, Value};

use super::Vote;

/// The vote of the object's member `tcf`.
pub fn vote(object: &Map<String, Value>) -> Vote {
    match object.get("tcf") {
        None => Vote::Silent,
        // It means something only where the regulation applies; the platform's word travels beside the string.
        Some(_) if object.get("gdpr_applies") == Some(&Value::Bool(false)) => Vote::Silent,
        Some(_) => Vote::Unreadable,
    }
}
