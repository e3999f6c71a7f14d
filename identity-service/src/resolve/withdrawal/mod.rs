//! Consent that is withdrawn, where a pipeline has `purge_on_withdrawal`: the IDs that it collected from the
//! browser go, in the transaction that stores the new signals.

mod purge;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use time::OffsetDateTime;
use uuid::Uuid;

pub use self::purge::Purged;
use crate::{
    consent::Signals,
    settings::Source,
    storage::postgres::rows::{ConsentRow, Owner, VendorIdRow},
    vendor_ids::{schedules, ties::Ties},
    vendors::{self, ConsentNeed, owner_of},
};

/// A browser whose new signals refuse what its earlier ones did not.
struct Withdrawal<'a> {
    browser: &'a str,
    at: OffsetDateTime,
    /// Pipelines, each with a need that it refuses now.
    denied: Vec<(&'a Source, ConsentNeed)>,
}

/// Withdrawals that a set of new signals makes, by the root of the browser's canonical identity.
#[derive(Default)]
pub struct Withdrawals<'a>(BTreeMap<Uuid, Vec<Withdrawal<'a>>>);

impl Withdrawal<'_> {
    /// True where the withdrawal takes this ID of the person's: its pipeline denies what it granted, and this
    /// browser brought it. What is nobody's goes with any browser's withdrawal, but where others are tied by a proof
    /// not with that of one that is not.
    fn takes(&self, row: &VendorIdRow, ties: &Ties) -> bool {
        let (_, need) = owner_of(&row.field);
        let collected = |source: &Source| row.pipeline_id.is_none_or(|id| id == source.pipeline);
        let owner = &row.owner;
        let counts_for_nobody = *owner == Owner::NOBODY && !schedules::is_alone(ties, self.browser);
        (counts_for_nobody || owner.anonymous_id() == Some(self.browser))
            && self.denied.iter().any(|(source, denied)| *denied == need && collected(source))
    }

    /// Vendors whose gateway sync is denied now.
    fn vendors(&self) -> impl Iterator<Item = &'static str> {
        self.denied.iter().flat_map(|(source, denied)| {
            let own = source.vendors.iter().map(|enabled| enabled.vendor);
            own.filter(|vendor| vendor.need == *denied).map(|vendor| vendor.name)
        })
    }
}

impl<'a> Withdrawals<'a> {
    /// Compares the signals of browsers `before` and `after`, as `sources` decide. Browsers that are not in
    /// `roots` have brought nothing.
    pub fn find(
        sources: &'a [Arc<Source>],
        roots: &HashMap<String, Uuid>,
        before: &[ConsentRow],
        after: &'a [ConsentRow],
    ) -> Self {
        let before: HashMap<&str, &ConsentRow> =
            before.iter().map(|row| (row.anonymous_id.as_str(), row)).collect();
        let needs = vendors::needs();
        let mut found: BTreeMap<Uuid, Vec<Withdrawal<'_>>> = BTreeMap::new();
        for row in after {
            let Some(root) = roots.get(&row.anonymous_id) else { continue };
            let earlier = before.get(row.anonymous_id.as_str()).copied();
            let (earlier, now) = (signals(earlier), signals(Some(row)));
            let pairs = sources.iter().flat_map(|source| needs.iter().map(|need| (source.as_ref(), *need)));
            let denied: Vec<_> = pairs
                .filter(|(source, need)| {
                    // What the visitor has not said, or what can't be read, takes nothing away.
                    !earlier.refuses(need, &source.consent, row.updated_at)
                        && now.refuses(need, &source.consent, row.updated_at)
                })
                .collect();
            if !denied.is_empty() {
                let own = Withdrawal { browser: &row.anonymous_id, at: row.updated_at, denied };
                found.entry(*root).or_default().push(own);
            }
        }
        Self(found)
    }

    /// True where a browser withdraws its consent to this ID.
    fn takes(&self, row: &VendorIdRow, ties: &Ties) -> bool {
        let own = self.0.get(&row.canonical_id);
        own.is_some_and(|own| own.iter().any(|withdrawal| withdrawal.takes(row, ties)))
    }
}

fn signals(row: Option<&ConsentRow>) -> Signals {
    let json = row.and_then(|row| row.signals.as_deref());
    Signals::parse(json, row.is_some_and(|row| row.sec_gpc))
}
