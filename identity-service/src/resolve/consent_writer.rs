//! Storing consent signals, grouped over requests: one transaction replaces those of many browsers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use diesel_async::AsyncPgConnection;
use metrics::counter;
use proto::v1::ErrorReason;
use time::OffsetDateTime;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    withdrawal::{Purged, Withdrawals},
    withheld,
};
use crate::{
    error::{Error, Result},
    identifiers::{Identifier, Kind},
    settings::{Settings, Snapshot},
    storage::{
        Stores,
        batcher::Batcher,
        cache_entries,
        change::{self, Change},
        postgres::{consent, identities, rows::ConsentRow},
        redis::protocol::Entry,
    },
    vendor_ids::{entries, ties::Ties},
};

/// Stores consent signals, grouped over requests.
#[derive(Clone)]
pub struct ConsentWriter {
    batcher: Batcher<WaitingSignals>,
}

struct WaitingSignals {
    rows: Vec<ConsentRow>,
    answer: oneshot::Sender<Vec<ConsentRow>>,
}

impl ConsentWriter {
    /// Starts the writer, which goes on as long as the runtime.
    pub fn start(stores: &Stores, settings: &Settings) -> Self {
        let (stores, settings) = (stores.clone(), settings.clone());
        let work = move |org, batch| {
            let (stores, settings) = (stores.clone(), settings.clone());
            async move { write(&stores, &settings, org, batch).await }
        };
        Self { batcher: Batcher::start_apart(work) }
    }

    /// Replaces the signals of browsers, and returns what is stored for them now.
    pub async fn store(&self, org: Uuid, rows: Vec<ConsentRow>) -> Result<Vec<ConsentRow>> {
        let (answer, stored) = oneshot::channel();
        self.batcher.push(org, WaitingSignals { rows, answer })?;
        stored.await.map_err(|_| Error::refused(ErrorReason::Unavailable))
    }
}

/// Replaces the signals of a batch of requests in one transaction. Requests whose signals could not be stored
/// get no answer.
async fn write(stores: &Stores, settings: &Settings, org: Uuid, waiting: Vec<WaitingSignals>) {
    let mut rows: BTreeMap<String, ConsentRow> = BTreeMap::new();
    for row in waiting.iter().flat_map(|one| &one.rows) {
        let mut row = row.clone();
        // The later signals count; Sec-GPC alone leaves the object of the earlier ones.
        if let Some(earlier) = rows.remove(&row.anonymous_id) {
            row.signals = row.signals.or(earlier.signals);
        }
        rows.insert(row.anonymous_id.clone(), row);
    }
    match replace(stores, settings, org, rows.into_values().collect()).await {
        Ok((stored, purged)) => {
            withdrawn(stores, org, &purged).await;
            let stored: HashMap<&str, &ConsentRow> =
                stored.iter().map(|row| (row.anonymous_id.as_str(), row)).collect();
            for one in waiting {
                let own = one.rows.iter().filter_map(|row| stored.get(row.anonymous_id.as_str()));
                let own = own.map(|row| (*row).clone()).collect();
                // A caller that has gone away needs no answer.
                let _ = one.answer.send(own);
            }
        }
        Err(error) => serve::warn_on_change!(WARN, %error, waiting = waiting.len(), "consent was not stored"),
    }
}

async fn replace(
    stores: &Stores,
    settings: &Settings,
    org: Uuid,
    rows: Vec<ConsentRow>,
) -> Result<(Vec<ConsentRow>, Purged)> {
    let snapshot = settings.current().await?;
    Ok(change::commit(stores, Replace { org, rows, snapshot }).await?.output)
}

/// Counts what was removed, and lets its vendors be offered again.
async fn withdrawn(stores: &Stores, org: Uuid, purged: &Purged) {
    for (vendor, removed) in &purged.ids {
        counter!("datafly_consent_purged_total", "vendor" => *vendor).increment(*removed);
    }
    // Leases are gone within a minute anyway.
    if let Err(error) = stores.redis.end_offers(org, &purged.offers).await {
        tracing::debug!(%error, "leases end by themselves");
    }
}

/// New signals of browsers, sorted by their ID. Signals without an object (Sec-GPC alone) leave the stored
/// object as it is.
struct Replace {
    org: Uuid,
    rows: Vec<ConsentRow>,
    snapshot: Arc<Snapshot>,
}

impl Change for Replace {
    /// The signals that are stored now, and what was removed.
    type Output = (Vec<ConsentRow>, Purged);

    fn org(&self) -> Uuid {
        self.org
    }

    async fn apply(&self, connection: &mut AsyncPgConnection) -> Result<(Self::Output, Vec<Entry>)> {
        // The canonical identities first, as every change does: `cvid:` shows their newest consent.
        let browsers: Vec<&str> = self.rows.iter().map(|row| row.anonymous_id.as_str()).collect();
        let id = |value: &&str| Identifier { kind: Kind::AnonymousId, value: (*value).to_owned() };
        let ids: Vec<Identifier> = browsers.iter().map(id).collect();
        let (roots, linked) = identities::lock_by_ids(connection, self.org, &ids).await?;
        let roots: HashMap<String, Uuid> = roots.into_iter().map(|(id, root)| (id.value, root)).collect();
        let purging = self.snapshot.purging(self.org);
        let before = match purging {
            [] => Vec::new(),
            _ => consent::find(connection, self.org, &browsers).await?,
        };
        let stored = consent::store(connection, self.org, &self.rows).await?;
        let ties = linked.into_iter().map(|(canonical, links)| (canonical, Ties::new(links))).collect();
        let mut known = entries::load_ids(connection, self.org, ties).await?;
        let withdrawals = Withdrawals::find(purging, &roots, &before, &stored);
        let (purged, mut changed) = withdrawals.purge(connection, self.org, &mut known).await?;
        let mut projected = withheld::note(connection, self.org, &self.snapshot, &mut known, &stored).await?;
        projected.extend(&purged.canonicals);
        let now = self.rows.first().map_or(OffsetDateTime::UNIX_EPOCH, |row| row.updated_at);
        changed.extend(entries::delivered(connection, self.org, &known, now).await?);
        let projected = projected.iter().filter_map(|canonical| known.get(canonical));
        changed.extend(entries::projections(self.org, projected, now));
        changed
            .extend(stored.iter().map(|row| cache_entries::consent(self.org, &row.anonymous_id, Some(row))));
        Ok(((stored, purged), changed))
    }
}
