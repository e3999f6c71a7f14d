//! The delivered view of canonical identities, read anew within a change: their `cvid:` entries, and the
//! `identity:` projections for other systems.

use std::collections::HashMap;

use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    cache_entries,
    postgres::{
        consent, identities,
        rows::{ConsentRow, VendorIdRow},
        vendor_ids,
    },
    redis::protocol::Entry,
};
use crate::error::Result;

/// Vendor IDs by canonical identity, expired ones included.
pub type IdsByIdentity = HashMap<Uuid, Vec<VendorIdRow>>;

/// The entries of locked `canonicals` with their vendor IDs and newest consent as they are now, and those IDs.
pub async fn entries(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonicals: &[Uuid],
    now: OffsetDateTime,
) -> Result<(Vec<Entry>, IdsByIdentity)> {
    let mut known = IdsByIdentity::new();
    for row in vendor_ids::find(connection, org, canonicals).await? {
        known.entry(row.canonical_id).or_default().push(row);
    }
    let newest: HashMap<Uuid, ConsentRow> =
        consent::newest(connection, org, canonicals).await?.into_iter().collect();
    let entry = |canonical: &Uuid| {
        let own = known.get(canonical).map_or(&[][..], Vec::as_slice);
        cache_entries::vendor_ids(org, *canonical, own, newest.get(canonical), now)
    };
    Ok((canonicals.iter().map(entry).collect(), known))
}

/// The projections of every browser of locked `canonicals`, with their vendor IDs as `known` has them.
pub async fn projections(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonicals: &[Uuid],
    known: &IdsByIdentity,
    now: OffsetDateTime,
) -> Result<Vec<Entry>> {
    if canonicals.is_empty() {
        return Ok(Vec::new());
    }
    let browsers = identities::anonymous_ids(connection, org, canonicals).await?;
    let entry = |(canonical, browser): &(Uuid, String)| {
        let own = known.get(canonical).map_or(&[][..], Vec::as_slice);
        cache_entries::identity(org, browser, own, now)
    };
    Ok(browsers.iter().map(entry).collect())
}
