//! Consent that is withdrawn, where a pipeline has `purge_on_withdrawal`: the IDs that it collected from the browser go,
//! in the transaction that stores the new signals.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    consent::{Decision, decide, fields},
    error::Result,
    settings::Source,
    storage::{
        entries,
        postgres::{
            history,
            rows::{ConsentRow, VendorIdRow},
            syncs, vendor_ids,
        },
        redis::protocol::Entry,
    },
    sync::ledger::Pair,
};

/// A browser whose new signals deny what its earlier ones granted.
struct Withdrawal<'a> {
    browser: &'a str,
    at: OffsetDateTime,
    /// Pipelines, and what each of them denies now.
    denied: Vec<(&'a Source, &'static str)>,
}

/// All that new signals withdraw, by the root of the browser's canonical identity.
#[derive(Default)]
pub struct Withdrawals<'a>(BTreeMap<Uuid, Vec<Withdrawal<'a>>>);

/// What was removed.
#[derive(Debug, Default)]
pub struct Purged {
    /// How many IDs, by vendor.
    pub ids: BTreeMap<&'static str, u64>,
    /// The canonical identities that had them.
    pub canonicals: Vec<Uuid>,
    /// Vendors that are to be offered again at once, when consent is back.
    pub offers: BTreeMap<Uuid, BTreeSet<&'static str>>,
}

impl Withdrawal<'_> {
    /// Whether it concerns an ID of this person: its pipeline denies what it granted, and this browser brought it. What
    /// nobody is known to have brought goes with anybody's withdrawal.
    fn takes(&self, row: &VendorIdRow) -> bool {
        let (_, category) = fields::owner(&row.field);
        let collected = |source: &Source| row.pipeline_id.is_none_or(|id| id == source.pipeline);
        row.anonymous_id.as_deref().is_none_or(|browser| browser == self.browser)
            && self.denied.iter().any(|(source, denied)| *denied == category && collected(source))
    }

    /// Vendors whose gateway sync is denied now.
    fn vendors(&self) -> impl Iterator<Item = &'static str> {
        self.denied.iter().flat_map(|(source, denied)| {
            let own = source.vendors.iter().map(|enabled| enabled.vendor);
            own.filter(|vendor| vendor.category == *denied).map(|vendor| vendor.name)
        })
    }
}

impl<'a> Withdrawals<'a> {
    /// Compares the signals of browsers `before` and `after`, as `sources` decide. Browsers that are not in `roots` have
    /// brought nothing.
    pub fn find(
        sources: &'a [Arc<Source>],
        roots: &HashMap<String, Uuid>,
        before: &[ConsentRow],
        after: &'a [ConsentRow],
    ) -> Self {
        let before: HashMap<&str, &ConsentRow> =
            before.iter().map(|row| (row.anonymous_id.as_str(), row)).collect();
        let categories = fields::categories();
        let mut found: BTreeMap<Uuid, Vec<Withdrawal<'_>>> = BTreeMap::new();
        for row in after {
            let Some(root) = roots.get(&row.anonymous_id) else { continue };
            let earlier = before.get(row.anonymous_id.as_str()).copied();
            let pairs = sources.iter().flat_map(|source| categories.iter().map(|it| (source.as_ref(), *it)));
            let denied: Vec<_> = pairs
                .filter(|(source, category)| {
                    is_granted(earlier, source, category) && !is_granted(Some(row), source, category)
                })
                .collect();
            if !denied.is_empty() {
                let own = Withdrawal { browser: &row.anonymous_id, at: row.updated_at, denied };
                found.entry(*root).or_default().push(own);
            }
        }
        Self(found)
    }

    /// Removes what is withdrawn, also from what merges have moved, so that taking one apart brings nothing back. The
    /// roots are locked. Returns the `syncs:` entries that have changed; the vendor IDs are the caller's to read anew.
    pub async fn purge(&self, connection: &mut AsyncPgConnection, org: Uuid) -> Result<(Purged, Vec<Entry>)> {
        let mut purged = Purged::default();
        if self.0.is_empty() {
            return Ok((purged, Vec::new()));
        }
        let roots: Vec<Uuid> = self.0.keys().copied().collect();
        let (gone, kept): (Vec<VendorIdRow>, Vec<VendorIdRow>) =
            vendor_ids::find(connection, org, &roots).await?.into_iter().partition(|row| self.take(row));
        if !gone.is_empty() {
            let fields: Vec<_> = gone.iter().map(|row| (row.canonical_id, row.field.as_str())).collect();
            vendor_ids::remove(connection, org, &fields).await?;
        }
        for row in &gone {
            *purged.ids.entry(fields::owner(&row.field).0).or_default() += 1;
        }
        let canonicals: BTreeSet<Uuid> = gone.iter().map(|row| row.canonical_id).collect();
        purged.canonicals = canonicals.into_iter().collect();
        for (root, own) in &self.0 {
            purged.offers.insert(*root, own.iter().flat_map(Withdrawal::vendors).collect());
        }
        let entries = self.end_syncs(connection, org, &roots, &gone).await?;
        self.correct_history(connection, org, &roots, &kept).await?;
        Ok((purged, entries))
    }

    fn take(&self, row: &VendorIdRow) -> bool {
        self.0.get(&row.canonical_id).is_some_and(|own| own.iter().any(|withdrawal| withdrawal.takes(row)))
    }

    /// Forgets the schedules of syncs whose IDs are `gone`, and lets no state count that a browser was sent off with.
    /// How often a vendor has not answered stays: consent that comes and goes must not send a browser there each time.
    async fn end_syncs(
        &self,
        connection: &mut AsyncPgConnection,
        org: Uuid,
        roots: &[Uuid],
        gone: &[VendorIdRow],
    ) -> Result<Vec<Entry>> {
        let mut attempts = syncs::find(connection, org, roots).await?;
        let mut states: BTreeMap<Pair, OffsetDateTime> = BTreeMap::new();
        for (root, own) in &self.0 {
            let Some(tried) = attempts.get(root) else { continue };
            for withdrawal in own {
                for vendor in withdrawal.vendors().filter(|vendor| tried.contains_key(*vendor)) {
                    states.insert((withdrawal.browser.to_owned(), vendor.to_owned()), withdrawal.at);
                }
            }
        }
        if !states.is_empty() {
            syncs::use_states(connection, org, &states).await?;
        }
        let ended = gone.iter().filter_map(|row| Some((row.canonical_id, fields::synced_by(row)?)));
        let ended: Vec<(Uuid, &str)> = ended.collect();
        if ended.is_empty() {
            return Ok(Vec::new());
        }
        syncs::remove(connection, org, &ended).await?;
        let mut changed = BTreeSet::new();
        for (root, vendor) in ended {
            attempts.entry(root).or_default().remove(vendor);
            changed.insert(root);
        }
        let entry = |root: Uuid| Some(entries::syncs(org, root, attempts.get(&root)?));
        Ok(changed.into_iter().filter_map(entry).collect())
    }

    /// The history knows no browsers. What is not `kept` goes from it.
    async fn correct_history(
        &self,
        connection: &mut AsyncPgConnection,
        org: Uuid,
        roots: &[Uuid],
        kept: &[VendorIdRow],
    ) -> Result<()> {
        let all = history::all_of(connection, org, roots).await?;
        let ids: Vec<Uuid> = all.keys().copied().collect();
        for merge in history::among(connection, org, &ids).await? {
            let ends: BTreeSet<Uuid> =
                [merge.survivor_id, merge.merged_id].iter().filter_map(|id| all.get(id)).copied().collect();
            let own = || ends.iter().filter_map(|root| self.0.get(root)).flatten();
            let mut moved = merge.moved();
            moved.forget(|row| {
                let mut still = kept.iter().filter(|live| ends.contains(&live.canonical_id));
                own().any(|withdrawal| withdrawal.takes(row)) && !still.any(|live| live.is_same(row))
            });
            if moved != merge.moved() {
                history::correct(connection, org, merge.id, &moved).await?;
            }
        }
        Ok(())
    }
}

fn is_granted(row: Option<&ConsentRow>, source: &Source, category: &str) -> bool {
    let signals = row.and_then(|row| row.signals.as_deref());
    let sec_gpc = row.is_some_and(|row| row.sec_gpc);
    decide(signals, sec_gpc, category, source.consent_mode) == Decision::Granted
}
