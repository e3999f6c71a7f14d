//! Storing an ID that a provider gave, for the browser or user it was asked for.

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
    vendor_ids::{ledger::Ledger, writer::Write},
    vendors::ConsentNeed,
};

/// An ID that is to be stored.
#[derive(Debug, Clone)]
pub struct EnrichedId {
    /// The browser or user.
    pub owner: Identifier,
    /// The canonical identity that was asked about.
    pub canonical: Uuid,
    /// Signals of the call, for a user without a browser.
    pub consent: ConsentEntry,
    /// True where `Sec-GPC: 1` came with the call.
    pub sec_gpc: bool,
    /// Field of the identity.
    pub field: String,
    /// The ID; none where the person has opted out, and what is stored ends.
    pub value: Option<String>,
    /// Time of the provider's answer.
    pub collected_at: OffsetDateTime,
    /// Time until which it is good.
    pub expires_at: OffsetDateTime,
    /// The consent that it needs.
    pub need: ConsentNeed,
    /// The rule by which consent is read.
    pub rule: Arc<ConsentRule>,
    /// The pipeline of the source.
    pub pipeline: Uuid,
    /// Time of the call.
    pub now: OffsetDateTime,
}

/// What became of an ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is stored.
    Yes,
    /// Consent was withdrawn while the provider was asked.
    Denied,
    /// The owner is not this identity's any more: merged, moved or erased while the provider was asked.
    Moved,
}

impl Write for EnrichedId {
    type Output = Stored;

    fn owner(&self) -> &Identifier {
        &self.owner
    }

    fn now(&self) -> OffsetDateTime {
        self.now
    }

    fn needs_stored_ids(&self) -> bool {
        self.value.is_none()
    }

    fn decide(&self, ledger: &mut Ledger) -> Stored {
        if ledger.root(&self.owner) != Some(self.canonical) {
            return Stored::Moved;
        }
        let owner = Owner::of(&self.owner);
        let Some(value) = self.value.clone() else {
            let stored = ledger.stored(self.canonical, &self.field, &owner);
            let living =
                stored.filter(|stored| stored.expires_at > self.now).map(|stored| stored.value.clone());
            if let Some(value) = living {
                ledger.store(self.row(owner, value, self.now));
            }
            return Stored::Yes;
        };
        let consent = match self.owner.kind {
            Kind::AnonymousId => ledger.consent(&self.owner.value).with_gpc(self.sec_gpc),
            Kind::UserId => self.consent.clone(),
        };
        if consent.signals().decide(&self.need, &self.rule, self.now) == Decision::Denied {
            return Stored::Denied;
        }
        ledger.store(self.row(owner, value, self.expires_at));
        Stored::Yes
    }
}

impl EnrichedId {
    fn row(&self, owner: Owner, value: String, expires_at: OffsetDateTime) -> VendorIdRow {
        VendorIdRow {
            canonical_id: self.canonical,
            field: self.field.clone(),
            owner,
            value,
            source: "enrichment".to_owned(),
            collected_at: self.collected_at,
            expires_at,
            pipeline_id: Some(self.pipeline),
            is_withheld: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{consent::ConsentMode, storage::cache_entries};

    #[test]
    fn an_id_is_stored_for_whom_it_was_asked_and_with_their_consent() {
        let owner = Identifier { kind: Kind::AnonymousId, value: "a".to_owned() };
        let id = EnrichedId {
            owner: owner.clone(),
            canonical: Uuid::max(),
            consent: cache_entries::consent_entry(None),
            sec_gpc: false,
            field: "ramp_id".to_owned(),
            value: Some("x".to_owned()),
            collected_at: OffsetDateTime::UNIX_EPOCH,
            expires_at: OffsetDateTime::UNIX_EPOCH + time::Duration::DAY,
            need: ConsentNeed::MARKETING,
            rule: Arc::new(ConsentRule { mode: ConsentMode::Implicit, mapping: None }),
            pipeline: Uuid::nil(),
            now: OffsetDateTime::UNIX_EPOCH,
        };
        let ledger = |root| Ledger { roots: HashMap::from([(owner.clone(), root)]), ..Ledger::default() };
        let mut own = ledger(Uuid::max());
        assert_eq!(id.decide(&mut own), Stored::Yes);
        assert_eq!(own.new_ids.len(), 1);
        let opted_out = EnrichedId { value: None, ..id.clone() };
        assert_eq!(opted_out.decide(&mut own), Stored::Yes);
        assert_eq!(own.new_ids.values().next().unwrap().expires_at, id.now, "it has ended");
        let denied = EnrichedId { sec_gpc: true, ..id.clone() };
        for (id, mut ledger, expected) in [
            (&denied, ledger(Uuid::max()), Stored::Denied),
            (&id, ledger(Uuid::nil()), Stored::Moved),
            (&id, Ledger::default(), Stored::Moved),
        ] {
            assert_eq!(id.decide(&mut ledger), expected);
            assert!(ledger.new_ids.is_empty());
        }
    }
}
