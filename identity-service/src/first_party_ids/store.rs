//! Storing collected IDs, in the transactions that store syncs.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::vendor_ids::{
    precedence::{NewId, Verdict, judge},
    stored::Held,
};
use crate::{
    consent::{Decision, decide},
    settings::ConsentMode,
    storage::{cache_entries, postgres::rows::VendorIdRow},
    vendor_ids::ledger::Ledger,
};

/// What a browser brought, or was made for it.
#[derive(Debug)]
pub struct NewCollected {
    /// The browser.
    pub anonymous_id: String,
    /// Where it was.
    pub pipeline: Uuid,
    /// What the absence of consent means.
    pub mode: ConsentMode,
    /// No field twice.
    pub ids: Vec<NewId>,
    /// When.
    pub now: OffsetDateTime,
}

/// What became of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is stored.
    Stored,
    /// The browser's own was stored a moment ago, and stays: this one, until then.
    Kept(String, OffsetDateTime),
    /// Nothing was done about it.
    Left,
}

impl Ledger {
    /// Stores what counts of `new`, and tells what became of each.
    pub fn collected(&mut self, new: &NewCollected) -> Vec<Fate> {
        let Some(canonical) = self.roots.get(&new.anonymous_id).copied() else {
            return vec![Fate::Left; new.ids.len()];
        };
        let mark = cache_entries::mark(&new.anonymous_id);
        let fate = |id: &NewId| {
            // Withdrawn between the event and now, or unseen by Redis.
            let row = self.consents.get(&new.anonymous_id);
            let signals = row.and_then(|row| row.signals.as_deref());
            let sec_gpc = row.is_some_and(|row| row.sec_gpc);
            if decide(signals, sec_gpc, id.record.category(), new.mode) == Decision::Denied {
                return Fate::Left;
            }
            let field = id.record.field();
            let newer = self.new_ids.get(&(canonical, field)).map(Held::of_row);
            let held = newer.as_ref().or_else(|| self.held.get(&canonical)?.get(field));
            match (judge(held, id, &mark, new.now), held) {
                (Verdict::Keep, Some(held)) => return Fate::Kept(held.value.clone(), held.expires_at),
                (Verdict::Keep | Verdict::Leave, _) => return Fate::Left,
                (Verdict::Store, _) => {}
            }
            let row = VendorIdRow {
                canonical_id: canonical,
                field: field.to_owned(),
                value: id.value.clone(),
                source: id.record.source().to_owned(),
                collected_at: new.now,
                expires_at: id.expires_at,
                anonymous_id: Some(new.anonymous_id.clone()),
                pipeline_id: Some(new.pipeline),
            };
            self.new_ids.insert((canonical, field), row);
            Fate::Stored
        };
        new.ids.iter().map(fate).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use time::{Duration, macros::datetime};

    use super::*;
    use crate::{
        storage::postgres::rows::ConsentRow, vendor_ids::precedence::Record,
        vendors::generated::GENERATED_IDS,
    };

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);

    fn made(value: &str) -> NewCollected {
        let id = NewId {
            record: Record::Generated(GENERATED_IDS.first().unwrap()),
            value: value.to_owned(),
            is_made: true,
            expires_at: NOW + Duration::days(90),
        };
        NewCollected {
            anonymous_id: "a".to_owned(),
            pipeline: Uuid::nil(),
            mode: ConsentMode::Implicit,
            ids: vec![id],
            now: NOW,
        }
    }

    fn ledger() -> Ledger {
        Ledger { roots: HashMap::from([("a".to_owned(), Uuid::nil())]), ..Ledger::default() }
    }

    #[test]
    fn of_two_requests_that_make_one_the_first_counts_for_both() {
        let mut ledger = ledger();
        assert_eq!(ledger.collected(&made("x")), [Fate::Stored]);
        assert_eq!(ledger.collected(&made("y")), [Fate::Kept("x".to_owned(), NOW + Duration::days(90))]);
        let stored: Vec<_> = ledger.new_ids.values().map(|row| row.value.as_str()).collect();
        assert_eq!(stored, ["x"]);
    }

    #[test]
    fn consent_is_asked_of_the_truth_once_more() {
        let mut ledger = ledger();
        let row = ConsentRow {
            anonymous_id: "a".to_owned(),
            signals: Some(r#"{"marketing":false}"#.to_owned()),
            sec_gpc: false,
            updated_at: NOW,
        };
        ledger.consents.insert("a".to_owned(), row);
        assert_eq!(ledger.collected(&made("x")), [Fate::Left]);
        assert!(ledger.new_ids.is_empty());
        assert_eq!(Ledger::default().collected(&made("x")), [Fate::Left], "nobody");
    }
}
