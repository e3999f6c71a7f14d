//! Consent signals of a browser: read, compared, and written only when they changed.

use std::collections::HashMap;

use bb8_redis::redis::Pipeline;
use diesel_async::AsyncPgConnection;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

use super::read::Read;
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

/// What is stored for a browser, where Redis has not answered it for this request already.
pub async fn stored(core: &Core, org: Uuid, anonymous_id: &str, read: &mut Read) -> Result<ConsentEntry> {
    if let Text::Ready(served) = read.consent(anonymous_id)
        && let Ok(entry) = serde_json::from_str(served)
    {
        return Ok(entry);
    }
    let missing = match read.consent(anonymous_id) {
        Text::Missing => vec![keys::consent(org, anonymous_id)],
        Text::Ready(_) | Text::Marked => Vec::new(),
    };
    let mut loaded = load(core, org, &[anonymous_id], &missing).await?;
    let entry = loaded.remove(anonymous_id).unwrap_or_else(|| entries::consent_entry(None));
    learn(read, anonymous_id, &entry);
    Ok(entry)
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

/// Replaces what is stored, if the signals differ from it. Signals without an object (Sec-GPC alone) leave
/// the stored object as it is.
pub async fn replace(
    core: &Core,
    org: Uuid,
    anonymous_id: &str,
    new: &NewSignals,
    read: &mut Read,
    now: OffsetDateTime,
) -> Result<()> {
    let stored = stored(core, org, anonymous_id, read).await?;
    let before = stored.signals.as_ref().map(|raw| raw.get());
    let signals = new.json.as_deref().map(str::trim).or(before);
    if signals == before && new.sec_gpc == stored.sec_gpc {
        return Ok(());
    }
    let row = ConsentRow {
        anonymous_id: anonymous_id.to_owned(),
        signals: signals.map(str::to_owned),
        sec_gpc: new.sec_gpc,
        updated_at: now,
    };
    let entry = entries::consent_entry(Some(&row));
    change::commit(&core.stores, Replace { org, row }).await?;
    learn(read, anonymous_id, &entry);
    Ok(())
}

fn learn(read: &mut Read, anonymous_id: &str, entry: &ConsentEntry) {
    if let Ok(served) = serde_json::to_string(entry) {
        read.learn_consent(anonymous_id, served);
    }
}

struct Replace {
    org: Uuid,
    row: ConsentRow,
}

impl Change for Replace {
    type Output = ();

    fn org(&self) -> Uuid {
        self.org
    }

    async fn apply(&self, connection: &mut AsyncPgConnection) -> Result<((), Vec<Entry>)> {
        // The canonical identity first, as every change does: `cvid:` shows its newest consent.
        let anonymous_id = &self.row.anonymous_id;
        let canonical = identities::lock_by_anonymous_id(connection, self.org, anonymous_id).await?;
        consent::store(connection, self.org, &self.row).await?;
        let mut changed = vec![entries::consent(self.org, anonymous_id, Some(&self.row))];
        if let Some(canonical) = canonical {
            let ids = vendor_ids::find(connection, self.org, &[canonical]).await?;
            let newest = Some(&self.row);
            changed.push(entries::vendor_ids(self.org, canonical, &ids, newest, self.row.updated_at));
        }
        Ok(((), changed))
    }
}

/// The text of a stored consent object.
pub fn text(entry: &ConsentEntry) -> Option<&str> {
    entry.signals.as_deref().map(RawValue::get)
}
