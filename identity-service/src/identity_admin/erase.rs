//! Erasing people in every store, whatever identifier of theirs is named.

use std::{collections::BTreeSet, sync::Arc};

use diesel_async::AsyncPgConnection;
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use super::IdentityAdmin;
use crate::{
    error::{Error, Result},
    identifiers::{Identifier, Kind},
    pii::tombstone::{OrgKey, TombstoneKeys},
    storage::{
        change::{self, Change},
        lookup::{IdentityName, Named},
        postgres::{erased, erasure, history, identities, tombstone_keys},
        redis::{
            keys::{self, Key},
            protocol::{Entry, Value},
        },
        retry_lost,
    },
};

impl IdentityAdmin {
    /// Erases the person whom `name` names, across all linked identifiers and everything merged. What was
    /// issued for them before does not count any more. Erasing nobody is no error.
    pub async fn erase(&self, org: Uuid, name: IdentityName, now: OffsetDateTime) -> Result<()> {
        self.store_key(org).await?;
        let tombstones = self.tombstones.clone();
        let erase = Erase { org, name, tombstones, now };
        let erased = change::commit(&self.stores, erase).await?.output;
        // Leases are gone within a minute anyway.
        if let Err(error) = self.stores.redis.forget_offers(org, &erased).await {
            tracing::debug!(%error, "leases end by themselves");
        }
        metrics::counter!("datafly_erased_total").increment(1);
        tracing::info!(%org, canonicals = erased.len(), "a person was erased");
        Ok(())
    }

    /// Stores the key of the organisation's tombstones before there is one of them.
    async fn store_key(&self, org: Uuid) -> Result<()> {
        if self.tombstones.has_stored(org) {
            return Ok(());
        }
        let current: Vec<OrgKey> = self.tombstones.derived(org).into_iter().take(1).collect();
        let stores = &self.stores;
        retry_lost!({
            tombstone_keys::add(&mut *stores.connection().await?, &self.seal_keys, org, &current).await
        })
    }

    /// Stores the keys of tombstones that were made before keys were stored, as long as the encryption keys are known
    /// that those are derived from.
    pub async fn store_keys(&self) -> Result<()> {
        let mut connection = self.stores.connection().await?;
        for org in tombstone_keys::lacking(&mut connection).await? {
            let derived = self.tombstones.derived(org);
            tombstone_keys::add(&mut connection, &self.seal_keys, org, &derived).await?;
        }
        Ok(())
    }
}

struct Erase {
    org: Uuid,
    name: IdentityName,
    tombstones: Arc<TombstoneKeys>,
    now: OffsetDateTime,
}

impl Change for Erase {
    /// The canonical identities that are gone.
    type Output = Vec<Uuid>;

    fn org(&self) -> Uuid {
        self.org
    }

    async fn apply(&self, connection: &mut AsyncPgConnection) -> Result<(Vec<Uuid>, Vec<Entry>)> {
        let org = self.org;
        let root = self.root(connection).await?;
        identities::lock(connection, org, root).await?;
        if self.root(connection).await? != root {
            return Err(Error::Moved);
        }
        let canonicals = all_of(connection, org, root.as_slice()).await?;
        let mut ids: BTreeSet<Identifier> =
            erasure::identifiers(connection, org, &canonicals).await?.into_iter().collect();
        // Consent may be stored of a browser that nobody has any more.
        if let Named::Identifier(id) = &self.name.named {
            ids.insert(id.clone());
        }
        let digests: Vec<_> =
            ids.iter().filter_map(|id| self.tombstones.digests(org, id).into_iter().next()).collect();
        erased::add(connection, org, &digests, self.now).await?;
        let entries = remove(connection, org, &canonicals, &ids).await?;
        Ok((canonicals, entries))
    }
}

impl Erase {
    async fn root(&self, connection: &mut AsyncPgConnection) -> Result<Option<Uuid>> {
        let found = match &self.name.named {
            Named::Nobody => return Ok(None),
            Named::Canonical(id) => identities::roots(connection, self.org, &[*id]).await?,
            Named::Identifier(id) => identities::find(connection, self.org, std::slice::from_ref(id)).await?,
        };
        Ok(found.into_iter().next().flatten())
    }
}

/// Forgets roots that nobody has seen since `day`.
pub struct Forget {
    /// The organisation that they belong to.
    pub org: Uuid,
    /// Roots to be forgotten, of those that are idle still.
    pub roots: Vec<Uuid>,
    /// The day since which they were not seen; one that was seen on it or later stays.
    pub day: Date,
}

impl Change for Forget {
    /// The number of roots that were forgotten.
    type Output = usize;

    fn org(&self) -> Uuid {
        self.org
    }

    async fn apply(&self, connection: &mut AsyncPgConnection) -> Result<(usize, Vec<Entry>)> {
        let org = self.org;
        identities::lock(connection, org, self.roots.iter().copied()).await?;
        // Somebody may have come back meanwhile.
        let roots = erasure::still_idle(connection, org, &self.roots, self.day).await?;
        let canonicals = all_of(connection, org, &roots).await?;
        let ids = erasure::identifiers(connection, org, &canonicals).await?.into_iter().collect();
        let entries = remove(connection, org, &canonicals, &ids).await?;
        Ok((roots.len(), entries))
    }
}

async fn all_of(connection: &mut AsyncPgConnection, org: Uuid, roots: &[Uuid]) -> Result<Vec<Uuid>> {
    Ok(history::all_of(connection, org, roots).await?.into_keys().collect())
}

/// Removes canonical identities and identifiers, whose roots are locked, and returns the keys that go with them.
async fn remove(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonicals: &[Uuid],
    ids: &BTreeSet<Identifier>,
) -> Result<Vec<Entry>> {
    let browsers = ids.iter().filter(|id| id.kind == Kind::AnonymousId).map(|id| id.value.as_str());
    let browsers: Vec<&str> = browsers.collect();
    erasure::remove(connection, org, canonicals, &browsers).await?;
    erasure::remove_from_history(connection, org, ids).await?;
    let mut gone: Vec<Key> = ids.iter().map(|id| keys::canonical(org, id)).collect();
    gone.extend(browsers.iter().flat_map(|id| [keys::identity(org, id), keys::consent(org, id)]));
    gone.extend(
        canonicals
            .iter()
            .flat_map(|id| [keys::vendor_ids(org, *id), keys::syncs(org, *id), keys::profiles(org, *id)]),
    );
    let names: Vec<&str> = gone.iter().map(|key| key.name.as_str()).collect();
    erasure::remove_repairs(connection, org, &names).await?;
    Ok(gone.into_iter().map(|key| Entry { key, value: Value::Nothing, ttl_ms: 0 }).collect())
}
