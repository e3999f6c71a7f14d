//! Whether a new ID takes the place of what is stored. Asked twice: of Redis, so that an event that brings nothing new
//! writes nothing, and of PostgreSQL under the identity's lock.

use time::{Duration, OffsetDateTime};

use super::stored::Held;
use crate::{
    first_party_ids::click::ClickId,
    vendors::{
        cookie_format::{self, Format},
        generated::GeneratedId,
    },
};

/// How long the generated ID of one browser of a person stays before another's takes its place: two that are in use
/// together do not rewrite each other's with each event.
const TURN: Duration = Duration::hours(24);

/// An ID that a browser brought or was made for it.
#[derive(Debug, Clone)]
pub struct NewId {
    /// What it is.
    pub record: Record,
    /// The ID.
    pub value: String,
    /// It was made just now; otherwise the browser brought it.
    pub is_made: bool,
    /// When it stops counting.
    pub expires_at: OffsetDateTime,
}

/// A record of one of the tables.
#[derive(Debug, Clone, Copy)]
pub enum Record {
    /// From a page's URL.
    Click(&'static ClickId),
    /// For, or from, the vendor's cookie.
    Generated(&'static GeneratedId),
}

impl Record {
    /// Field of the identity.
    pub fn field(self) -> &'static str {
        match self {
            Self::Click(record) => record.field,
            Self::Generated(record) => record.field,
        }
    }

    /// The consent category that is needed.
    pub fn category(self) -> &'static str {
        match self {
            Self::Click(record) => record.category,
            Self::Generated(record) => record.category,
        }
    }

    /// `source` of a vendor ID.
    pub fn source(self) -> &'static str {
        match self {
            Self::Click(_) => "click",
            Self::Generated(_) => "generated",
        }
    }
}

/// What becomes of a new ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is stored.
    Store,
    /// The stored one is this browser's, and stays.
    Keep,
    /// Nothing changes.
    Leave,
}

/// Judges for the browser of `mark`.
pub fn judge(held: Option<&Held>, new: &NewId, mark: &str, now: OffsetDateTime) -> Verdict {
    let Some(held) = held.filter(|held| held.expires_at > now) else { return Verdict::Store };
    let record = match new.record {
        Record::Click(_) if held.value == new.value => return Verdict::Leave,
        Record::Click(_) => return Verdict::Store,
        Record::Generated(record) => record,
    };
    // What the vendor has said itself is better, and the same value is nothing new.
    if !held.generated || held.value == new.value {
        return Verdict::Leave;
    }
    let stays = if held.is_of(mark) {
        if new.is_made {
            record.format.same_click(&held.value, &new.value)
        } else {
            // A cookie of an earlier click than the one that is stored.
            record.format == Format::Fbc
                && cookie_format::clicked_at(&new.value) <= cookie_format::clicked_at(&held.value)
        }
    } else {
        let is_click = new.is_made && record.format == Format::Fbc;
        if !is_click && now - held.collected_at < TURN {
            return Verdict::Leave;
        }
        false
    };
    if stays { Verdict::Keep } else { Verdict::Store }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::{first_party_ids::click::CLICK_IDS, vendors::generated::GENERATED_IDS};

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);

    fn new(field: &str, value: &str, is_made: bool) -> NewId {
        let click = CLICK_IDS.iter().find(|record| record.field == field).map(Record::Click);
        let generated = GENERATED_IDS.iter().find(|record| record.field == field).map(Record::Generated);
        let record = click.or(generated).unwrap();
        NewId { record, value: value.to_owned(), is_made, expires_at: NOW + Duration::days(90) }
    }

    fn held(value: &str, by: Option<&str>, age: Duration) -> Held {
        Held {
            value: value.to_owned(),
            generated: by.is_some(),
            by: by.map(str::to_owned),
            collected_at: NOW - age,
            expires_at: NOW - age + Duration::days(90),
        }
    }

    #[test]
    fn of_clicks_the_newest_wins_and_the_same_one_is_not_written_again() {
        let judge = |held: Option<Held>| judge(held.as_ref(), &new("gclid", "b", false), "own", NOW);
        assert_eq!(judge(None), Verdict::Store);
        assert_eq!(judge(Some(held("a", None, Duration::ZERO))), Verdict::Store);
        assert_eq!(judge(Some(held("b", None, Duration::days(89)))), Verdict::Leave);
        assert_eq!(judge(Some(held("b", None, Duration::days(91)))), Verdict::Store);
    }

    #[test]
    fn a_browser_s_own_id_stays_its_cookie_wins_and_another_s_gives_way_after_a_day() {
        let (made, seen) = (new("fbp", "b", true), new("fbp", "b", false));
        let judge = |held: Held, new: &NewId| judge(Some(&held), new, "own", NOW);
        let hour = Duration::hours(1);
        assert_eq!(judge(held("a", Some("own"), hour), &made), Verdict::Keep);
        assert_eq!(judge(held("a", Some("own"), hour), &seen), Verdict::Store);
        assert_eq!(judge(held("b", Some("own"), hour), &seen), Verdict::Leave);
        for new in [&made, &seen] {
            assert_eq!(judge(held("a", Some("other"), hour), new), Verdict::Leave);
            assert_eq!(judge(held("a", Some("other"), TURN), new), Verdict::Store);
            assert_eq!(judge(held("a", Some("own"), Duration::days(91)), new), Verdict::Store);
            assert_eq!(judge(held("a", None, TURN), new), Verdict::Leave, "the vendor's own");
        }
    }

    #[test]
    fn a_click_makes_a_new_fbc_at_once_and_an_older_cookie_none() {
        let fbc = |ms: i64, click: &str| format!("fb.1.{ms}.{click}");
        let (first, second) = (fbc(1_795_000_000_000, "one"), fbc(1_795_000_000_001, "two"));
        let judge = |by: &str, old: &str, value: &str, is_made: bool| {
            let held = held(old, Some(by), Duration::hours(1));
            judge(Some(&held), &new("fbc", value, is_made), "own", NOW)
        };
        assert_eq!(judge("own", &first, &second, true), Verdict::Store);
        assert_eq!(judge("other", &first, &second, true), Verdict::Store);
        assert_eq!(judge("own", &first, &fbc(1_795_000_000_002, "one"), true), Verdict::Keep);
        assert_eq!(judge("own", &second, &first, false), Verdict::Keep);
        assert_eq!(judge("own", &first, &second, false), Verdict::Store);
    }
}
