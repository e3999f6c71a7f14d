//! Storing collected IDs of one browser, or of one user without a browser.

use std::sync::Arc;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    consent::{ConsentRule, Decision},
    identifiers::{Identifier, Kind},
    storage::{
        cache_entries::ConsentEntry,
        postgres::rows::{Owner, VendorIdRow},
    },
    vendor_ids::{
        ledger::Ledger,
        new_id::{self, NewId},
        writer::Write,
    },
};

/// IDs that a browser or user brought, or that were made for a browser.
#[derive(Debug)]
pub struct NewCollected {
    /// The browser, or the user of a signed call that named no browser.
    pub owner: Identifier,
    /// The event's own consent signals, which count for a user: only browsers have stored ones.
    pub signals: ConsentEntry,
    /// The pipeline that collects them.
    pub pipeline: Uuid,
    /// The rule by which its pipeline reads consent.
    pub rule: Arc<ConsentRule>,
    /// The IDs, no field twice.
    pub ids: Vec<NewId>,
    /// Time of the event.
    pub now: OffsetDateTime,
}

/// The fate of one ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The ID is stored.
    Stored,
    /// The browser's own was stored a moment ago, and stays: this one, until then.
    Kept(String, OffsetDateTime),
    /// The ID was left alone.
    Left,
}

impl Write for NewCollected {
    /// The fate of each ID, in their order.
    type Output = Vec<Fate>;

    fn owner(&self) -> &Identifier {
        &self.owner
    }

    fn now(&self) -> OffsetDateTime {
        self.now
    }

    fn needs_stored_ids(&self) -> bool {
        true
    }

    /// Stores the IDs that count, and tells what became of each.
    fn decide(&self, ledger: &mut Ledger) -> Vec<Fate> {
        let Some(canonical) = ledger.root(&self.owner) else {
            return vec![Fate::Left; self.ids.len()];
        };
        // Withdrawn between the event and now, or unseen by Redis.
        let consent = match self.owner.kind {
            Kind::AnonymousId => ledger.consent(&self.owner.value),
            Kind::UserId => self.signals.clone(),
        };
        let granted = |id: &NewId| {
            consent.signals().decide(&id.record.need(), &self.rule, self.now) == Decision::Granted
        };
        let fates = self
            .ids
            .iter()
            .map(|id| if granted(id) { self.store(ledger, canonical, id) } else { Fate::Left });
        fates.collect()
    }
}

impl NewCollected {
    /// Stores one ID whose consent is granted, if it takes the place of what is stored.
    fn store(&self, ledger: &mut Ledger, canonical: Uuid, id: &NewId) -> Fate {
        let field = id.record.field();
        let owner = Owner::of(&self.owner);
        let stored = ledger.stored(canonical, field, &owner);
        match (new_id::decide(stored.as_deref(), id, self.now), stored) {
            (new_id::Decision::KeepOwn, Some(stored)) => {
                return Fate::Kept(stored.value.clone(), stored.expires_at);
            }
            (new_id::Decision::KeepOwn | new_id::Decision::Ignore, _) => return Fate::Left,
            (new_id::Decision::Replace, _) => {}
        }
        let row = VendorIdRow {
            canonical_id: canonical,
            field: field.to_owned(),
            owner,
            value: id.value.clone(),
            source: id.record.source().to_owned(),
            collected_at: self.now,
            expires_at: id.expires_at,
            pipeline_id: Some(self.pipeline),
            is_withheld: false,
        };
        ledger.store(row);
        Fate::Stored
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use time::{Duration, macros::datetime};

    use super::*;
    use crate::{
        storage::{cache_entries, postgres::rows::ConsentRow},
        vendor_ids::new_id::IdRecord,
        vendors,
    };

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);

    fn browser() -> Identifier {
        Identifier { kind: Kind::AnonymousId, value: "a".to_owned() }
    }

    fn made(value: &str) -> NewCollected {
        let id = NewId {
            record: IdRecord::Generated(vendors::generated_ids().next().unwrap()),
            value: value.to_owned(),
            is_made: true,
            expires_at: NOW + Duration::days(90),
        };
        NewCollected {
            owner: browser(),
            signals: cache_entries::consent_entry(None),
            pipeline: Uuid::nil(),
            rule: Arc::new(ConsentRule { mode: crate::consent::ConsentMode::Implicit, mapping: None }),
            ids: vec![id],
            now: NOW,
        }
    }

    fn ledger() -> Ledger {
        Ledger { roots: HashMap::from([(browser(), Uuid::nil())]), ..Ledger::default() }
    }

    #[test]
    fn of_two_requests_that_make_one_the_first_counts_for_both() {
        let mut ledger = ledger();
        assert_eq!(made("x").decide(&mut ledger), [Fate::Stored]);
        assert_eq!(made("y").decide(&mut ledger), [Fate::Kept("x".to_owned(), NOW + Duration::days(90))]);
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
        ledger.consents.insert("a".to_owned(), cache_entries::consent_entry(Some(&row)));
        assert_eq!(made("x").decide(&mut ledger), [Fate::Left]);
        let unreadable = ConsentRow { signals: Some("not json".to_owned()), ..row };
        ledger.consents.insert("a".to_owned(), cache_entries::consent_entry(Some(&unreadable)));
        assert_eq!(made("x").decide(&mut ledger), [Fate::Left]);
        assert!(ledger.new_ids.is_empty());
        assert_eq!(made("x").decide(&mut Ledger::default()), [Fate::Left], "nobody");
    }

    #[test]
    fn of_a_user_without_a_browser_the_event_s_own_signals_count() {
        let user = Identifier { kind: Kind::UserId, value: "u".to_owned() };
        let mut ledger = Ledger { roots: HashMap::from([(user.clone(), Uuid::nil())]), ..Ledger::default() };
        let new = |signals| NewCollected {
            owner: user.clone(),
            signals,
            rule: Arc::new(ConsentRule::NONE),
            ..made("x")
        };
        assert_eq!(new(cache_entries::consent_entry(None)).decide(&mut ledger), [Fate::Left]);
        let row = ConsentRow {
            anonymous_id: String::new(),
            signals: Some(r#"{"marketing":true,"analytics":true}"#.to_owned()),
            sec_gpc: false,
            updated_at: NOW,
        };
        assert_eq!(new(cache_entries::consent_entry(Some(&row))).decide(&mut ledger), [Fate::Stored]);
        assert_eq!(ledger.new_ids.values().next().unwrap().owner.user_id(), Some("u"));
    }
}
