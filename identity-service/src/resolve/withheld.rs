//! IDs that their browser's latest signals deny: they answer for nobody else. That is written when the signals
//! change, so that no reader has to know whose consent counts for what.

use std::collections::{BTreeSet, HashMap};

use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    consent::{ConsentRule, Decision, Signals},
    error::Result,
    settings::Snapshot,
    storage::postgres::{
        rows::{ConsentRow, VendorIdRow},
        vendor_ids,
    },
    vendor_ids::entries::KnownByIdentity,
    vendors::owner_of,
};

/// Notes of the IDs in `known` what the signals that are stored now deny or allow again, and returns the canonical
/// identities of those that changed. Their roots are locked.
pub async fn note(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    snapshot: &Snapshot,
    known: &mut KnownByIdentity,
    stored: &[ConsentRow],
) -> Result<BTreeSet<Uuid>> {
    let signals = |row: &ConsentRow| (Signals::parse(row.signals.as_deref(), row.sec_gpc), row.updated_at);
    let signals: HashMap<&str, (Signals, OffsetDateTime)> =
        stored.iter().map(|row| (row.anonymous_id.as_str(), signals(row))).collect();
    let mut changed: Vec<&VendorIdRow> = Vec::new();
    for row in known.values_mut().flat_map(|own| &mut own.ids) {
        let own = row.owner.anonymous_id().and_then(|browser| signals.get(browser));
        let Some((own, stored_at)) = own else { continue };
        let source = row.pipeline_id.and_then(|pipeline| snapshot.pipeline(pipeline));
        let rule = source.map_or(&ConsentRule::NONE, |source| &source.consent);
        let is_withheld = own.decide(&owner_of(&row.field).1, rule, *stored_at) == Decision::Denied;
        if row.is_withheld != is_withheld {
            row.is_withheld = is_withheld;
            changed.push(row);
        }
    }
    if !changed.is_empty() {
        vendor_ids::store(connection, org, &changed).await?;
    }
    Ok(changed.iter().map(|row| row.canonical_id).collect())
}
