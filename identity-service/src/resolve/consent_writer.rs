//! Storing consent signals, grouped over requests: one transaction replaces those of many browsers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use diesel_async::AsyncPgConnection;
use proto::v1::ErrorReason;
use time::OffsetDateTime;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    storage::{
        Stores,
        change::{self, Change},
        delivery, entries,
        group::Group,
        postgres::{consent, identities, rows::ConsentRow},
        redis::protocol::Entry,
    },
};

/// Stores consent.
#[derive(Clone)]
pub struct ConsentWriter {
    group: Group<Wanted>,
}

struct Wanted {
    rows: Vec<ConsentRow>,
    answer: oneshot::Sender<Vec<ConsentRow>>,
}

impl ConsentWriter {
    /// Starts writing; goes on as long as the runtime.
    pub fn start(stores: &Stores) -> Self {
        let stores = stores.clone();
        let work = move |org, batch| {
            let stores = stores.clone();
            async move { write(&stores, org, batch).await }
        };
        Self { group: Group::start_apart(work) }
    }

    /// Replaces the signals of browsers, and returns what is stored for them now.
    pub async fn store(&self, org: Uuid, rows: Vec<ConsentRow>) -> Result<Vec<ConsentRow>> {
        let (answer, stored) = oneshot::channel();
        self.group.push(org, Wanted { rows, answer })?;
        stored.await.map_err(|_| Error::refused(ErrorReason::Unavailable))
    }
}

/// One transaction. Requests whose signals could not be stored get no answer.
async fn write(stores: &Stores, org: Uuid, wanted: Vec<Wanted>) {
    let mut rows: BTreeMap<String, ConsentRow> = BTreeMap::new();
    for row in wanted.iter().flat_map(|one| &one.rows) {
        let mut row = row.clone();
        // The later signals count; Sec-GPC alone leaves the object of the earlier ones.
        if let Some(earlier) = rows.remove(&row.anonymous_id) {
            row.signals = row.signals.or(earlier.signals);
        }
        rows.insert(row.anonymous_id.clone(), row);
    }
    match change::commit(stores, Replace { org, rows: rows.into_values().collect() }).await {
        Ok(committed) => {
            let stored: HashMap<&str, &ConsentRow> =
                committed.output.iter().map(|row| (row.anonymous_id.as_str(), row)).collect();
            for one in wanted {
                let own = one.rows.iter().filter_map(|row| stored.get(row.anonymous_id.as_str()));
                let own = own.map(|row| (*row).clone()).collect();
                // A caller that has gone away needs no answer.
                let _ = one.answer.send(own);
            }
        }
        Err(error) => tracing::warn!(%error, waiting = wanted.len(), "consent was not stored"),
    }
}

/// New signals of browsers, sorted by their ID. Signals without an object (Sec-GPC alone) leave the stored
/// object as it is.
struct Replace {
    org: Uuid,
    rows: Vec<ConsentRow>,
}

impl Change for Replace {
    /// What is stored now.
    type Output = Vec<ConsentRow>;

    fn org(&self) -> Uuid {
        self.org
    }

    async fn apply(&self, connection: &mut AsyncPgConnection) -> Result<(Self::Output, Vec<Entry>)> {
        // The canonical identities first, as every change does: `cvid:` shows their newest consent.
        let browsers: Vec<&str> = self.rows.iter().map(|row| row.anonymous_id.as_str()).collect();
        let roots = identities::lock_by_anonymous_ids(connection, self.org, &browsers).await?;
        let canonicals: BTreeSet<Uuid> = roots.into_values().collect();
        let canonicals: Vec<Uuid> = canonicals.into_iter().collect();
        let stored = consent::store(connection, self.org, &self.rows).await?;
        let now = self.rows.first().map_or(OffsetDateTime::UNIX_EPOCH, |row| row.updated_at);
        let (mut changed, _) = delivery::entries(connection, self.org, &canonicals, now).await?;
        changed.extend(stored.iter().map(|row| entries::consent(self.org, &row.anonymous_id, Some(row))));
        Ok((stored, changed))
    }
}
