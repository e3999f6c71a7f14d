//! Changing the graph, grouped over requests: events that come while a transaction runs wait together and go
//! into the next one, so that many logins cost PostgreSQL little more than one, and those of one person never
//! wait for each other's locks.

use std::{collections::BTreeMap, sync::Arc};

use proto::v1::ErrorReason;
use time::OffsetDateTime;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    Claims,
    transaction::{Identified, Identify, Outcome},
};
use crate::{
    error::{Error, Result},
    identifiers::Identifier,
    pii::tombstone::TombstoneKeys,
    storage::{Stores, batcher::Batcher, change},
};

/// Changes the graph, grouped over requests.
#[derive(Clone)]
pub struct GraphWriter {
    batcher: Batcher<WaitingEvents>,
}

struct WaitingEvents {
    people: Vec<Claims>,
    now: OffsetDateTime,
    answer: oneshot::Sender<Changed>,
}

/// Result of the events of one request.
#[derive(Debug, Default)]
pub struct Changed {
    /// Canonical identity of each identifier that the request names, and true where it was made for this
    /// request.
    pub homes: BTreeMap<Identifier, (Uuid, bool)>,
    /// Outcomes, one an event, in their order.
    pub outcomes: Vec<Outcome>,
}

impl GraphWriter {
    /// Starts the writer, which goes on as long as the runtime.
    pub fn start(stores: &Stores, tombstones: &Arc<TombstoneKeys>) -> Self {
        let (stores, tombstones) = (stores.clone(), tombstones.clone());
        let work = move |org, batch| {
            let (stores, tombstones) = (stores.clone(), tombstones.clone());
            async move { write(&stores, &tombstones, org, batch).await }
        };
        Self { batcher: Batcher::start_apart(work) }
    }

    /// Applies what a request's events say, in order.
    pub async fn identify(&self, org: Uuid, people: Vec<Claims>, now: OffsetDateTime) -> Result<Changed> {
        let (answer, changed) = oneshot::channel();
        self.batcher.push(org, WaitingEvents { people, now, answer })?;
        changed.await.map_err(|_| Error::refused(ErrorReason::Unavailable))
    }
}

/// Most events of one transaction; those of one request are never divided.
const MAX_EVENTS: usize = 1000;

/// Applies a group of requests in one transaction, or in more where they have many events. Requests that
/// could not be stored get no answer.
async fn write(stores: &Stores, tombstones: &Arc<TombstoneKeys>, org: Uuid, mut waiting: Vec<WaitingEvents>) {
    while !waiting.is_empty() {
        let mut events = 0;
        let later = waiting.iter().position(|one| {
            let is_full = events > 0 && events + one.people.len() > MAX_EVENTS;
            events += one.people.len();
            is_full
        });
        let later = waiting.split_off(later.unwrap_or(waiting.len()));
        commit(stores, tombstones, org, waiting).await;
        waiting = later;
    }
}

async fn commit(stores: &Stores, tombstones: &Arc<TombstoneKeys>, org: Uuid, waiting: Vec<WaitingEvents>) {
    let now = waiting.iter().map(|one| one.now).max().unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let people = waiting.iter().flat_map(|one| one.people.iter().cloned()).collect();
    let change = Identify { org, people, tombstones: tombstones.clone(), now };
    match change::commit(stores, change).await {
        Ok(committed) => answer(waiting, committed.output),
        Err(error) => {
            serve::warn_on_change!(WARN, %error, waiting = waiting.len(), "identifiers were not linked");
        }
    }
}

fn answer(waiting: Vec<WaitingEvents>, identified: Identified) {
    let Identified { mut homes, outcomes } = identified;
    let mut outcomes = outcomes.into_iter();
    for one in waiting {
        let mut changed = Changed::default();
        for person in one.people {
            changed.outcomes.extend(outcomes.next());
            for id in person.named() {
                if let Some(home) = homes.get(id) {
                    changed.homes.insert(id.clone(), *home);
                }
            }
        }
        // Of several requests for one identifier the first is its maker.
        for id in changed.homes.keys() {
            if let Some(home) = homes.get_mut(id) {
                home.1 = false;
            }
        }
        // A caller that has gone away needs no answer.
        let _ = one.answer.send(changed);
    }
}
