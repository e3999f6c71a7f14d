//! The schedule of one vendor's sync with one browser, as it is stored, and from when on it is due.

use std::collections::BTreeMap;

use serde::Serialize;
use time::{Duration, OffsetDateTime};

/// Most attempts that may go unanswered within [`UNANSWERED_WINDOW`].
pub const MAX_UNANSWERED: i32 = 8;
/// Time in which unanswered attempts are counted, from the first of them on.
pub const UNANSWERED_WINDOW: Duration = Duration::days(90);

/// The name of a vendor and the anonymous ID of a browser, which is empty where the browser is not known or has left.
pub type VendorAndBrowser = (String, String);

/// Schedules of a canonical identity, each browser's own.
pub type Attempts = BTreeMap<VendorAndBrowser, Attempt>;

/// Outcome of the last try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The browser was sent off and has not come back.
    Attempted,
    /// An ID was stored.
    Stored,
    /// The vendor has no ID for this visitor.
    NoId,
    /// The vendor's ID came for too many browsers, and is nobody's.
    SharedId,
}

impl Outcome {
    /// The word in PostgreSQL and Redis.
    pub fn word(self) -> &'static str {
        match self {
            Self::Attempted => "attempted",
            Self::Stored => "stored",
            Self::NoId => "no_id",
            Self::SharedId => "shared_id",
        }
    }

    /// The outcome that a word stands for; none for an unknown word.
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [Self::Attempted, Self::Stored, Self::NoId, Self::SharedId];
        all.into_iter().find(|outcome| outcome.word() == word)
    }
}

/// State of one vendor's sync with one browser, or with those that share a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// Time at which an ID was last stored.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_synced: Option<OffsetDateTime>,
    /// Days for which that ID was stored.
    pub ttl_days: Option<i32>,
    /// Outcome of the last try.
    pub outcome: Outcome,
    /// Tries without an answer since `unanswered_since`.
    pub attempts: i32,
    /// Time of the first try without an answer.
    #[serde(with = "time::serde::rfc3339::option")]
    pub unanswered_since: Option<OffsetDateTime>,
    /// Time before which the vendor is not tried again.
    #[serde(with = "time::serde::rfc3339")]
    pub next_at: OffsetDateTime,
    /// The period of the browser's tries that runs, for the match rate.
    #[serde(skip)]
    pub period: Option<Period>,
}

/// A period in which a browser's tries with a vendor count as one: a browser that blocks the vendor is tried again, and
/// must not pull the match rate down each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// Time of the 302 with which it began.
    pub since: OffsetDateTime,
    /// True where an ID was stored in it.
    pub is_stored: bool,
}

impl Attempt {
    /// True where eight attempts went unanswered and the first of them is less than 90 days ago.
    pub fn is_exhausted(&self, now: OffsetDateTime) -> bool {
        self.attempts >= MAX_UNANSWERED
            && self.unanswered_since.is_some_and(|since| now - since < UNANSWERED_WINDOW)
    }

    /// The moment from which on the vendor may be tried.
    pub fn due_at(&self) -> OffsetDateTime {
        let window = self.unanswered_since.filter(|_| self.attempts >= MAX_UNANSWERED);
        window.map_or(self.next_at, |since| self.next_at.max(since + UNANSWERED_WINDOW))
    }

    /// True where the vendor may be tried now.
    pub fn is_due(&self, now: OffsetDateTime) -> bool {
        self.due_at() <= now
    }
}
