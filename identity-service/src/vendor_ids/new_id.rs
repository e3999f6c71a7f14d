//! New IDs that come without asking their vendor, and what becomes of one beside what its owner has stored. Asked
//! twice: of Redis, so that an event that brings nothing new writes nothing, and of PostgreSQL under the identity's
//! lock.

use time::OffsetDateTime;

use super::stored::StoredId;
use crate::vendors::{
    ClickId, ConsentNeed, GeneratedId,
    cookie_format::{self, Format},
};

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

/// The decision on a new ID beside the one that its owner has stored in the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The new ID is stored in the other's place.
    Replace,
    /// The stored one stays, and is the one that the browser is to have.
    KeepOwn,
    /// The new ID changes nothing.
    Ignore,
}

/// Decides on a new ID. `stored` is its owner's own.
pub fn decide(stored: Option<&StoredId>, new: &NewId, now: OffsetDateTime) -> Decision {
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
    let stays = if new.is_made {
        record.format.same_click(&stored.value, &new.value)
    } else {
        // A cookie of an earlier click than the one that is stored.
        record.format == Format::Fbc
            && cookie_format::clicked_at(&new.value) <= cookie_format::clicked_at(&stored.value)
    };
    if stays { Decision::KeepOwn } else { Decision::Replace }
}

#[cfg(test)]
mod tests {
    use time::{Duration, macros::datetime};

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

    fn stored(value: &str, generated: bool, age: Duration) -> StoredId {
        StoredId { value: value.to_owned(), generated, expires_at: NOW - age + Duration::days(90) }
    }

    #[test]
    fn of_clicks_the_newest_wins_and_the_same_one_is_not_written_again() {
        let decide =
            |stored: Option<StoredId>| super::decide(stored.as_ref(), &new("gclid", "b", false), NOW);
        assert_eq!(decide(None), Decision::Replace);
        assert_eq!(decide(Some(stored("a", false, Duration::ZERO))), Decision::Replace);
        assert_eq!(decide(Some(stored("b", false, Duration::days(89)))), Decision::Ignore);
        assert_eq!(decide(Some(stored("b", false, Duration::days(91)))), Decision::Replace);
    }

    #[test]
    fn a_stored_id_stays_but_the_cookie_and_the_vendor_s_own_word_win() {
        let (made, seen) = (new("fbp", "b", true), new("fbp", "b", false));
        let decide = |stored: StoredId, new: &NewId| super::decide(Some(&stored), new, NOW);
        let hour = Duration::hours(1);
        assert_eq!(decide(stored("a", true, hour), &made), Decision::KeepOwn);
        assert_eq!(decide(stored("a", true, hour), &seen), Decision::Replace);
        assert_eq!(decide(stored("b", true, hour), &seen), Decision::Ignore);
        for new in [&made, &seen] {
            assert_eq!(decide(stored("a", true, Duration::days(91)), new), Decision::Replace);
            assert_eq!(decide(stored("a", false, hour), new), Decision::Ignore, "the vendor's own");
        }
    }

    #[test]
    fn a_click_makes_a_new_fbc_at_once_and_an_older_cookie_none() {
        let fbc = |ms: i64, click: &str| format!("fb.1.{ms}.{click}");
        let (first, second) = (fbc(1_795_000_000_000, "one"), fbc(1_795_000_000_001, "two"));
        let decide = |old: &str, value: &str, is_made: bool| {
            super::decide(Some(&stored(old, true, Duration::hours(1))), &new("fbc", value, is_made), NOW)
        };
        assert_eq!(decide(&first, &second, true), Decision::Replace);
        assert_eq!(decide(&first, &fbc(1_795_000_000_002, "one"), true), Decision::KeepOwn);
        assert_eq!(decide(&second, &first, false), Decision::KeepOwn);
        assert_eq!(decide(&first, &second, false), Decision::Replace);
    }
}
