//! Consent signals of a browser: read, compared, and written only when they changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bb8_redis::redis::Pipeline;
use diesel_async::AsyncPgConnection;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{read::Read, subject::Person};
use crate::{
    core::Core,
    error::Result,
    storage::{
        change::{self, Change},
        entries::{self, ConsentEntry},
        fill,
        postgres::{consent, identities, rows::ConsentRow, vendor_ids},
        redis::{
            keys::{self, Key},
            protocol::{Entry, Text},
        },
    },
};

/// Signals that came with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSignals {
    /// The consent object, verbatim; none where only Sec-GPC came.
    pub json: Option<String>,
    /// `Sec-GPC: 1`.
    pub sec_gpc: bool,
}

/// What is stored for each of many browsers.
pub async fn stored_many(
    core: &Core,
    org: Uuid,
    anonymous_ids: &[&str],
) -> Result<HashMap<String, ConsentEntry>> {
    if anonymous_ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut pipe = Pipeline::new();
    for anonymous_id in anonymous_ids {
        pipe.get(keys::consent(org, anonymous_id).name);
    }
    let answers: Vec<Text> = match core.stores.redis.pipeline::<Vec<Option<String>>>(&pipe).await {
        Ok(answers) => answers.into_iter().map(Text::of).collect(),
        Err(error) => {
            tracing::warn!(%error, "redis is away; serving from postgres");
            anonymous_ids.iter().map(|_| Text::Marked).collect()
        }
    };
    let mut known = HashMap::with_capacity(anonymous_ids.len());
    let mut unknown = Vec::new();
    let mut missing = Vec::new();
    for (anonymous_id, answer) in anonymous_ids.iter().zip(answers) {
        match &answer {
            Text::Ready(served) => {
                if let Ok(entry) = serde_json::from_str(served) {
                    known.insert((*anonymous_id).to_owned(), entry);
                    continue;
                }
            }
            Text::Missing => missing.push(keys::consent(org, anonymous_id)),
            Text::Marked => {}
        }
        unknown.push(*anonymous_id);
    }
    if !unknown.is_empty() {
        known.extend(load(core, org, &unknown, &missing).await?);
    }
    Ok(known)
}

async fn load(
    core: &Core,
    org: Uuid,
    anonymous_ids: &[&str],
    missing: &[Key],
) -> Result<HashMap<String, ConsentEntry>> {
    fill::through(&core.stores, missing, async {
        let mut connection = core.stores.postgres.get().await?;
        let rows = consent::find(&mut connection, org, anonymous_ids).await?;
        let mut known = HashMap::with_capacity(anonymous_ids.len());
        let mut filled = Vec::with_capacity(anonymous_ids.len());
        for anonymous_id in anonymous_ids {
            let row = rows.iter().find(|row| row.anonymous_id == *anonymous_id);
            known.insert((*anonymous_id).to_owned(), entries::consent_entry(row));
            filled.push(entries::consent(org, anonymous_id, row));
        }
        Ok((known, filled))
    })
    .await
}

/// Reads what the people of a request need and Redis did not answer. What can't be read stays unknown.
pub async fn read_rest(core: &Core, org: Uuid, people: &[&Person], read: &mut Read) {
    let needed: BTreeSet<&str> = people.iter().filter_map(|person| person.needs_consent()).collect();
    let unknown: Vec<&str> = needed.into_iter().filter(|id| read.consent(id).is_none()).collect();
    if unknown.is_empty() {
        return;
    }
    let missing: Vec<Key> =
        unknown.iter().filter(|id| read.is_consent_fillable(id)).map(|id| keys::consent(org, id)).collect();
    match load(core, org, &unknown, &missing).await {
        Ok(loaded) => {
            for (anonymous_id, entry) in loaded {
                read.learn_consent(&anonymous_id, entry);
            }
        }
        Err(error) => tracing::warn!(%error, "consent can't be read"),
    }
}

/// Stores the signals that came with a request, in one transaction, where they differ from what is stored.
/// Returns the browsers whose signals could not be stored.
pub async fn replace(
    core: &Core,
    org: Uuid,
    people: &[&Person],
    read: &mut Read,
    now: OffsetDateTime,
) -> HashSet<String> {
    let mut wanted: BTreeMap<&str, (Option<&str>, bool)> = BTreeMap::new();
    let mut failed = HashSet::new();
    for person in people {
        let (Some(anonymous_id), Some(new)) = (&person.anonymous_id, &person.consent) else { continue };
        let Some(stored) = read.consent(anonymous_id) else {
            failed.insert(anonymous_id.clone());
            continue;
        };
        // Signals without an object (Sec-GPC alone) leave the object as it is.
        let before = wanted.get(anonymous_id.as_str()).map_or_else(|| text(stored), |(signals, _)| *signals);
        wanted.insert(anonymous_id, (new.json.as_deref().map(str::trim).or(before), new.sec_gpc));
    }
    let rows: Vec<ConsentRow> = wanted
        .into_iter()
        .filter(|(anonymous_id, (signals, sec_gpc))| {
            read.consent(anonymous_id).is_none_or(|s| text(s) != *signals || s.sec_gpc != *sec_gpc)
        })
        .map(|(anonymous_id, (signals, sec_gpc))| ConsentRow {
            anonymous_id: anonymous_id.to_owned(),
            signals: signals.map(str::to_owned),
            sec_gpc,
            updated_at: now,
        })
        .collect();
    if rows.is_empty() {
        return failed;
    }
    match change::commit(&core.stores, Replace { org, rows: rows.clone() }).await {
        Ok(_) => {
            for row in rows {
                read.learn_consent(&row.anonymous_id, entries::consent_entry(Some(&row)));
            }
        }
        Err(error) => {
            tracing::warn!(%error, browsers = rows.len(), "consent was not stored");
            failed.extend(rows.into_iter().map(|row| row.anonymous_id));
        }
    }
    failed
}

/// New signals of browsers, sorted by their ID.
struct Replace {
    org: Uuid,
    rows: Vec<ConsentRow>,
}

impl Change for Replace {
    type Output = ();

    fn org(&self) -> Uuid {
        self.org
    }

    async fn apply(&self, connection: &mut AsyncPgConnection) -> Result<((), Vec<Entry>)> {
        // The canonical identities first, as every change does: `cvid:` shows their newest consent.
        let browsers: Vec<&str> = self.rows.iter().map(|row| row.anonymous_id.as_str()).collect();
        let canonicals = identities::lock_by_anonymous_ids(connection, self.org, &browsers).await?;
        consent::store(connection, self.org, &self.rows).await?;
        let ids = vendor_ids::find(connection, self.org, &canonicals).await?;
        let newest = consent::newest(connection, self.org, &canonicals).await?;
        let now = self.rows.first().map_or(OffsetDateTime::UNIX_EPOCH, |row| row.updated_at);
        let mut changed: Vec<Entry> =
            self.rows.iter().map(|row| entries::consent(self.org, &row.anonymous_id, Some(row))).collect();
        for canonical in canonicals {
            let own: Vec<_> = ids.iter().filter(|row| row.canonical_id == canonical).cloned().collect();
            let newest = newest.iter().find(|(id, _)| *id == canonical).map(|(_, row)| row);
            changed.push(entries::vendor_ids(self.org, canonical, &own, newest, now));
        }
        Ok(((), changed))
    }
}

/// The text of a stored consent object.
pub fn text(entry: &ConsentEntry) -> Option<&str> {
    entry.signals.as_deref().map(RawValue::get)
}
