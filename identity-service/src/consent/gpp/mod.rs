//! The vote of IAB's Global Privacy Platform string. It is not read yet: where one is present it counts as
//! one that can't be parsed, and denies.

pub mod applicable;

use serde_json::{Map, Value};

use super::Vote;

/// The vote of the object's member `gpp`.
pub fn vote(object: &Map<String, Value>) -> Vote {
    match object.get("gpp") {
        None => Vote::Silent,
        Some(_) => Vote::Unreadable,
    }
}
