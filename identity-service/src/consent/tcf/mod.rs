//! The vote of IAB's Transparency and Consent Framework string, of version 2.2 or 2.3.

mod string;
#[cfg(any(test, fuzzing))]
pub mod vectors;
mod vendor_set;

use serde_json::{Map, Value};
use time::{Duration, OffsetDateTime, macros::datetime};

use self::string::TcString;
use super::Vote;
use crate::vendors::ConsentNeed;

/// The policies that a string has to be made under: those of version 2.2.
const MIN_POLICY: u16 = 4;
/// Age at which the visitor has to be asked again: 13 months.
const MAX_AGE: Duration = Duration::days(395);
/// Most that a clock elsewhere may be ahead, as far as a string counts.
const MAX_AHEAD: Duration = Duration::days(2);
/// The time from which on a string has to say which vendors were disclosed (version 2.3).
const DISCLOSURE_SINCE: OffsetDateTime = datetime!(2026-03-01 00:00 UTC);

/// The string of one browser, as far as it can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tcf {
    /// No string is there, or none that is in force.
    Absent,
    /// The string is none of this version.
    Unreadable,
    /// The string has the form of one.
    Read(TcString),
}

impl Tcf {
    /// Reads the object's member `tcf`. It means something only where the regulation applies; the platform's word on that
    /// travels beside the string.
    pub fn read(object: &Map<String, Value>) -> Self {
        match object.get("tcf") {
            None => Self::Absent,
            Some(_) if !is_in_force(object) => Self::Absent,
            Some(Value::String(text)) => Self::of(text),
            Some(_) => Self::Unreadable,
        }
    }

    /// Reads a string that is in force.
    pub fn of(text: &str) -> Self {
        TcString::read(text).map_or(Self::Unreadable, Self::Read)
    }

    /// The vote on a need, at that time.
    pub fn vote(&self, need: &ConsentNeed, now: OffsetDateTime) -> Vote {
        match self {
            Self::Absent => Vote::Silent,
            Self::Unreadable => Vote::Unreadable,
            Self::Read(string) => vote(string, need, now),
        }
    }
}

/// True unless the platform says that the GDPR does not apply.
pub fn is_in_force(object: &Map<String, Value>) -> bool {
    object.get("gdpr_applies") != Some(&Value::Bool(false))
}

/// The vote on access to the device by a vendor of the Global Vendor List, or by one that is not on it.
fn vote(string: &TcString, need: &ConsentNeed, now: OffsetDateTime) -> Vote {
    let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).ok();
    let (Some(created), Some(updated)) = (at(string.created), at(string.updated)) else {
        return Vote::Unreadable;
    };
    // A string that speaks for all sites, or is made under older policies, is not valid any more.
    let is_valid = string.is_service_specific && string.policy >= MIN_POLICY;
    // What is stored ages with its visitor.
    let is_of_age = updated >= now - MAX_AGE && updated <= now + MAX_AHEAD;
    if !is_valid || !is_of_age {
        return Vote::Unreadable;
    }
    if !string.consents_to_access {
        return Vote::Deny;
    }
    // No word of the visitor's, who was never asked.
    if !need.asks_for_access {
        return Vote::Unreadable;
    }
    let Some(vendor) = need.gvl_id else { return Vote::Grant };
    if !string.consents_to(vendor) || string.forbids_access(vendor) {
        return Vote::Deny;
    }
    // Without disclosure there is no consent; but it is no word of the visitor's either.
    match string.discloses(vendor) {
        Some(true) => Vote::Grant,
        None if created < DISCLOSURE_SINCE => Vote::Grant,
        Some(false) | None => Vote::Unreadable,
    }
}

#[cfg(test)]
mod tests;
