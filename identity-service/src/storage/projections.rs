//! Writing the `identity:` projections anew, where Redis has lost what a canonical identity knows.

use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Stores,
    change::{self, Change},
    delivered::{self, IdsByIdentity},
    postgres::{identities, vendor_ids},
    redis::protocol::Entry,
};
use crate::error::Result;

/// Writes the projections of every browser of these canonical identities. Other systems read them, so a
/// failure here is no failure of the request that noticed the loss.
pub async fn refresh(stores: &Stores, org: Uuid, canonicals: Vec<Uuid>, now: OffsetDateTime) {
    if canonicals.is_empty() {
        return;
    }
    if let Err(error) = change::commit(stores, Refresh { org, canonicals, now }).await {
        serve::warn_on_change!(WARN, %error, "projections were not written");
    }
}

/// A change that alters no row: it holds the locks of one, so that no writer is overtaken.
struct Refresh {
    org: Uuid,
    canonicals: Vec<Uuid>,
    now: OffsetDateTime,
}

impl Change for Refresh {
    type Output = ();

    fn org(&self) -> Uuid {
        self.org
    }

    async fn apply(&self, connection: &mut AsyncPgConnection) -> Result<((), Vec<Entry>)> {
        let roots = identities::roots(connection, self.org, &self.canonicals).await?;
        let roots: Vec<Uuid> = roots.into_iter().flatten().collect();
        identities::lock(connection, self.org, roots.iter().copied()).await?;
        let mut known = IdsByIdentity::new();
        for row in vendor_ids::find(connection, self.org, &roots).await? {
            known.entry(row.canonical_id).or_default().push(row);
        }
        let with_ids: Vec<Uuid> = known.keys().copied().collect();
        Ok(((), delivered::projections(connection, self.org, &with_ids, &known, self.now).await?))
    }
}
