//! Writing what Redis serves of identities anew: where it has lost it, and where something has ended that something
//! else stands behind.

use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::entries;
use crate::{
    error::Result,
    storage::{
        Stores,
        change::{self, Change},
        postgres::identities,
        redis::protocol::Entry,
    },
};

/// Writes `cvid:` of these canonical identities, and `identity:` of every browser of theirs. Readers have PostgreSQL
/// until then, so a failure here is no failure of the request that noticed it.
pub async fn refresh(stores: &Stores, org: Uuid, canonicals: Vec<Uuid>, now: OffsetDateTime) {
    if let Err(error) = try_refresh(stores, org, canonicals, now).await {
        serve::warn_on_change!(WARN, %error, "projections were not written");
    }
}

/// Writes them as [`refresh`] does, and says what failed.
pub async fn try_refresh(
    stores: &Stores,
    org: Uuid,
    canonicals: Vec<Uuid>,
    now: OffsetDateTime,
) -> Result<()> {
    if canonicals.is_empty() {
        return Ok(());
    }
    change::commit(stores, Refresh { org, canonicals, now }).await.map(drop)
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
        let mut known = entries::load(connection, self.org, &roots).await?;
        known.retain(|_, own| !own.ids.is_empty());
        let mut changed = entries::delivered(connection, self.org, &known, self.now).await?;
        changed.extend(entries::projections(self.org, known.values(), self.now));
        Ok(((), changed))
    }
}
