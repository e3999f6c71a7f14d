//! Removing what is withdrawn, wherever it is stored.

use std::collections::{BTreeMap, BTreeSet};

use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Withdrawals;
use crate::{
    error::Result,
    storage::{
        mark::Mark,
        postgres::{
            rows::{BrowserAndVendor, VendorIdRow},
            syncs, vendor_ids,
        },
        redis::protocol::Entry,
    },
    sync::view,
    vendor_ids::{
        entries::{Known, KnownByIdentity},
        schedules,
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
    /// Leases that end, so that their vendors are offered again at once when consent is back.
    pub offers: BTreeMap<Uuid, BTreeSet<String>>,
}

impl Withdrawals<'_> {
    /// Removes what is withdrawn from the stores and from `known`. The roots are locked. Returns the `syncs:`
    /// entries that have changed; those of vendor IDs are the caller's.
    pub async fn purge(
        &self,
        connection: &mut AsyncPgConnection,
        org: Uuid,
        known: &mut KnownByIdentity,
    ) -> Result<(Purged, Vec<Entry>)> {
        let mut purged = Purged::default();
        if self.0.is_empty() {
            return Ok((purged, Vec::new()));
        }
        let mut gone: Vec<VendorIdRow> = Vec::new();
        for Known { ids, ties } in known.values_mut() {
            gone.extend(ids.extract_if(.., |row| self.takes(row, ties)));
        }
        if !gone.is_empty() {
            let places: Vec<_> =
                gone.iter().map(|row| (row.canonical_id, row.field.as_str(), &row.owner)).collect();
            vendor_ids::remove(connection, org, &places).await?;
        }
        for row in &gone {
            *purged.ids.entry(owner_of(&row.field).0).or_default() += 1;
        }
        let canonicals: BTreeSet<Uuid> = gone.iter().map(|row| row.canonical_id).collect();
        purged.canonicals = canonicals.into_iter().collect();
        for (root, own) in &self.0 {
            let Some(Known { ties, .. }) = known.get(root) else { continue };
            for withdrawal in own {
                let is_alone = schedules::is_alone(ties, withdrawal.browser);
                let mark = Some(Mark::of(withdrawal.browser)).filter(|_| is_alone);
                let leases = withdrawal.vendors().map(|vendor| view::lease(vendor, mark));
                purged.offers.entry(*root).or_default().extend(leases);
            }
        }
        purged.offers.retain(|_, leases| !leases.is_empty());
        let entries = self.end_syncs(connection, org, known, &gone).await?;
        Ok((purged, entries))
    }

    /// Forgets the schedules of syncs whose IDs are `gone`, and lets no state count that a browser was sent
    /// off with. How often a vendor has not answered stays: consent that comes and goes must not send a
    /// browser there each time.
    async fn end_syncs(
        &self,
        connection: &mut AsyncPgConnection,
        org: Uuid,
        known: &KnownByIdentity,
        gone: &[VendorIdRow],
    ) -> Result<Vec<Entry>> {
        let roots: Vec<Uuid> = self.0.keys().copied().collect();
        let mut attempts = syncs::find(connection, org, &roots).await?;
        let mut states: BTreeMap<BrowserAndVendor, OffsetDateTime> = BTreeMap::new();
        for (root, own) in &self.0 {
            let Some(tried) = attempts.get(root) else { continue };
            for withdrawal in own {
                let was_tried = |vendor: &&str| tried.keys().any(|(own, _)| own == vendor);
                for vendor in withdrawal.vendors().filter(was_tried) {
                    states.insert((withdrawal.browser.to_owned(), vendor.to_owned()), withdrawal.at);
                }
            }
        }
        if !states.is_empty() {
            syncs::use_states(connection, org, &states).await?;
        }
        let ended: Vec<(Uuid, &str, &str)> = gone
            .iter()
            .filter_map(|row| {
                let browser = row.owner.anonymous_id().unwrap_or_default();
                Some((row.canonical_id, synced_by(&row.source, &row.field)?, browser))
            })
            .collect();
        if ended.is_empty() {
            return Ok(Vec::new());
        }
        syncs::remove(connection, org, &ended).await?;
        let mut changed = BTreeSet::new();
        for (root, vendor, browser) in ended {
            attempts.entry(root).or_default().remove(&(vendor.to_owned(), browser.to_owned()));
            changed.insert(root);
        }
        let entry =
            |root: Uuid| Some(schedules::entry(org, root, attempts.get(&root)?, &known.get(&root)?.ties));
        Ok(changed.into_iter().filter_map(entry).collect())
    }
}
