//! Making canonical identities for identifiers seen for the first time, grouped over requests.

use std::{collections::BTreeMap, time::Duration};

use diesel::sql_types::{Array, SmallInt, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use proto::v1::ErrorReason;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::identities;
use crate::{
    error::{Error, Result},
    identifiers::Identifier,
    storage::{Stores, batcher::Batcher, via::Via},
};
use migrations::prepared::Prepared;

/// The longest a batch's statements may take, whatever state the database is in.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The canonical identity of an identifier that was unknown to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// The ID of the canonical identity.
    pub canonical: Uuid,
    /// True where this call made it; otherwise another was first.
    pub created: bool,
}

struct WaitingIdentifier {
    org: Uuid,
    id: Identifier,
    via: Via,
    answer: oneshot::Sender<Option<Made>>,
}

/// Makes canonical identities for identifiers, in batches.
#[derive(Clone)]
pub struct Creator {
    batcher: Batcher<WaitingIdentifier>,
}

impl Creator {
    /// Starts the work on batches, which goes on as long as the runtime.
    pub fn start(stores: &Stores) -> Self {
        let stores = stores.clone();
        let work = move |batch| {
            let stores = stores.clone();
            async move { answer(&stores, batch).await }
        };
        Self { batcher: Batcher::start(work) }
    }

    /// Returns the canonical identity of `id`, made now if there is none. Conflict-safe: any number of
    /// callers on any number of instances get the same one.
    pub async fn get_or_create(&self, org: Uuid, id: Identifier, via: Via) -> Result<Made> {
        let (answer, made) = oneshot::channel();
        self.batcher.push(org, WaitingIdentifier { org, id, via, answer })?;
        made.await.ok().flatten().ok_or_else(|| Error::refused(ErrorReason::Unavailable))
    }
}

async fn answer(stores: &Stores, batch: Vec<WaitingIdentifier>) {
    let mut wanted: BTreeMap<(Uuid, Identifier), Via> = BTreeMap::new();
    for one in &batch {
        let via = wanted.entry((one.org, one.id.clone())).or_insert(one.via);
        *via = one.via.max(*via);
    }
    let mut made = make(stores, &wanted).await;
    if made.is_err()
        && wanted.keys().any(|(org, _)| wanted.keys().next().is_some_and(|(first, _)| first != org))
    {
        // One organisation that has just been deleted must not fail the others.
        let mut alone: BTreeMap<Uuid, BTreeMap<(Uuid, Identifier), Via>> = BTreeMap::new();
        for (key, via) in wanted {
            alone.entry(key.0).or_default().insert(key, via);
        }
        let mut all = BTreeMap::new();
        for wanted in alone.values() {
            all.extend(make(stores, wanted).await.unwrap_or_default());
        }
        made = Ok(all);
    }
    let mut made = made.unwrap_or_default();
    for one in batch {
        let key = (one.org, one.id);
        let answer = made.get(&key).copied();
        // Of several requests for one identifier the first is its maker.
        if let Some(entry) = made.get_mut(&key) {
            entry.created = false;
        }
        let _ = one.answer.send(answer);
    }
}

async fn make(
    stores: &Stores,
    wanted: &BTreeMap<(Uuid, Identifier), Via>,
) -> Result<BTreeMap<(Uuid, Identifier), Made>> {
    // The same in each try: where the first was carried out and its answer lost, the second finds them, and knows its
    // own by their IDs.
    let fresh: Vec<Uuid> = wanted.iter().map(|_| Uuid::now_v7()).collect();
    let work = async { retry_lost!({ create(&mut *stores.connection().await?, wanted, &fresh).await }) };
    let made = tokio::time::timeout(TIMEOUT, work).await;
    made.unwrap_or_else(|_| Err(Error::refused(ErrorReason::DeadlineExceeded))).inspect_err(|error| {
        serve::warn_on_change!(WARN, %error, waiting = wanted.len(), "canonical identities were not made");
        stores.leave_if_demoted(error);
    })
}

/// Inserts all in one statement, sorted and without doubles (by the map). Only where it left some out, as
/// they existed, does a look at all of them follow.
async fn create(
    connection: &mut AsyncPgConnection,
    wanted: &BTreeMap<(Uuid, Identifier), Via>,
    fresh: &[Uuid],
) -> Result<BTreeMap<(Uuid, Identifier), Made>> {
    let inserted = Prepared(
        diesel::sql_query(
            "WITH linked AS ( \
             INSERT INTO links (org_id, canonical_id, kind, value, via) \
             SELECT * FROM unnest($1, $2, $3, $4, $5) \
             ON CONFLICT (org_id, kind, value) DO NOTHING \
             RETURNING org_id, canonical_id) \
         INSERT INTO canonicals (org_id, id) SELECT org_id, canonical_id FROM linked",
        )
        .bind::<Array<SqlUuid>, _>(wanted.keys().map(|(org, _)| *org).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(fresh)
        .bind::<Array<SmallInt>, _>(wanted.keys().map(|(_, id)| id.kind.number()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(wanted.keys().map(|(_, id)| id.value.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(wanted.values().map(|via| via.word()).collect::<Vec<_>>()),
    )
    .execute(connection)
    .await?;
    let all = wanted.keys().cloned().zip(fresh.iter().copied());
    if inserted == wanted.len() {
        return Ok(all.map(|(key, canonical)| (key, Made { canonical, created: true })).collect());
    }

    let mut made = BTreeMap::new();
    let mut asked: BTreeMap<Uuid, (Vec<Identifier>, Vec<Uuid>)> = BTreeMap::new();
    for ((org, id), canonical) in all {
        let (ids, fresh) = asked.entry(org).or_default();
        ids.push(id);
        fresh.push(canonical);
    }
    for (org, (ids, fresh)) in asked {
        let roots = identities::find(connection, org, &ids).await?;
        for ((id, root), fresh) in ids.into_iter().zip(roots).zip(fresh) {
            if let Some(canonical) = root {
                made.insert((org, id), Made { canonical, created: canonical == fresh });
            }
        }
    }
    Ok(made)
}
