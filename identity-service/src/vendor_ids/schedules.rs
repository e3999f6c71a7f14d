//! Schedules: whose sync with a vendor puts off whom. Browsers of one class of ties share a schedule, so that a
//! person is not asked for on each device; but where some are tied by a proof, one without neither puts off any
//! other, nor is it put off.

use std::collections::BTreeMap;

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::ties::Ties;
use crate::{
    clock,
    storage::{
        attempt::{Attempt, Attempts},
        cache_entries::{self, DUE_FIELD},
        mark::Mark,
        redis::{
            keys,
            protocol::{Entry, Value},
        },
        via::Via,
    },
};

/// Schedules by the name of the vendor.
pub type ByVendor<'a> = BTreeMap<&'a str, Attempt>;

/// True where a browser of the person's has a schedule of its own alone.
pub fn is_alone(ties: &Ties, anonymous_id: &str) -> bool {
    ties.shares_syncs(anonymous_id) == Some(false) && ties.has_shared_syncs()
}

/// The schedules that count for a browser; for the person where none is named.
pub fn of<'a>(attempts: &'a Attempts, ties: &Ties, browser: Option<&str>) -> ByVendor<'a> {
    match browser.filter(|browser| is_alone(ties, browser)) {
        Some(alone) => combined(attempts, |browser| browser == alone),
        None if ties.has_shared_syncs() => {
            combined(attempts, |browser| ties.shares_syncs(browser) == Some(true))
        }
        None => combined(attempts, |_| true),
    }
}

fn combined(attempts: &Attempts, counts: impl Fn(&str) -> bool) -> ByVendor<'_> {
    let mut by_vendor: BTreeMap<&str, Vec<&Attempt>> = BTreeMap::new();
    for ((vendor, browser), attempt) in attempts {
        if counts(browser) {
            by_vendor.entry(vendor).or_default().push(attempt);
        }
    }
    by_vendor.into_iter().filter_map(|(vendor, own)| Some((vendor, combine(&own)?))).collect()
}

/// One schedule of several browsers: the one that puts off longest, with the last sync of any. What went unanswered
/// before that sync is answered by it, and so is what another browser tried while its ID was good for all.
fn combine(attempts: &[&Attempt]) -> Option<Attempt> {
    let synced = attempts.iter().max_by_key(|one| one.last_synced)?;
    let is_answered = |one: &Attempt| {
        let is_another_s = one.last_synced.is_none() && synced.last_synced.is_some();
        one.unanswered_since <= synced.last_synced
            || is_another_s && one.unanswered_since < Some(synced.next_at)
    };
    let answered = |one: &Attempt| {
        if is_answered(one) {
            Attempt { attempts: 0, unanswered_since: None, ..one.clone() }
        } else {
            one.clone()
        }
    };
    let longest = attempts.iter().map(|one| answered(one)).max_by_key(Attempt::due_at)?;
    Some(Attempt { last_synced: synced.last_synced, ttl_days: synced.ttl_days, ..longest })
}

/// A schedule as `syncs:` has it.
#[derive(Serialize)]
struct SyncEntry {
    #[serde(with = "time::serde::rfc3339::option")]
    last_synced: Option<OffsetDateTime>,
    ttl_days: Option<i32>,
    outcome: &'static str,
    attempts: i32,
    #[serde(with = "time::serde::rfc3339::option")]
    unanswered_since: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    next_at: OffsetDateTime,
}

/// Builds `syncs:` of one canonical identity.
pub fn entry(org: Uuid, canonical: Uuid, attempts: &Attempts, ties: &Ties) -> Entry {
    let shared = of(attempts, ties, None);
    let mut fields: Vec<(String, String)> =
        shared.iter().map(|(vendor, attempt)| ((*vendor).to_owned(), text(attempt))).collect();
    fields.push((DUE_FIELD.to_owned(), due_text(attempts, ties, None)));
    for browser in ties.browsers().filter(|browser| is_alone(ties, browser)) {
        let (mark, own) = (Mark::of(browser), of(attempts, ties, Some(browser)));
        let field = |vendor: &str| cache_entries::own_field(vendor, mark);
        fields.extend(own.iter().map(|(vendor, attempt)| (field(vendor), text(attempt))));
        fields.push((own_due_field(mark), due_text(attempts, ties, Some(browser))));
    }
    let ttl_ms = cache_entries::millis(cache_entries::SERVING);
    Entry { key: keys::syncs(org, canonical), value: Value::Hash(fields), ttl_ms }
}

/// The field of `syncs:` with all that a batch asks of a browser whose schedule is its own alone.
pub fn own_due_field(mark: Mark) -> String {
    let mut own = String::with_capacity(DUE_FIELD.len() + 1 + Mark::CHARS);
    own.push_str(DUE_FIELD);
    own.push('@');
    own.push_str(mark.as_str());
    own
}

/// The text beside what is due before the word for the way in which a browser came to its user: one that names them
/// in a stronger way has that to be stored, and any other event of a known visitor nothing.
fn way_token(mark: Mark) -> String {
    format!(" @{mark}=")
}

/// The way in which the browser of `mark` came to its user, of a text of what is due; none where there is no user.
pub fn way(due: &str, mark: Mark) -> Option<Via> {
    let (_, rest) = due.split_once(&way_token(mark))?;
    rest.split(' ').next().map(Via::from_word)
}

/// True where a text of what is due can be read: nothing, or a moment a vendor and a way a browser.
pub fn is_due_text(due: &str) -> bool {
    let is_token = |token: &str| match token.split_once('=') {
        Some((name, _)) if name.starts_with('@') => true,
        Some((_, at)) => at.parse::<i64>().is_ok(),
        None => false,
    };
    due.split(' ').filter(|token| !token.is_empty()).all(is_token)
}

/// Writes what is due for a browser, with its way; for the person, with the ways of all that share that schedule.
pub fn due_text(attempts: &Attempts, ties: &Ties, browser: Option<&str>) -> String {
    let schedules = of(attempts, ties, browser);
    let due =
        schedules.iter().map(|(vendor, attempt)| format!("{vendor}={}", clock::unix_ms(attempt.due_at())));
    let mut text = due.collect::<Vec<_>>().join(" ");
    let is_shown = |own: &&str| browser.map_or_else(|| !is_alone(ties, own), |browser| *own == browser);
    for browser in ties.browsers().filter(is_shown) {
        if let Some(via) = ties.way_to_user(browser) {
            text.push_str(&way_token(Mark::of(browser)));
            text.push_str(via.word());
        }
    }
    text
}

fn text(attempt: &Attempt) -> String {
    let entry = SyncEntry {
        last_synced: attempt.last_synced,
        ttl_days: attempt.ttl_days,
        outcome: attempt.outcome.word(),
        attempts: attempt.attempts,
        unanswered_since: attempt.unanswered_since,
        next_at: attempt.next_at,
    };
    serde_json::to_string(&entry).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use time::{Duration, macros::datetime};

    use super::*;
    use crate::{
        identifiers::{Identifier, Kind},
        storage::attempt::Outcome,
    };

    const NOW: OffsetDateTime = datetime!(2026-11-28 10:00 UTC);

    fn ties(browsers: &[(&str, Via)]) -> Ties {
        let id = |value: &str| Identifier { kind: Kind::AnonymousId, value: value.to_owned() };
        Ties::new(browsers.iter().map(|(value, via)| (id(value), *via)))
    }

    fn synced(days_ago: i64) -> Attempt {
        Attempt {
            last_synced: Some(NOW - Duration::days(days_ago)),
            ttl_days: Some(30),
            outcome: Outcome::Stored,
            attempts: 0,
            unanswered_since: None,
            next_at: NOW + Duration::days(30 - days_ago),
            period: None,
        }
    }

    fn tried(attempts: i32, days_ago: i64) -> Attempt {
        Attempt {
            last_synced: None,
            ttl_days: None,
            outcome: Outcome::Attempted,
            attempts,
            unanswered_since: Some(NOW - Duration::days(days_ago)),
            next_at: NOW + Duration::hours(1),
            period: None,
        }
    }

    fn attempts(list: &[(&str, Attempt)]) -> Attempts {
        let of = |browser: &str| ("criteo".to_owned(), browser.to_owned());
        list.iter().map(|(browser, attempt)| (of(browser), attempt.clone())).collect()
    }

    #[test]
    fn without_a_proof_all_share_and_with_one_those_without_are_alone() {
        let all = attempts(&[("a", synced(1)), ("b", tried(1, 0)), ("", synced(40))]);
        let next = |ties: &Ties, browser| of(&all, ties, browser).get("criteo").map(|one| one.next_at);
        let claims = ties(&[("a", Via::Claim), ("b", Via::Own), ("c", Via::Cookie)]);
        for browser in [None, Some("a"), Some("b"), Some("c")] {
            assert_eq!(next(&claims, browser), Some(synced(1).next_at), "{browser:?}");
        }
        let proof = ties(&[("a", Via::Signed), ("b", Via::Claim), ("c", Via::Claim), ("d", Via::UserHash)]);
        for browser in [None, Some("a"), Some("d")] {
            assert_eq!(next(&proof, browser), Some(synced(1).next_at), "{browser:?}");
        }
        assert_eq!((next(&proof, Some("b")), next(&proof, Some("c"))), (Some(tried(1, 0).next_at), None));
        let others = ties(&[("a", Via::Claim), ("d", Via::UserHash)]);
        assert_eq!((next(&others, Some("d")), next(&others, None)), (None, None), "not by whoever claims");
    }

    #[test]
    fn of_several_the_one_that_puts_off_longest_counts_and_a_sync_answers_what_was_tried_before() {
        let combined = |list: &[Attempt]| combine(&list.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(combined(&[tried(8, 20), synced(1)]).attempts, 0);
        assert!(!combined(&[tried(8, 20), synced(1)]).is_exhausted(NOW));
        assert!(
            !combined(&[tried(8, 20), synced(29)]).is_exhausted(NOW),
            "another browser, while the ID was good"
        );
        let exhausted = combined(&[tried(8, 20), synced(55)]);
        assert!(exhausted.is_exhausted(NOW) && exhausted.last_synced == synced(55).last_synced);
        assert_eq!(combined(&[synced(5), tried(1, 0)]).next_at, synced(5).next_at);
        assert!(combine(&[]).is_none());
    }

    #[test]
    fn a_browser_alone_has_fields_of_its_own() {
        let proof = ties(&[("a", Via::Signed), ("b", Via::Claim)]);
        let all = attempts(&[("a", synced(1)), ("b", tried(1, 0))]);
        let entry = entry(Uuid::nil(), Uuid::nil(), &all, &proof);
        let Value::Hash(fields) = entry.value else { panic!("no hash") };
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        let mark = Mark::of("b");
        assert_eq!(names, ["criteo", "_due", &format!("_criteo@{mark}"), &format!("_due@{mark}")]);
        assert!(fields.iter().all(|(_, text)| !text.contains('@')), "there is no user to have come to");
    }

    #[test]
    fn the_way_of_each_browser_is_read_back() {
        let mut links = BTreeMap::new();
        for (value, via) in [("a", Via::Signed), ("b", Via::Cookie), ("c", Via::Claim)] {
            links.insert(Identifier { kind: Kind::AnonymousId, value: value.to_owned() }, via);
        }
        links.insert(Identifier { kind: Kind::UserId, value: "u".to_owned() }, Via::Signed);
        let entry = entry(Uuid::nil(), Uuid::nil(), &attempts(&[("a", synced(1))]), &Ties::new(links));
        let Value::Hash(fields) = entry.value else { panic!("no hash") };
        let text = |name: &str| fields.iter().find(|(own, _)| own == name).map(|(_, text)| text.as_str());
        let marks = ["a", "b", "c"].map(Mark::of);
        let ways = [
            way(text("_due").unwrap(), marks[0]),
            way(text(&own_due_field(marks[1])).unwrap(), marks[1]),
            way(text(&own_due_field(marks[2])).unwrap(), marks[2]),
        ];
        assert_eq!(ways, [Some(Via::Signed), Some(Via::Cookie), Some(Via::Claim)]);
        assert_eq!(way(text("_due").unwrap(), marks[1]), None);
    }
}
