//! Precedence of vendor IDs: what becomes of a new one beside what is stored. Asked twice: of Redis, so that an event
//! that brings nothing new writes nothing, and of PostgreSQL under the identity's lock.

use time::{Duration, OffsetDateTime};

use super::stored::StoredId;
use crate::vendors::{
    ClickId, ConsentNeed, GeneratedId,
    cookie_format::{self, Format},
};

/// Time for which the generated ID of one browser of a person stays before another's takes its place: two that are in
/// use together do not rewrite each other's with each event.
const TURN_DURATION: Duration = Duration::hours(24);

/// An ID that a browser brought or was made for it.
#[derive(Debug, Clone)]
pub struct NewId {
    /// The record of its kind.
    pub record: IdRecord,
    /// The vendor's ID for the visitor.
    pub value: String,
    /// True where it was made just now; otherwise the browser brought it.
    pub is_made: bool,
    /// Time at which it stops counting.
    pub expires_at: OffsetDateTime,
}

/// The record of an ID that comes without asking its vendor.
#[derive(Debug, Clone, Copy)]
pub enum IdRecord {
    /// A click ID, from a page's URL.
    Click(&'static ClickId),
    /// A generated ID, for or from the vendor's cookie.
    Generated(&'static GeneratedId),
}

impl IdRecord {
    /// Field of the identity that holds the ID.
    pub fn field(self) -> &'static str {
        match self {
            Self::Click(record) => record.field,
            Self::Generated(record) => record.field,
        }
    }

    /// The consent that the ID needs.
    pub fn need(self) -> ConsentNeed {
        match self {
            Self::Click(record) => record.need,
            Self::Generated(record) => record.need,
        }
    }

    /// The `source` of such a vendor ID.
    pub fn source(self) -> &'static str {
        match self {
            Self::Click(_) => "click",
            Self::Generated(_) => "generated",
        }
    }
}

/// The decision on a new ID beside the stored one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The new ID is stored in the other's place.
    Replace,
    /// The stored one is this browser's, and stays.
    KeepOwn,
    /// The new ID changes nothing.
    Ignore,
}

/// Decides for the browser of `mark`.
pub fn decide(stored: Option<&StoredId>, new: &NewId, mark: &str, now: OffsetDateTime) -> Decision {
    let Some(stored) = stored.filter(|stored| stored.expires_at > now) else { return Decision::Replace };
    let record = match new.record {
        IdRecord::Click(_) if stored.value == new.value => return Decision::Ignore,
        IdRecord::Click(_) => return Decision::Replace,
        IdRecord::Generated(record) => record,
    };
    // What the vendor has said itself is better, and the same value is nothing new.
    if !stored.generated || stored.value == new.value {
        return Decision::Ignore;
    }
    let stays = if stored.is_of(mark) {
        if new.is_made {
            record.format.same_click(&stored.value, &new.value)
        } else {
            // A cookie of an earlier click than the one that is stored.
            record.format == Format::Fbc
                && cookie_format::clicked_at(&new.value) <= cookie_format::clicked_at(&stored.value)
        }
    } else {
        let is_click = new.is_made && record.format == Format::Fbc;
        if !is_click && now - stored.collected_at < TURN_DURATION {
            return Decision::Ignore;
        }
        false
    };
    if stays { Decision::KeepOwn } else { Decision::Replace }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::vendors;

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);

    fn new(field: &str, value: &str, is_made: bool) -> NewId {
        let click = vendors::click_ids().find(|record| record.field == field).map(IdRecord::Click);
        let generated =
            vendors::generated_ids().find(|record| record.field == field).map(IdRecord::Generated);
        let record = click.or(generated).unwrap();
        NewId { record, value: value.to_owned(), is_made, expires_at: NOW + Duration::days(90) }
    }

    fn stored(value: &str, by: Option<&str>, age: Duration) -> StoredId {
        StoredId {
            value: value.to_owned(),
            generated: by.is_some(),
            by: by.map(str::to_owned),
            collected_at: NOW - age,
            expires_at: NOW - age + Duration::days(90),
        }
    }

    #[test]
    fn of_clicks_the_newest_wins_and_the_same_one_is_not_written_again() {
        let decide =
            |stored: Option<StoredId>| super::decide(stored.as_ref(), &new("gclid", "b", false), "own", NOW);
        assert_eq!(decide(None), Decision::Replace);
        assert_eq!(decide(Some(stored("a", None, Duration::ZERO))), Decision::Replace);
        assert_eq!(decide(Some(stored("b", None, Duration::days(89)))), Decision::Ignore);
        assert_eq!(decide(Some(stored("b", None, Duration::days(91)))), Decision::Replace);
    }

    #[test]
    fn a_browser_s_own_id_stays_its_cookie_wins_and_another_s_gives_way_after_a_day() {
        let (made, seen) = (new("fbp", "b", true), new("fbp", "b", false));
        let decide = |stored: StoredId, new: &NewId| super::decide(Some(&stored), new, "own", NOW);
        let hour = Duration::hours(1);
        assert_eq!(decide(stored("a", Some("own"), hour), &made), Decision::KeepOwn);
        assert_eq!(decide(stored("a", Some("own"), hour), &seen), Decision::Replace);
        assert_eq!(decide(stored("b", Some("own"), hour), &seen), Decision::Ignore);
        for new in [&made, &seen] {
            assert_eq!(decide(stored("a", Some("other"), hour), new), Decision::Ignore);
            assert_eq!(decide(stored("a", Some("other"), TURN_DURATION), new), Decision::Replace);
            assert_eq!(decide(stored("a", Some("own"), Duration::days(91)), new), Decision::Replace);
            assert_eq!(decide(stored("a", None, TURN_DURATION), new), Decision::Ignore, "the vendor's own");
        }
    }

    #[test]
    fn a_click_makes_a_new_fbc_at_once_and_an_older_cookie_none() {
        let fbc = |ms: i64, click: &str| format!("fb.1.{ms}.{click}");
        let (first, second) = (fbc(1_795_000_000_000, "one"), fbc(1_795_000_000_001, "two"));
        let decide = |by: &str, old: &str, value: &str, is_made: bool| {
            let stored = stored(old, Some(by), Duration::hours(1));
            super::decide(Some(&stored), &new("fbc", value, is_made), "own", NOW)
        };
        assert_eq!(decide("own", &first, &second, true), Decision::Replace);
        assert_eq!(decide("other", &first, &second, true), Decision::Replace);
        assert_eq!(decide("own", &first, &fbc(1_795_000_000_002, "one"), true), Decision::KeepOwn);
        assert_eq!(decide("own", &second, &first, false), Decision::KeepOwn);
        assert_eq!(decide("own", &first, &second, false), Decision::Replace);
    }
}
