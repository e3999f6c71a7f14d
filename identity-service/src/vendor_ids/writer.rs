//! Storing attempts and results of syncs, and IDs that are collected otherwise, grouped over requests: one transaction
//! for many visitors.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use diesel_async::AsyncPgConnection;
use proto::v1::{ErrorReason, SyncOutcome, SyncRefusal};
use time::OffsetDateTime;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::ledger::{Ledger, NewAttempt, NewResult};
use super::stored::{Fields, Held};
use crate::sync::state::SyncState;
use crate::{
    error::{Error, Result},
    first_party_ids::store::{Fate, NewCollected},
    identifiers::{Identifier, Kind},
    pii::tombstone::TombstoneKeys,
    storage::{
        Stores,
        batcher::Group,
        cache_entries,
        change::{self, Change, Committed},
        delivered,
        postgres::{consent, identities, syncs, vendor_ids},
        redis::protocol::Entry,
    },
};

/// Stores what happens to syncs, and what is collected.
#[derive(Clone)]
pub struct SyncWriter {
    group: Group<Wanted>,
}

struct Wanted {
    write: Write,
    answer: Answer,
}

type Answer = oneshot::Sender<Committed<Written>>;

enum Write {
    Attempt(NewAttempt),
    Result(NewResult),
    Collected(NewCollected),
}

#[derive(Debug)]
enum Written {
    Attempt(Option<SyncRefusal>),
    Result(SyncOutcome),
    Collected(Vec<Fate>),
}

impl Write {
    fn browser(&self) -> &str {
        match self {
            Self::Attempt(new) => &new.anonymous_id,
            Self::Result(new) => &new.state.anonymous_id,
            Self::Collected(new) => &new.anonymous_id,
        }
    }

    fn now(&self) -> OffsetDateTime {
        match self {
            Self::Attempt(new) => new.now,
            Self::Result(new) => new.now,
            Self::Collected(new) => new.now,
        }
    }
}

impl SyncWriter {
    /// Starts writing; goes on as long as the runtime.
    pub fn start(stores: &Stores, tombstones: &Arc<TombstoneKeys>) -> Self {
        let (stores, tombstones) = (stores.clone(), tombstones.clone());
        let work = move |org, batch| {
            let (stores, tombstones) = (stores.clone(), tombstones.clone());
            async move { write(&stores, tombstones, org, batch).await }
        };
        Self { group: Group::start_apart(work) }
    }

    /// Records an attempt. Says why the browser must not go after all.
    pub async fn attempt(&self, org: Uuid, new: NewAttempt) -> Result<Option<SyncRefusal>> {
        match self.store(org, Write::Attempt(new)).await?.output {
            Written::Attempt(refusal) => Ok(refusal),
            Written::Result(_) | Written::Collected(_) => Err(Error::refused(ErrorReason::Internal)),
        }
    }

    /// Stores what the vendor sent back.
    pub async fn result(&self, new: NewResult) -> Result<Committed<SyncOutcome>> {
        let Committed { output, redis_failed } = self.store(new.state.org, Write::Result(new)).await?;
        match output {
            Written::Result(output) => Ok(Committed { output, redis_failed }),
            Written::Attempt(_) | Written::Collected(_) => Err(Error::refused(ErrorReason::Internal)),
        }
    }

    /// Stores what a browser brought, or was made for it.
    pub async fn collected(&self, org: Uuid, new: NewCollected) -> Result<Vec<Fate>> {
        match self.store(org, Write::Collected(new)).await?.output {
            Written::Collected(fates) => Ok(fates),
            Written::Attempt(_) | Written::Result(_) => Err(Error::refused(ErrorReason::Internal)),
        }
    }

    async fn store(&self, org: Uuid, write: Write) -> Result<Committed<Written>> {
        let (answer, written) = oneshot::channel();
        self.group.push(org, Wanted { write, answer })?;
        written.await.map_err(|_| Error::refused(ErrorReason::Unavailable))
    }
}

/// One transaction. Requests that could not be stored get no answer.
async fn write(stores: &Stores, tombstones: Arc<TombstoneKeys>, org: Uuid, wanted: Vec<Wanted>) {
    let (writes, answers): (Vec<Write>, Vec<Answer>) =
        wanted.into_iter().map(|one| (one.write, one.answer)).unzip();
    match change::commit(stores, Batch { org, writes, tombstones }).await {
        Ok(Committed { output, redis_failed }) => {
            for (answer, output) in answers.into_iter().zip(output) {
                // A caller that has gone away needs no answer.
                let _ = answer.send(Committed { output, redis_failed });
            }
        }
        Err(error) => {
            serve::failing!(WARN, %error, waiting = answers.len(), "syncs and IDs were not stored");
        }
    }
}

struct Batch {
    org: Uuid,
    writes: Vec<Write>,
    tombstones: Arc<TombstoneKeys>,
}

impl Change for Batch {
    /// One a write, in their order.
    type Output = Vec<Written>;

    fn org(&self) -> Uuid {
        self.org
    }

    async fn apply(&self, connection: &mut AsyncPgConnection) -> Result<(Self::Output, Vec<Entry>)> {
        let mut ledger = self.read(connection).await?;
        let written = self.writes.iter().map(|write| match write {
            Write::Attempt(new) => Written::Attempt(ledger.attempt(new)),
            Write::Result(new) => Written::Result(ledger.result(new)),
            Write::Collected(new) => Written::Collected(ledger.collected(new)),
        });
        let written = written.collect();
        let Ledger { roots: _, consents: _, attempts, held: _, used: _, new_used, new_attempts, new_ids } =
            ledger;
        let org = self.org;
        if !new_used.is_empty() {
            syncs::use_states(connection, org, &new_used).await?;
        }
        if !new_attempts.is_empty() {
            syncs::store(connection, org, &new_attempts).await?;
        }
        let changed: BTreeSet<Uuid> = new_attempts.keys().map(|(canonical, _)| *canonical).collect();
        let mut entries: Vec<Entry> = changed
            .iter()
            .filter_map(|canonical| Some(cache_entries::syncs(org, *canonical, attempts.get(canonical)?)))
            .collect();
        if !new_ids.is_empty() {
            vendor_ids::store(connection, org, &new_ids.values().collect::<Vec<_>>()).await?;
            let with_ids: BTreeSet<Uuid> = new_ids.keys().map(|(canonical, _)| *canonical).collect();
            let with_ids: Vec<Uuid> = with_ids.into_iter().collect();
            entries.extend(self.vendor_id_entries(connection, &with_ids).await?);
        }
        Ok((written, entries))
    }
}

impl Batch {
    /// Locks every visitor and reads what is stored for them.
    async fn read(&self, connection: &mut AsyncPgConnection) -> Result<Ledger> {
        let org = self.org;
        let browsers: BTreeSet<&str> = self.writes.iter().map(Write::browser).collect();
        let browsers: Vec<&str> = browsers.into_iter().collect();
        let roots = identities::lock_by_anonymous_ids(connection, org, &browsers).await?;
        if roots.is_empty() {
            return Ok(Ledger::default());
        }
        let consents = consent::find(connection, org, &browsers).await?;
        let canonicals: BTreeSet<Uuid> = roots.values().copied().collect();
        let canonicals: Vec<Uuid> = canonicals.into_iter().collect();
        let mut pairs = BTreeSet::new();
        for write in &self.writes {
            let Write::Result(NewResult { state: SyncState { anonymous_id, vendor, .. }, .. }) = write else {
                continue;
            };
            let browser = Identifier { kind: Kind::AnonymousId, value: anonymous_id.clone() };
            for digest in self.tombstones.digests(org, &browser) {
                pairs.insert(((anonymous_id.clone(), vendor.clone()), digest));
            }
        }
        let used = if pairs.is_empty() {
            HashMap::new()
        } else {
            syncs::used_states(connection, org, &pairs).await?
        };
        let mut held: HashMap<Uuid, Fields> = HashMap::new();
        if self.writes.iter().any(|write| matches!(write, Write::Collected(_))) {
            for row in vendor_ids::find(connection, org, &canonicals).await? {
                held.entry(row.canonical_id).or_default().insert(row.field.clone(), Held::of_row(&row));
            }
        }
        Ok(Ledger {
            roots,
            consents: consents.into_iter().map(|row| (row.anonymous_id.clone(), row)).collect(),
            attempts: syncs::find(connection, org, &canonicals).await?,
            held,
            used,
            ..Ledger::default()
        })
    }

    async fn vendor_id_entries(
        &self,
        connection: &mut AsyncPgConnection,
        canonicals: &[Uuid],
    ) -> Result<Vec<Entry>> {
        let org = self.org;
        let now = self.writes.iter().map(Write::now).max().unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (mut entries, known) = delivered::entries(connection, org, canonicals, now).await?;
        entries.extend(delivered::projections(connection, org, canonicals, &known, now).await?);
        Ok(entries)
    }
}
