//! What is kept in Redis of a visitor's profile.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::clock;

/// Reasons for which an entry has no profile; the empty one where it has.
const REASONS: [&str; 16] = [
    "",
    "no_match",
    "no_input",
    "credentials",
    "forbidden",
    "rate_limited",
    "busy",
    "timeout",
    "network",
    "no_such_host",
    "status",
    "malformed",
    "too_large",
    "not_allowed",
    "erased",
    "unavailable",
];

/// What was found out of a visitor's profile.
#[derive(Clone, Serialize, Deserialize)]
pub struct Entry {
    /// ID of the profile at the provider; empty where there is none.
    pub id: String,
    /// The attributes.
    pub attributes: Map<String, Value>,
    /// Reason for which there is none.
    pub reason: String,
    /// True where it was found by what a browser only claims.
    pub is_claimed: bool,
    /// Time until which it is as good as new, in ms since the Unix epoch.
    pub fresh_until: i64,
    /// Time until which it is told.
    pub until: i64,
}

impl Entry {
    /// No profile, for that reason, until then.
    pub fn nothing(reason: &str, until: OffsetDateTime) -> Self {
        let until = clock::unix_ms(until);
        let attributes = Map::new();
        Self {
            id: String::new(),
            attributes,
            reason: reason.to_owned(),
            is_claimed: false,
            fresh_until: until,
            until,
        }
    }

    /// Reads an entry that is still told at `now`.
    pub fn parse(text: &str, now: OffsetDateTime) -> Option<Self> {
        let entry: Self = serde_json::from_str(text).ok()?;
        (entry.until > clock::unix_ms(now)).then_some(entry)
    }

    /// True where it is to be found out anew.
    pub fn is_stale(&self, now: OffsetDateTime) -> bool {
        self.fresh_until <= clock::unix_ms(now)
    }

    /// The entry as it is written.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The reason as one of those that there are.
    pub fn reason(&self) -> &'static str {
        REASONS.into_iter().find(|known| *known == self.reason).unwrap_or("unavailable")
    }
}

/// The last context that a browser's events were personalised for.
#[derive(Serialize, Deserialize)]
pub struct Newest {
    /// Field of the entry.
    pub field: String,
    /// True where the profile was found by what the browser only claims.
    pub is_claimed: bool,
    /// Time of the event, in ms since the Unix epoch.
    pub at: i64,
}

/// A field of that kind for a digest.
pub fn field(kind: char, digest: &[u8; 32]) -> String {
    let mut text = String::from(kind);
    URL_SAFE_NO_PAD.encode_string(digest.get(..16).unwrap_or_default(), &mut text);
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{profile::finding::word, providers::outcome::Failure};

    #[test]
    fn every_failure_comes_back_as_it_was_kept() {
        for failure in [
            Failure::Timeout,
            Failure::Network,
            Failure::NoSuchHost,
            Failure::Status(503),
            Failure::Malformed,
            Failure::TooLarge,
            Failure::RateLimited(Duration::ZERO),
            Failure::Credentials,
            Failure::Forbidden,
            Failure::NotAllowed,
            Failure::Busy(Duration::ZERO),
            Failure::Erased,
            Failure::Unavailable,
        ] {
            let kept =
                Entry::nothing(word(failure), OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1)).text();
            let read = Entry::parse(&kept, OffsetDateTime::UNIX_EPOCH).unwrap();
            assert_eq!(read.reason(), word(failure));
        }
    }
}
