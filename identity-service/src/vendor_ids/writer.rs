//! The one writer of vendor IDs: what producers (syncs, clicks, generated IDs) have to store is grouped over
//! requests, one transaction for many visitors, together with the schedules and used states of syncs.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use diesel_async::AsyncPgConnection;
use proto::v1::ErrorReason;
use time::OffsetDateTime;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    entries,
    ledger::Ledger,
    schedules,
    stored::{StoredId, StoredIds},
    ties::Ties,
};
use crate::{
    error::{Error, Result},
    identifiers::{Identifier, Kind},
    pii::tombstone::TombstoneKeys,
    storage::{
        Stores,
        batcher::Batcher,
        cache_entries,
        change::{self, Change, Committed},
        postgres::{consent, identities, rows::Owner, syncs, vendor_ids},
        redis::protocol::Entry,
    },
};

/// A write: what a producer has to store for one browser or user.
pub trait Write: Send + Sync + 'static {
    /// The answer that the producer gets.
    type Output: Send + 'static;

    /// The browser for which it is stored, or the user where there is none.
    fn owner(&self) -> &Identifier;

    /// Time of the write.
    fn now(&self) -> OffsetDateTime;

    /// The vendor whose used states the decision needs.
    fn state_vendor(&self) -> Option<&str> {
        None
    }

    /// True where the decision needs the identity's stored IDs.
    fn needs_stored_ids(&self) -> bool {
        false
    }

    /// Decides, with the owner's identity locked, and enters what changes. May be called again, with a new ledger,
    /// where the transaction has to be tried again.
    fn decide(&self, ledger: &mut Ledger) -> Self::Output;
}

/// A write of whatever producer.
trait AnyWrite: Send + Sync {
    fn owner(&self) -> &Identifier;
    fn now(&self) -> OffsetDateTime;
    fn state_vendor(&self) -> Option<&str>;
    fn needs_stored_ids(&self) -> bool;
    fn decide(&self, ledger: &mut Ledger) -> Box<dyn Any + Send>;
}

impl<W: Write> AnyWrite for W {
    fn owner(&self) -> &Identifier {
        Write::owner(self)
    }

    fn now(&self) -> OffsetDateTime {
        Write::now(self)
    }

    fn state_vendor(&self) -> Option<&str> {
        Write::state_vendor(self)
    }

    fn needs_stored_ids(&self) -> bool {
        Write::needs_stored_ids(self)
    }

    fn decide(&self, ledger: &mut Ledger) -> Box<dyn Any + Send> {
        Box::new(Write::decide(self, ledger))
    }
}

/// Stores vendor IDs, and what goes with them.
#[derive(Clone)]
pub struct VendorIdWriter {
    batcher: Batcher<WaitingWrite>,
}

struct WaitingWrite {
    write: Box<dyn AnyWrite>,
    answer: Answer,
}

type Answer = oneshot::Sender<Committed<Box<dyn Any + Send>>>;

impl VendorIdWriter {
    /// Starts writing; goes on as long as the runtime.
    pub fn start(stores: &Stores, tombstones: &Arc<TombstoneKeys>) -> Self {
        let (stores, tombstones) = (stores.clone(), tombstones.clone());
        let work = move |org, batch| {
            let (stores, tombstones) = (stores.clone(), tombstones.clone());
            async move { write_batch(&stores, tombstones, org, batch).await }
        };
        Self { batcher: Batcher::start_apart(work) }
    }

    /// Stores one write of a producer, and returns what it decided.
    pub async fn write<W: Write>(&self, org: Uuid, write: W) -> Result<Committed<W::Output>> {
        let (answer, written) = oneshot::channel();
        self.batcher.push(org, WaitingWrite { write: Box::new(write), answer })?;
        let written = written.await.map_err(|_| Error::refused(ErrorReason::Unavailable))?;
        let Committed { output, redis_failed } = written;
        #[expect(clippy::expect_used, reason = "a write is answered with its own output")]
        let output = *output.downcast().expect("the output of this write");
        Ok(Committed { output, redis_failed })
    }
}

/// Writes a batch in one transaction. Requests that could not be stored get no answer.
async fn write_batch(stores: &Stores, tombstones: Arc<TombstoneKeys>, org: Uuid, waiting: Vec<WaitingWrite>) {
    let (writes, answers): (Vec<_>, Vec<Answer>) =
        waiting.into_iter().map(|one| (one.write, one.answer)).unzip();
    match change::commit(stores, Batch { org, writes, tombstones }).await {
        Ok(Committed { output, redis_failed }) => {
            for (answer, output) in answers.into_iter().zip(output) {
                // A caller that has gone away needs no answer.
                let _ = answer.send(Committed { output, redis_failed });
            }
        }
        Err(error) => {
            serve::warn_on_change!(WARN, %error, waiting = answers.len(), "syncs and IDs were not stored");
        }
    }
}

struct Batch {
    org: Uuid,
    writes: Vec<Box<dyn AnyWrite>>,
    tombstones: Arc<TombstoneKeys>,
}

impl Change for Batch {
    /// The outputs of the writes, in their order.
    type Output = Vec<Box<dyn Any + Send>>;

    fn org(&self) -> Uuid {
        self.org
    }

    async fn apply(&self, connection: &mut AsyncPgConnection) -> Result<(Self::Output, Vec<Entry>)> {
        let mut ledger = self.read(connection).await?;
        let written = self.writes.iter().map(|write| write.decide(&mut ledger)).collect();
        let Ledger {
            roots: _,
            mut ties,
            consents: _,
            attempts,
            stored: _,
            used: _,
            new_used,
            new_attempts,
            new_ids,
        } = ledger;
        let org = self.org;
        if !new_used.is_empty() {
            syncs::use_states(connection, org, &new_used).await?;
        }
        if !new_attempts.is_empty() {
            syncs::store(connection, org, &new_attempts).await?;
        }
        let changed: BTreeSet<Uuid> = new_attempts.keys().map(|(canonical, _)| *canonical).collect();
        let entry = |canonical: &Uuid| {
            Some(schedules::entry(org, *canonical, attempts.get(canonical)?, ties.get(canonical)?))
        };
        let mut entries: Vec<Entry> = changed.iter().filter_map(entry).collect();
        if !new_ids.is_empty() {
            vendor_ids::store(connection, org, &new_ids.values().collect::<Vec<_>>()).await?;
            let with_ids: BTreeSet<Uuid> = new_ids.keys().map(|(canonical, ..)| *canonical).collect();
            let own = |canonical| Some((canonical, ties.remove(&canonical)?));
            let known = with_ids.into_iter().filter_map(own).collect();
            entries.extend(self.vendor_id_entries(connection, known).await?);
        }
        Ok((written, entries))
    }
}

impl Batch {
    /// Locks every visitor and reads what is stored for them.
    async fn read(&self, connection: &mut AsyncPgConnection) -> Result<Ledger> {
        let org = self.org;
        let owners: BTreeSet<&Identifier> = self.writes.iter().map(|write| write.owner()).collect();
        let owners: Vec<Identifier> = owners.into_iter().cloned().collect();
        let (roots, linked) = identities::lock_by_ids(connection, org, &owners).await?;
        if roots.is_empty() {
            return Ok(Ledger::default());
        }
        let browsers = owners.iter().filter(|id| id.kind == Kind::AnonymousId);
        let browsers: Vec<&str> = browsers.map(|id| id.value.as_str()).collect();
        let consents = consent::find(connection, org, &browsers).await?;
        let canonicals: Vec<Uuid> = linked.keys().copied().collect();
        let mut pairs = BTreeSet::new();
        for write in &self.writes {
            let Some(vendor) = write.state_vendor() else { continue };
            let browser = write.owner();
            for digest in self.tombstones.digests(org, browser) {
                pairs.insert(((browser.value.clone(), vendor.to_owned()), digest));
            }
        }
        let used = if pairs.is_empty() {
            HashMap::new()
        } else {
            syncs::used_states(connection, org, &pairs).await?
        };
        let mut stored: HashMap<(Uuid, Owner), StoredIds> = HashMap::new();
        if self.writes.iter().any(|write| write.needs_stored_ids()) {
            for row in vendor_ids::find(connection, org, &canonicals).await? {
                let ids = stored.entry((row.canonical_id, row.owner.clone())).or_default();
                ids.insert(row.field.clone(), StoredId::of_row(&row));
            }
        }
        let consents = consents.into_iter();
        Ok(Ledger {
            roots,
            ties: linked.into_iter().map(|(canonical, links)| (canonical, Ties::new(links))).collect(),
            consents: consents
                .map(|row| (row.anonymous_id.clone(), cache_entries::consent_entry(Some(&row))))
                .collect(),
            attempts: syncs::find(connection, org, &canonicals).await?,
            stored,
            used,
            ..Ledger::default()
        })
    }

    async fn vendor_id_entries(
        &self,
        connection: &mut AsyncPgConnection,
        ties: BTreeMap<Uuid, Ties>,
    ) -> Result<Vec<Entry>> {
        let org = self.org;
        let now = self.writes.iter().map(|write| write.now()).max().unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let known = entries::load_ids(connection, org, ties).await?;
        let mut changed = entries::delivered(connection, org, &known, now).await?;
        changed.extend(entries::projections(org, known.values(), now));
        Ok(changed)
    }
}
