//! Keeping the digests that came with an identifier, for later look-ups. Written only where they changed.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use diesel_async::AsyncPgConnection;
use quick_cache::sync::Cache;
use time::OffsetDateTime;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Tenant, facts::Read, subject::Person};
use crate::pii::contacts::Contact;
use crate::{
    app::Core,
    error::Result,
    identifiers::Identifier,
    storage::{
        change::{self, Change},
        postgres::pii,
        redis::protocol::Entry,
    },
};

/// Entries that one process keeps, of some 40 bytes each.
const KEPT: usize = 200_000;

/// Cache of what this process has stored, so that an event that repeats it needs no statement. An entry holds
/// for the day: another process may have stored something else since.
pub struct Remembered {
    hasher: RandomState,
    /// A keyed hash of the contact, and whether it is stored as vouched for.
    kept: Cache<u64, (u64, bool)>,
}

impl Default for Remembered {
    fn default() -> Self {
        Self { hasher: RandomState::new(), kept: Cache::new(KEPT) }
    }
}

/// A contact as it is to be stored.
#[derive(Debug, Clone)]
pub struct NewContact {
    /// The canonical identity that it came to.
    pub canonical: Uuid,
    /// Digests of the email or phone.
    pub contact: Contact,
    /// True where the contact came in a signed call, or with a hash that vouches for its user.
    pub verified: bool,
}

/// New contacts by the identifier that they came with and the word for them.
pub type NewContacts = BTreeMap<(Identifier, &'static str), NewContact>;

impl Remembered {
    fn knows(&self, org: Uuid, key: &(Identifier, &str), new: &NewContact, now: OffsetDateTime) -> bool {
        let (place, value) = self.hashes(org, key, new, now);
        self.kept.get(&place).is_some_and(|(kept, verified)| kept == value && (verified || !new.verified))
    }

    fn learn(&self, org: Uuid, key: &(Identifier, &str), new: &NewContact, now: OffsetDateTime) {
        let (place, value) = self.hashes(org, key, new, now);
        self.kept.insert(place, (value, new.verified));
    }

    fn hashes(
        &self,
        org: Uuid,
        key: &(Identifier, &str),
        new: &NewContact,
        now: OffsetDateTime,
    ) -> (u64, u64) {
        (self.hasher.hash_one((org, new.canonical, key)), self.hasher.hash_one((new.contact, now.date())))
    }
}

/// Longest time that an event waits for its digests to be stored. It counts without that, also where
/// PostgreSQL is away.
const PATIENCE: Duration = Duration::from_millis(500);

/// Contacts that `people` bring and that this process has not stored today.
pub fn new(
    core: &Core,
    tenant: &Tenant,
    people: &[&Person],
    read: &Read,
    now: OffsetDateTime,
) -> NewContacts {
    let mut new = NewContacts::new();
    for person in people {
        let Some(known) = read.canonical(&person.primary) else { continue };
        for (what, contact) in person.contacts.iter() {
            let verified = person.user_verified;
            let one = NewContact { canonical: known.canonical, contact, verified };
            new.insert((person.primary.clone(), what), one);
        }
    }
    new.retain(|key, one| !core.contacts.knows(tenant.org, key, one, now));
    new
}

/// Stores new contacts. Those that can't be stored are tried again with the next event that brings them.
pub async fn store(core: &Core, org: Uuid, new: NewContacts, now: OffsetDateTime) {
    if new.is_empty() {
        return;
    }
    let store = change::commit(&core.stores, Store { org, new: new.clone(), now });
    match timeout(PATIENCE, store).await {
        Ok(Ok(_)) => new.iter().for_each(|(key, one)| core.contacts.learn(org, key, one, now)),
        Ok(Err(error)) => serve::failing!(WARN, %error, "digests were not stored"),
        Err(_) => serve::failing!(WARN, "digests were not stored in time"),
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
