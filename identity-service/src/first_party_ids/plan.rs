//! What is collected for one browser in one request. Pure: what is stored and what came go in.

use std::collections::{BTreeMap, BTreeSet};

use time::{Duration, OffsetDateTime};

use super::{click::ClickId, observed::Brought};
use crate::{
    vendor_ids::{
        precedence::{NewId, Record, Verdict, judge},
        stored::{Fields, Held},
    },
    vendors::{
        cookie_format::{self, Format, Random},
        generated::GeneratedId,
    },
};

/// A browser's part of a request.
pub struct Plan<'a> {
    /// [`crate::storage::entries::mark`] of the browser.
    pub mark: String,
    /// What its identity has.
    pub held: &'a Fields,
    /// Consent categories that are granted.
    pub granted: BTreeSet<&'static str>,
    /// Click IDs that came, the newest of each field.
    pub clicks: BTreeMap<&'static str, (&'static ClickId, String)>,
    /// When.
    pub now: OffsetDateTime,
}

/// What is done about a generated ID.
#[derive(Debug)]
pub enum Step {
    /// It is stored, and the browser given its cookie.
    Store(NewId),
    /// The browser is given its cookie with this ID until then.
    Give(String, OffsetDateTime),
}

impl Plan<'_> {
    /// Adds what a further event brings.
    pub fn add(&mut self, brought: &Brought) {
        let granted = brought.clicks.iter().filter(|(record, _)| self.granted.contains(record.category));
        self.clicks.extend(granted.map(|(record, value)| (record.field, (*record, value.clone()))));
    }

    /// Click IDs to store.
    pub fn new_clicks(&self) -> Vec<NewId> {
        let new = self.clicks.values().map(|(record, value)| NewId {
            record: Record::Click(record),
            value: value.clone(),
            is_made: false,
            expires_at: self.now + Duration::days(i64::from(record.days)),
        });
        let is_new =
            |new: &NewId| judge(self.held(new.record.field()), new, &self.mark, self.now) == Verdict::Store;
        new.filter(is_new).collect()
    }

    /// What becomes of a generated ID. `cookie` is the vendor's, where it holds one; `labels` see [`cookie_format::labels`].
    pub fn generated(
        &self,
        record: &'static GeneratedId,
        cookie: Option<&str>,
        labels: usize,
        random: Random,
    ) -> Option<Step> {
        if !self.granted.contains(record.category) {
            return None;
        }
        let (seen, held) = (cookie.and_then(|text| record.format.read(text)), self.held(record.field));
        let Some(new) = self.candidate(record, seen, labels, random) else {
            // No click and no cookie: what was lost comes back.
            let own = held.filter(|held| held.is_of(&self.mark))?;
            return Some(Step::Give(own.value.clone(), own.expires_at));
        };
        match (judge(held, &new, &self.mark, self.now), held) {
            (Verdict::Store, _) => Some(Step::Store(new)),
            (Verdict::Keep, Some(held)) if seen != Some(&held.value) => {
                Some(Step::Give(held.value.clone(), held.expires_at))
            }
            // Another browser of the person's has its turn; this one gets its own all the same.
            (Verdict::Leave, Some(held)) if new.is_made && held.generated => {
                Some(Step::Give(new.value, new.expires_at))
            }
            _ => None,
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
        Some(NewId { record: Record::Generated(record), value, is_made, expires_at })
    }

    fn held(&self, field: &str) -> Option<&Held> {
        self.held.get(field).filter(|held| held.expires_at > self.now)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::first_party_ids::click::{self, CLICK_IDS};
    use crate::vendors::generated::GENERATED_IDS;

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);

    fn record(field: &str) -> &'static GeneratedId {
        GENERATED_IDS.iter().find(|record| record.field == field).unwrap()
    }

    fn plan<'a>(held: &'a Fields, url: &str) -> Plan<'a> {
        let mark = "own".to_owned();
        let granted = BTreeSet::from(["marketing", "analytics"]);
        let mut plan = Plan { mark, held, granted, clicks: BTreeMap::new(), now: NOW };
        let all: Vec<&ClickId> = CLICK_IDS.iter().collect();
        plan.add(&Brought { clicks: click::of_page(&all, url), ..Brought::default() });
        plan
    }

    fn fields(field: &str, value: &str, by: &str) -> Fields {
        let held = Held {
            value: value.to_owned(),
            generated: !by.is_empty(),
            by: Some(by.to_owned()),
            collected_at: NOW,
            expires_at: NOW + Duration::days(9),
        };
        Fields::from([(field.to_owned(), held)])
    }

    /// What is done, in a word, and the ID.
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
        let nothing = Fields::new();
        assert_eq!(done(&plan(&nothing, ""), "fbp", None), Some(("made", MADE.to_owned())));
        assert_eq!(done(&plan(&nothing, ""), "fbp", Some(A)), Some(("seen", A.to_owned())));
        assert_eq!(done(&plan(&nothing, ""), "fbp", Some("nonsense")), Some(("made", MADE.to_owned())));
        let own = fields("fbp", A, "own");
        assert_eq!(done(&plan(&own, ""), "fbp", None), Some(("given", A.to_owned())));
        assert_eq!(done(&plan(&own, ""), "fbp", Some(A)), None);
        assert_eq!(done(&plan(&own, ""), "fbp", Some(B)), Some(("seen", B.to_owned())));
        let ga = fields("client_id", "1.2", "own");
        assert_eq!(done(&plan(&ga, ""), "client_id", Some("GA1.2.1.2")), None);
    }

    #[test]
    fn a_browser_never_sees_another_s() {
        let others = fields("fbp", A, "other");
        assert_eq!(done(&plan(&others, ""), "fbp", None), Some(("given", MADE.to_owned())));
        assert_eq!(done(&plan(&others, ""), "fbp", Some(B)), None);
        let click = fields("fbc", "fb.1.1795000000000.click", "other");
        assert_eq!(done(&plan(&click, ""), "fbc", None), None);
        let vendors = fields("sc_cookie1", "from-a-sync", "");
        assert_eq!(done(&plan(&vendors, ""), "sc_cookie1", None), None);
    }

    #[test]
    fn an_fbc_is_made_of_a_click_alone_and_once() {
        let (nothing, of) = (Fields::new(), |ms: i64, click: &str| format!("fb.1.{ms}.{click}"));
        let (now, before) = (1_795_255_200_000, 1_795_255_100_000);
        assert_eq!(done(&plan(&nothing, "/?fbclid=no%20token"), "fbc", None), None);
        assert_eq!(done(&plan(&nothing, "/"), "fbc", None), None);
        let page = plan(&nothing, "/?fbclid=one");
        assert_eq!(done(&page, "fbc", None), Some(("made", of(now, "one"))));
        assert_eq!(done(&page, "fbc", Some(&of(before, "one"))), Some(("seen", of(before, "one"))));
        assert_eq!(done(&page, "fbc", Some(&of(before, "two"))), Some(("made", of(now, "one"))));
        let own = fields("fbc", &of(before, "one"), "own");
        let page = plan(&own, "/?fbclid=one");
        assert_eq!(done(&page, "fbc", None), Some(("given", of(before, "one"))));
        assert_eq!(done(&page, "fbc", Some(&of(before, "one"))), None);
        assert_eq!(done(&plan(&own, "/?fbclid=two"), "fbc", None), Some(("made", of(now, "two"))));
    }

    #[test]
    fn without_consent_there_is_nothing() {
        let held = fields("fbp", A, "own");
        let mut denied = plan(&held, "");
        denied.granted = BTreeSet::from(["analytics"]);
        denied.add(&Brought {
            clicks: click::of_page(&[CLICK_IDS.first().unwrap()], "/?gclid=1"),
            ..Brought::default()
        });
        assert!(denied.new_clicks().is_empty());
        assert_eq!(done(&denied, "fbp", None), None);
        assert!(done(&denied, "client_id", None).is_some(), "another category");
    }
}
