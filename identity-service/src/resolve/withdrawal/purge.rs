//! Removing what is withdrawn, wherever it is stored.

use std::collections::{BTreeMap, BTreeSet};

use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Withdrawal, Withdrawals};
use crate::{
    error::Result,
    storage::{
        cache_entries,
        postgres::{
            clusters::Moved,
            history,
            rows::{BrowserAndVendor, VendorIdRow},
            syncs, vendor_ids,
        },
        redis::protocol::Entry,
    },
    vendors::{owner_of, synced_by},
};

/// The removed IDs, counted, and what else has to follow from their removal.
#[derive(Debug, Default)]
pub struct Purged {
    /// Number of IDs that were removed, by vendor.
    pub ids: BTreeMap<&'static str, u64>,
    /// Canonical identities that the removed IDs belonged to.
    pub canonicals: Vec<Uuid>,
    /// Vendors that are to be offered again at once, when consent is back.
    pub offers: BTreeMap<Uuid, BTreeSet<&'static str>>,
}

impl Withdrawals<'_> {
    /// Removes what is withdrawn, also from what merges have moved, so that taking one apart brings nothing
    /// back. The roots are locked. Returns the `syncs:` entries that have changed; the vendor IDs are the
    /// caller's to read anew.
    pub async fn purge(&self, connection: &mut AsyncPgConnection, org: Uuid) -> Result<(Purged, Vec<Entry>)> {
        let mut purged = Purged::default();
        if self.0.is_empty() {
            return Ok((purged, Vec::new()));
        }
        let roots: Vec<Uuid> = self.0.keys().copied().collect();
        let (gone, kept): (Vec<VendorIdRow>, Vec<VendorIdRow>) =
            vendor_ids::find(connection, org, &roots).await?.into_iter().partition(|row| self.takes(row));
        if !gone.is_empty() {
            let fields: Vec<_> = gone.iter().map(|row| (row.canonical_id, row.field.as_str())).collect();
            vendor_ids::remove(connection, org, &fields).await?;
        }
        for row in &gone {
            *purged.ids.entry(owner_of(&row.field).0).or_default() += 1;
        }
        let canonicals: BTreeSet<Uuid> = gone.iter().map(|row| row.canonical_id).collect();
        purged.canonicals = canonicals.into_iter().collect();
        for (root, own) in &self.0 {
            for vendor in own.iter().flat_map(Withdrawal::vendors) {
                purged.offers.entry(*root).or_default().insert(vendor);
            }
        }
        let entries = self.end_syncs(connection, org, &roots, &gone).await?;
        self.correct_history(connection, org, &roots, &kept).await?;
        Ok((purged, entries))
    }

    /// Forgets the schedules of syncs whose IDs are `gone`, and lets no state count that a browser was sent
    /// off with. How often a vendor has not answered stays: consent that comes and goes must not send a
    /// browser there each time.
    async fn end_syncs(
        &self,
        connection: &mut AsyncPgConnection,
        org: Uuid,
        roots: &[Uuid],
        gone: &[VendorIdRow],
    ) -> Result<Vec<Entry>> {
        let mut attempts = syncs::find(connection, org, roots).await?;
        let mut states: BTreeMap<BrowserAndVendor, OffsetDateTime> = BTreeMap::new();
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
        let ended =
            gone.iter().filter_map(|row| Some((row.canonical_id, synced_by(&row.source, &row.field)?)));
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
        let entry = |root: Uuid| Some(cache_entries::syncs(org, root, attempts.get(&root)?));
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
            forget(&mut moved, |row| {
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

/// Takes out of `moved` vendor IDs that are `gone`, with the schedules of the syncs that brought them.
fn forget(moved: &mut Moved, gone: impl Fn(&VendorIdRow) -> bool) {
    let sides = [
        (&mut moved.vendor_ids, &mut moved.attempts),
        (&mut moved.replaced_ids, &mut moved.replaced_attempts),
    ];
    for (ids, attempts) in sides {
        for row in ids.extract_if(.., |row| gone(row)) {
            if let Some(vendor) = synced_by(&row.source, &row.field) {
                attempts.remove(vendor);
            }
        }
    }
}
