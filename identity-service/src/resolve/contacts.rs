//! Keeping the digests that came with an identifier, for later look-ups. Written only where they changed.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use diesel_async::AsyncPgConnection;
use proto::v1::{Refusal, RefusalReason};
use time::OffsetDateTime;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Resolver, facts::Facts, subject::Person};
use crate::{
    auth::Tenant,
    error::Result,
    graph::{Claims, transaction::Outcome},
    identifiers::Identifier,
    pii::{
        Digest,
        contacts::{NewContact, NewContacts, Said},
        tombstone::TombstoneKeys,
    },
    storage::{
        cache_entries,
        change::{self, Change},
        hash_cache::HashCache,
        postgres::{erased, pii},
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

    /// Forgets what an identifier has brought to somebody from whom it had gone, which was removed then.
    fn forget(&self, org: Uuid, key: &(Identifier, &str), canonical: Uuid) {
        self.0.remove(&(org, canonical, key));
    }

    fn learn(&self, org: Uuid, key: &(Identifier, &str), new: &NewContact, now: OffsetDateTime) {
        let value = self.0.hash(&(new.contact, now.date()));
        self.0.insert(&(org, new.canonical, key), (value, new.verified));
    }
}

/// Longest time that an event waits for its digests to be stored. It counts without that, also where
/// PostgreSQL is away.
const STORE_TIMEOUT: Duration = Duration::from_millis(500);

/// Contacts that `people` bring and that this process has not stored today. A claimed one doesn't take the place of one
/// that is vouched for. What a browser has brought to somebody is not taken along to who comes next.
pub fn new(
    resolver: &Resolver,
    tenant: &Tenant,
    people: &[&Person],
    outcomes: &[Outcome],
    facts: &Facts,
    now: OffsetDateTime,
) -> NewContacts {
    let mut new = NewContacts::new();
    for (person, outcome) in people.iter().zip(outcomes) {
        let Claims { primary, user, token_issued_at, .. } = &person.claims;
        let Some(known) = facts.canonical(primary) else { continue };
        if has_moved(person, outcome) {
            for what in ["email", "phone"] {
                let key = (primary.clone(), what);
                resolver.contacts.forget(tenant.org, &key, known.canonical);
                new.remove(&key);
            }
        }
        let token = user.clone().zip(*token_issued_at);
        for (what, Said { contact, verified }) in person.contacts.iter() {
            let token = token.clone().filter(|_| verified);
            let one = NewContact { canonical: known.canonical, contact, verified, token };
            let key = (primary.clone(), what);
            let is_known = resolver.contacts.knows(tenant.org, &key, &one, now);
            let is_vouched = new.get(&key).is_some_and(|earlier| earlier.verified);
            if !is_known && (verified || !is_vouched) {
                new.insert(key, one);
            }
        }
    }
    new
}

/// True where the event has taken its browser to somebody else.
fn has_moved(person: &Person, outcome: &Outcome) -> bool {
    let is_move =
        |one: &Refusal| one.identifier == "user_id" && one.reason() == RefusalReason::DifferentUsers;
    person.claims.reset || outcome.refusals.iter().any(is_move)
}

/// Stores new contacts. Those that can't be stored are tried again with the next event that brings them.
pub async fn store(resolver: &Resolver, org: Uuid, new: NewContacts, now: OffsetDateTime) {
    if new.is_empty() {
        return;
    }
    let tombstones = resolver.tombstones.clone();
    let store = change::commit(&resolver.stores, Store { org, new, tombstones, now });
    match timeout(STORE_TIMEOUT, store).await {
        Ok(Ok(done)) => {
            done.output.iter().for_each(|(key, one)| resolver.contacts.learn(org, key, one, now));
        }
        Ok(Err(error)) => serve::warn_on_change!(WARN, %error, "digests were not stored"),
        Err(_) => serve::warn_on_change!(WARN, "digests were not stored in time"),
    }
}

struct Store {
    org: Uuid,
    new: NewContacts,
    tombstones: Arc<TombstoneKeys>,
    now: OffsetDateTime,
}

impl Change for Store {
    type Output = NewContacts;

    fn org(&self) -> Uuid {
        self.org
    }

    /// Stores the digests, of which Redis has nothing but profiles that they may have part in, and tells which. A row hangs on its link, so erasing the person takes
    /// it along.
    async fn apply(&self, connection: &mut AsyncPgConnection) -> Result<(NewContacts, Vec<Entry>)> {
        let mut new = self.new.clone();
        self.leave_erased(connection, &mut new).await?;
        pii::store(connection, self.org, &new, self.now).await?;
        let changed: BTreeSet<Uuid> = new.values().map(|one| one.canonical).collect();
        let profiles = changed.into_iter().map(|canonical| cache_entries::no_profiles(self.org, canonical));
        Ok((new, profiles.collect()))
    }
}

impl Store {
    /// Leaves out what an identity token names that is older than its user's erasure: it would bring it back.
    async fn leave_erased(&self, connection: &mut AsyncPgConnection, new: &mut NewContacts) -> Result<()> {
        let digests = |user: &Identifier| self.tombstones.digests(self.org, user);
        let users = new.values().filter_map(|one| one.token.as_ref());
        let asked: Vec<Digest> = users.flat_map(|(user, _)| digests(user)).collect();
        let erased = erased::find(connection, self.org, &asked).await?;
        new.retain(|_, one| {
            let Some((user, issued_at)) = &one.token else { return true };
            !digests(user).iter().any(|digest| erased.get(digest).is_some_and(|at| issued_at <= at))
        });
        Ok(())
    }
}
