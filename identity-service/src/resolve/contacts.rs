//! Keeping the digests that came with an identifier, for later look-ups. Written only where they changed.

use std::time::Duration;

use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Resolver, facts::Facts, hash_cache::HashCache, subject::Person};
use crate::{
    auth::Tenant,
    error::Result,
    identifiers::Identifier,
    pii::contacts::{NewContact, NewContacts},
    storage::{
        change::{self, Change},
        postgres::pii,
        redis::protocol::Entry,
    },
};

/// Entries that one process keeps, of some 40 bytes each.
const KEPT: usize = 200_000;

/// Contacts that this process has stored, so that an event that repeats one needs no statement. An entry
/// holds for the day: another process may have stored something else since.
pub struct StoredContacts(
    /// Entries by identifier and canonical identity: a keyed hash of the contact and the day, and whether it
    /// is vouched for.
    HashCache<(u64, bool)>,
);

impl Default for StoredContacts {
    fn default() -> Self {
        Self(HashCache::new(KEPT))
    }
}

impl StoredContacts {
    fn knows(&self, org: Uuid, key: &(Identifier, &str), new: &NewContact, now: OffsetDateTime) -> bool {
        let value = self.0.hash(&(new.contact, now.date()));
        let kept = self.0.get(&(org, new.canonical, key));
        kept.is_some_and(|(kept, verified)| kept == value && (verified || !new.verified))
    }

    fn learn(&self, org: Uuid, key: &(Identifier, &str), new: &NewContact, now: OffsetDateTime) {
        let value = self.0.hash(&(new.contact, now.date()));
        self.0.insert(&(org, new.canonical, key), (value, new.verified));
    }
}

/// Longest time that an event waits for its digests to be stored. It counts without that, also where
/// PostgreSQL is away.
const STORE_TIMEOUT: Duration = Duration::from_millis(500);

/// Contacts that `people` bring and that this process has not stored today.
pub fn new(
    resolver: &Resolver,
    tenant: &Tenant,
    people: &[&Person],
    facts: &Facts,
    now: OffsetDateTime,
) -> NewContacts {
    let mut new = NewContacts::new();
    for person in people {
        let Some(known) = facts.canonical(&person.claims.primary) else { continue };
        for (what, contact) in person.contacts.iter() {
            let verified = person.is_signed;
            let one = NewContact { canonical: known.canonical, contact, verified };
            new.insert((person.claims.primary.clone(), what), one);
        }
    }
    new.retain(|key, one| !resolver.contacts.knows(tenant.org, key, one, now));
    new
}

/// Stores new contacts. Those that can't be stored are tried again with the next event that brings them.
pub async fn store(resolver: &Resolver, org: Uuid, new: NewContacts, now: OffsetDateTime) {
    if new.is_empty() {
        return;
    }
    let store = change::commit(&resolver.stores, Store { org, new: new.clone(), now });
    match timeout(STORE_TIMEOUT, store).await {
        Ok(Ok(_)) => new.iter().for_each(|(key, one)| resolver.contacts.learn(org, key, one, now)),
        Ok(Err(error)) => serve::warn_on_change!(WARN, %error, "digests were not stored"),
        Err(_) => serve::warn_on_change!(WARN, "digests were not stored in time"),
    }
}

struct Store {
    org: Uuid,
    new: NewContacts,
    now: OffsetDateTime,
}

impl Change for Store {
    type Output = ();

    fn org(&self) -> Uuid {
        self.org
    }

    /// Stores the digests, of which Redis has nothing. A row hangs on its link, so erasing the person takes
    /// it along.
    async fn apply(&self, connection: &mut AsyncPgConnection) -> Result<((), Vec<Entry>)> {
        pii::store(connection, self.org, &self.new, self.now).await?;
        Ok(((), Vec::new()))
    }
}
