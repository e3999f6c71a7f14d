//! Consent signals of a browser: read, compared, and written only when they changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{facts::Read, subject::Person};
use crate::{
    app::Core,
    error::Result,
    storage::{
        cache_entries::{self, ConsentEntry},
        postgres::{consent, rows::ConsentRow},
        read_through,
        redis::{
            keys::{self, Key},
            protocol::Text,
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

/// What Redis says of many browsers' signals.
pub struct Served<'a> {
    known: HashMap<String, ConsentEntry>,
    /// PostgreSQL is to be asked; whether Redis may be told then.
    unknown: Vec<(&'a str, bool)>,
}

/// Asks Redis, in one round trip.
pub async fn served<'a>(core: &Core, org: Uuid, anonymous_ids: &[&'a str]) -> Served<'a> {
    let asked: Vec<Key> = anonymous_ids.iter().map(|id| keys::consent(org, id)).collect();
    let answers = core.stores.redis.texts(&asked).await;
    let mut served = Served { known: HashMap::with_capacity(anonymous_ids.len()), unknown: Vec::new() };
    for (anonymous_id, answer) in anonymous_ids.iter().zip(answers) {
        if let Text::Ready(text) = &answer
            && let Ok(entry) = serde_json::from_str(text)
        {
            served.known.insert((*anonymous_id).to_owned(), entry);
        } else {
            served.unknown.push((anonymous_id, answer == Text::Missing));
        }
    }
    served
}

/// What is stored for them, with PostgreSQL's part. Redis is told of browsers that somebody `has`: of others it would
/// keep names that anybody made up, and those of the erased.
pub async fn stored(
    core: &Core,
    org: Uuid,
    served: Served<'_>,
    has: impl Fn(&str) -> bool,
) -> Result<HashMap<String, ConsentEntry>> {
    let Served { mut known, unknown } = served;
    if !unknown.is_empty() {
        let fillable = unknown.iter().filter(|(id, missing)| *missing && has(id));
        let missing: Vec<Key> = fillable.map(|(id, _)| keys::consent(org, id)).collect();
        let unknown: Vec<&str> = unknown.iter().map(|(id, _)| *id).collect();
        known.extend(load(core, org, &unknown, &missing).await?);
    }
    Ok(known)
}

/// The newest signals among the browsers of a canonical identity.
pub async fn newest(core: &Core, org: Uuid, canonical: Uuid) -> Result<ConsentEntry> {
    let mut connection = core.stores.connection().await?;
    let newest = consent::newest(&mut connection, org, &[canonical]).await?;
    Ok(cache_entries::consent_entry(newest.first().map(|(_, row)| row)))
}

async fn load(
    core: &Core,
    org: Uuid,
    anonymous_ids: &[&str],
    missing: &[Key],
) -> Result<HashMap<String, ConsentEntry>> {
    read_through::through(&core.stores, missing, async {
        let mut connection = core.stores.connection().await?;
        let rows = consent::find(&mut connection, org, anonymous_ids).await?;
        let rows: HashMap<&str, &ConsentRow> =
            rows.iter().map(|row| (row.anonymous_id.as_str(), row)).collect();
        let mut known = HashMap::with_capacity(anonymous_ids.len());
        let mut filled = Vec::with_capacity(anonymous_ids.len());
        for anonymous_id in anonymous_ids {
            let row = rows.get(anonymous_id).copied();
            known.insert((*anonymous_id).to_owned(), cache_entries::consent_entry(row));
            filled.push(cache_entries::consent(org, anonymous_id, row));
        }
        Ok((known, filled))
    })
    .await
}

/// Reads what the people of a request need and Redis did not answer. What can't be read stays unknown.
pub async fn read_rest(core: &Core, org: Uuid, people: &[&Person], read: &mut Read) {
    // A browser that is new gets its signals stored without a look at what may be there.
    let replaced: HashSet<&str> = people
        .iter()
        .filter(|person| replaces_unseen(person, read))
        .filter_map(|person| person.anonymous_id())
        .collect();
    let needed: BTreeSet<&str> = people.iter().filter_map(|person| person.needs_consent()).collect();
    let unknown: Vec<&str> =
        needed.into_iter().filter(|id| read.consent(id).is_none() && !replaced.contains(id)).collect();
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
        Err(error) => serve::failing!(WARN, %error, "consent can't be read"),
    }
}

/// The person's browser was made by this request, and comes with signals.
fn replaces_unseen(person: &Person, read: &Read) -> bool {
    let created = read.canonical(&person.primary).is_some_and(|known| known.created);
    created && person.consent.as_ref().is_some_and(|new| new.json.is_some())
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
    let mut unseen = HashSet::new();
    for person in people {
        let (Some(anonymous_id), Some(new)) = (person.anonymous_id(), &person.consent) else { continue };
        let (signals, sec_gpc) = wanted.entry(anonymous_id).or_default();
        *signals = new.json.as_deref().map(str::trim).or(*signals);
        *sec_gpc = new.sec_gpc;
        if replaces_unseen(person, read) {
            unseen.insert(anonymous_id);
        }
    }
    let mut failed = HashSet::new();
    let mut rows = Vec::with_capacity(wanted.len());
    for (anonymous_id, (signals, sec_gpc)) in wanted {
        let differs = match read.consent(anonymous_id) {
            Some(stored) => signals.is_some_and(|new| text(stored) != Some(new)) || stored.sec_gpc != sec_gpc,
            None if unseen.contains(anonymous_id) => true,
            None => {
                failed.insert(anonymous_id.to_owned());
                continue;
            }
        };
        if differs {
            let signals = signals.map(str::to_owned);
            let anonymous_id = anonymous_id.to_owned();
            rows.push(ConsentRow { anonymous_id, signals, sec_gpc, updated_at: now });
        }
    }
    if rows.is_empty() {
        return failed;
    }
    let browsers: Vec<String> = rows.iter().map(|row| row.anonymous_id.clone()).collect();
    match core.consents.store(org, rows).await {
        Ok(stored) => {
            for row in stored {
                read.learn_consent(&row.anonymous_id, cache_entries::consent_entry(Some(&row)));
            }
        }
        Err(error) => {
            serve::failing!(WARN, %error, browsers = browsers.len(), "consent was not stored");
            failed.extend(browsers);
        }
    }
    failed
}

/// The text of a stored consent object.
pub fn text(entry: &ConsentEntry) -> Option<&str> {
    entry.signals.as_deref().map(RawValue::get)
}
