//! The plan of what is collected for one browser, or one user without a browser, in one request. Pure: what is
//! stored and what came go in.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};

use super::observed::ObservedIds;
use crate::{
    consent::{self, ConsentRule, Signals},
    vendor_ids::{
        new_id::{self, Decision, IdRecord, NewId},
        stored::{StoredId, StoredIds},
    },
    vendors::{
        ClickId, ConsentNeed, GeneratedId,
        cookie_format::{self, Format, Random, Reading},
    },
};

/// A browser's or user's part of a request.
pub struct Plan<'a> {
    /// The IDs that the browser, or the user, has brought before.
    pub stored: &'a StoredIds,
    /// The consent signals that count.
    pub signals: &'a Signals,
    /// The rule by which the pipeline reads them.
    pub rule: &'a ConsentRule,
    /// Click IDs that came, the newest of each field.
    pub clicks: BTreeMap<&'static str, (&'static ClickId, String)>,
    /// Time of the request.
    pub now: OffsetDateTime,
}

/// A step to take for a generated ID.
#[derive(Debug)]
pub enum Step {
    /// The ID is stored, and the browser given its cookie.
    Store(NewId),
    /// The browser is given its cookie with this ID until then.
    Give(String, OffsetDateTime),
}

impl Plan<'_> {
    /// Adds what a further event brings.
    pub fn add(&mut self, observed: &ObservedIds) {
        for (record, value) in &observed.clicks {
            if self.is_granted(&record.need) {
                self.clicks.insert(record.field, (*record, value.clone()));
            }
        }
    }

    /// The click IDs to store.
    pub fn new_clicks(&self) -> Vec<NewId> {
        let new = self.clicks.values().map(|(record, value)| NewId {
            record: IdRecord::Click(record),
            value: value.clone(),
            is_made: false,
            expires_at: self.now + Duration::days(i64::from(record.days)),
        });
        let is_new =
            |new: &NewId| new_id::decide(self.stored(new.record.field()), new, self.now) == Decision::Replace;
        new.filter(is_new).collect()
    }

    /// Plans a generated ID. `cookie` is the vendor's, where it is there: one that can't be read stays as it is; `labels` see [`super::cookies::labels`].
    pub fn generated(
        &self,
        record: &'static GeneratedId,
        cookie: Option<&str>,
        labels: usize,
        random: Random,
    ) -> Option<Step> {
        let seen = match cookie.map(|text| record.format.read(text)) {
            Some(Reading::Unreadable) => return None,
            Some(Reading::Id(id)) => Some(id),
            Some(Reading::Junk) | None => None,
        };
        let stored = self.stored(record.field);
        // Mostly there is nothing to do, and then consent, which may be a string to read, is not asked.
        if self.is_settled(record, seen, stored) || !self.is_granted(&record.need) {
            return None;
        }
        let Some(new) = self.candidate(record, seen, labels, random) else {
            // No click and no cookie: what was lost comes back.
            let own = stored.filter(|stored| stored.generated)?;
            return Some(Step::Give(own.value.clone(), own.expires_at));
        };
        match (new_id::decide(stored, &new, self.now), stored) {
            (Decision::Replace, _) => Some(Step::Store(new)),
            (Decision::KeepOwn, Some(stored)) if seen != Some(&stored.value) => {
                Some(Step::Give(stored.value.clone(), stored.expires_at))
            }
            _ => None,
        }
    }

    /// True where nothing comes of a generated ID, whatever the consent: the cookie has what is stored, or it takes a click
    /// and there was none.
    fn is_settled(&self, record: &GeneratedId, seen: Option<&str>, stored: Option<&StoredId>) -> bool {
        match (seen, stored) {
            _ if record.format == Format::Fbc && self.clicks.contains_key("fbclid") => false,
            (Some(seen), Some(stored)) => seen == stored.value,
            (None, None) => record.format == Format::Fbc,
            _ => false,
        }
    }

    /// The ID that this browser should have: its cookie's, unless there was another click; else a new one.
    fn candidate(
        &self,
        record: &'static GeneratedId,
        seen: Option<&str>,
        labels: usize,
        random: Random,
    ) -> Option<NewId> {
        let click =
            self.clicks.get("fbclid").filter(|_| record.format == Format::Fbc).map(|(_, value)| value);
        let clicked = || click.and_then(|click| cookie_format::fbc(click, labels, self.now));
        let seen = seen.filter(|seen| clicked().is_none_or(|made| record.format.same_click(seen, &made)));
        let made = || record.format.make(random, labels, self.now).or_else(clicked);
        let (value, is_made) =
            seen.map(|seen| (seen.to_owned(), false)).or_else(|| made().map(|id| (id, true)))?;
        let expires_at = record.format.expires(&value, record.days, self.now)?;
        Some(NewId { record: IdRecord::Generated(record), value, is_made, expires_at })
    }

    fn is_granted(&self, need: &ConsentNeed) -> bool {
        self.signals.decide(need, self.rule, self.now) == consent::Decision::Granted
    }

    fn stored(&self, field: &str) -> Option<&StoredId> {
        self.stored.get(field).filter(|stored| stored.expires_at > self.now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use time::macros::datetime;

    use super::*;
    use crate::{first_party_ids::click::Page, vendors};

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);

    static GRANTED: LazyLock<Signals> =
        LazyLock::new(|| Signals::parse(Some(r#"{"marketing":true,"analytics":true}"#), false));

    fn record(field: &str) -> &'static GeneratedId {
        vendors::generated_ids().find(|record| record.field == field).unwrap()
    }

    fn plan<'a>(stored: &'a StoredIds, url: &str) -> Plan<'a> {
        let (signals, rule) = (&*GRANTED, &ConsentRule::NONE);
        let mut plan = Plan { stored, signals, rule, clicks: BTreeMap::new(), now: NOW };
        let all: Vec<&ClickId> = vendors::click_ids().collect();
        plan.add(&ObservedIds {
            clicks: Page { url, ..Page::default() }.clicks(&all),
            ..ObservedIds::default()
        });
        plan
    }

    fn fields(field: &str, value: &str, generated: bool) -> StoredIds {
        let id = StoredId { value: value.to_owned(), generated, expires_at: NOW + Duration::days(9) };
        StoredIds::from([(field.to_owned(), id)])
    }

    /// The step taken, in a word, and the ID.
    fn done(plan: &Plan<'_>, field: &str, cookie: Option<&str>) -> Option<(&'static str, String)> {
        plan.generated(record(field), cookie, 2, [7; 32]).map(|step| match step {
            Step::Store(new) => (if new.is_made { "made" } else { "seen" }, new.value),
            Step::Give(id, _) => ("given", id),
        })
    }

    const A: &str = "fb.1.1795000000000.1";
    const B: &str = "fb.1.1795000000000.2";
    const MADE: &str = "fb.1.1795255200000.117901063";

    #[test]
    fn a_cookie_wins_over_making_and_a_lost_one_comes_back() {
        let nothing = StoredIds::new();
        assert_eq!(done(&plan(&nothing, ""), "fbp", None), Some(("made", MADE.to_owned())));
        assert_eq!(done(&plan(&nothing, ""), "fbp", Some(A)), Some(("seen", A.to_owned())));
        assert_eq!(done(&plan(&nothing, ""), "fbp", Some("deleted")), Some(("made", MADE.to_owned())));
        assert_eq!(done(&plan(&nothing, ""), "fbp", Some("fb.1.x.y")), None, "it may be the vendor's");
        assert_eq!(done(&plan(&fields("fbp", A, true), ""), "fbp", Some("fb.1.x.y")), None);
        let own = fields("fbp", A, true);
        assert_eq!(done(&plan(&own, ""), "fbp", None), Some(("given", A.to_owned())));
        assert_eq!(done(&plan(&own, ""), "fbp", Some(A)), None);
        assert_eq!(done(&plan(&own, ""), "fbp", Some(B)), Some(("seen", B.to_owned())));
        let ga = fields("client_id", "1.2", true);
        assert_eq!(done(&plan(&ga, ""), "client_id", Some("GA1.2.1.2")), None);
    }

    #[test]
    fn what_the_vendor_has_said_itself_stays() {
        let vendors = fields("sc_cookie1", "from-a-sync", false);
        assert_eq!(done(&plan(&vendors, ""), "sc_cookie1", None), None);
    }

    #[test]
    fn an_fbc_is_made_of_a_click_alone_and_once() {
        let (nothing, of) = (StoredIds::new(), |ms: i64, click: &str| format!("fb.1.{ms}.{click}"));
        let (now, before) = (1_795_255_200_000, 1_795_255_100_000);
        assert_eq!(done(&plan(&nothing, "/?fbclid=no%20token"), "fbc", None), None);
        assert_eq!(done(&plan(&nothing, "/"), "fbc", None), None);
        let page = plan(&nothing, "/?fbclid=one");
        assert_eq!(done(&page, "fbc", None), Some(("made", of(now, "one"))));
        assert_eq!(done(&page, "fbc", Some(&of(before, "one"))), Some(("seen", of(before, "one"))));
        assert_eq!(done(&page, "fbc", Some(&of(before, "two"))), Some(("made", of(now, "one"))));
        let own = fields("fbc", &of(before, "one"), true);
        let page = plan(&own, "/?fbclid=one");
        assert_eq!(done(&page, "fbc", None), Some(("given", of(before, "one"))));
        assert_eq!(done(&page, "fbc", Some(&of(before, "one"))), None);
        assert_eq!(done(&plan(&own, "/?fbclid=two"), "fbc", None), Some(("made", of(now, "two"))));
    }

    #[test]
    fn without_consent_there_is_nothing() {
        let held = fields("fbp", A, true);
        let mut denied = plan(&held, "");
        let signals = Signals::parse(Some(r#"{"marketing":false,"analytics":true}"#), false);
        denied.signals = &signals;
        denied.add(&ObservedIds {
            clicks: Page { url: "/?gclid=1", ..Page::default() }
                .clicks(&[vendors::click_ids().find(|record| record.field == "gclid").unwrap()]),
            ..ObservedIds::default()
        });
        assert!(denied.new_clicks().is_empty());
        assert_eq!(done(&denied, "fbp", None), None);
        assert!(done(&denied, "client_id", None).is_some(), "another category");
    }
}
