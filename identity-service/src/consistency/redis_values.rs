//! Keys as Redis holds them, compared by meaning: an expired ID is as good as none, and a missing field of
//! ours as one that says nothing.

use std::collections::{BTreeMap, BTreeSet};

use bb8_redis::redis::{RedisError, Value as Answer, aio::MultiplexedConnection, from_redis_value, pipe};
use serde_json::Value as Json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::storage::{
    cache_entries::{self, CONSENT_FIELD, DUE_FIELD, NEXT_FIELD, has_ended},
    redis::{
        keys::{Key, Shape},
        protocol::{Cached, Entry, VERSION_FIELD, Value, hash_state},
    },
};

/// The outcome of comparing one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Holds what PostgreSQL knows.
    Equal,
    /// Not there, which is always right.
    Absent,
    /// Marked, as a writer or a reader is at work on it.
    Busy,
    /// Holds something else than PostgreSQL knows.
    Different,
    /// Stands for nothing that PostgreSQL has.
    Orphan,
}

type Fields = BTreeMap<String, String>;

enum RedisValue {
    Text(Option<String>),
    Hash(Fields),
    /// Redis type that is not the key's own.
    Odd,
}

/// Compares entries with what Redis holds, and answers for each in order.
pub async fn compare(
    redis: &mut MultiplexedConnection,
    entries: &[Entry],
    now: OffsetDateTime,
) -> Result<Vec<Verdict>, RedisError> {
    let keys: Vec<&Key> = entries.iter().map(|entry| &entry.key).collect();
    let held = read(redis, &keys).await?;
    Ok(entries.iter().zip(&held).map(|(entry, held)| verdict(&entry.value, held, now)).collect())
}

async fn read(redis: &mut MultiplexedConnection, keys: &[&Key]) -> Result<Vec<RedisValue>, RedisError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipe = pipe();
    for key in keys {
        match key.shape {
            Shape::Text => pipe.get(&key.name),
            Shape::Hash => pipe.hgetall(&key.name),
        };
    }
    let answers: Vec<Result<Answer, RedisError>> = pipe.ignore_errors().query_async(redis).await?;
    let held = |(key, answer): (&&Key, Result<Answer, RedisError>)| {
        let held = answer.map(|answer| match key.shape {
            Shape::Text => from_redis_value(answer).map(RedisValue::Text),
            Shape::Hash => from_redis_value(answer).map(RedisValue::Hash),
        });
        held.ok().and_then(Result::ok).unwrap_or(RedisValue::Odd)
    };
    Ok(keys.iter().zip(answers).map(held).collect())
}

fn verdict(expected: &Value, held: &RedisValue, now: OffsetDateTime) -> Verdict {
    let state = match held {
        RedisValue::Text(text) => Cached::of(text.clone()),
        RedisValue::Hash(fields) if fields.is_empty() => Cached::Miss,
        // A value without `_v` is as good as none for readers, but not for other systems.
        RedisValue::Hash(fields) => match hash_state(fields.get(VERSION_FIELD).map(String::as_str)) {
            Cached::Miss => Cached::Hit(String::new()),
            // Something that it shows has ended: readers ask PostgreSQL until it is written anew.
            Cached::Hit(()) if has_ended(fields.get(NEXT_FIELD).map(String::as_str), now) == Some(true) => {
                Cached::Busy
            }
            state => state.parse(|()| Some(String::new())),
        },
        RedisValue::Odd => return Verdict::Different,
    };
    let equal = match (state, expected, held) {
        (Cached::Miss, ..) => return Verdict::Absent,
        (Cached::Busy, ..) => return Verdict::Busy,
        (Cached::Hit(text), Value::Text(expected), _) => {
            meaning("", &text, now) == meaning("", expected, now)
        }
        (_, Value::Hash(expected), RedisValue::Hash(fields)) => {
            meanings(expected.iter().map(|(name, text)| (name, text)), now) == meanings(fields, now)
        }
        _ => false,
    };
    if equal { Verdict::Equal } else { Verdict::Different }
}

/// True where a text says that a browser has sent no consent, which stands for no row.
pub fn says_nothing(text: &str, now: OffsetDateTime) -> bool {
    meaning(CONSENT_FIELD, text, now).is_none()
}

fn meanings<'a>(
    fields: impl IntoIterator<Item = (&'a String, &'a String)>,
    now: OffsetDateTime,
) -> BTreeMap<&'a str, Json> {
    let known = fields.into_iter().filter(|(name, _)| *name != VERSION_FIELD);
    let mut meanings: BTreeMap<&str, Json> =
        known.filter_map(|(name, text)| Some((name.as_str(), meaning(name, text, now)?))).collect();
    // A browser that has no ID where nobody has one any more.
    let shared: BTreeSet<&str> = meanings.keys().copied().filter(|name| !name.starts_with('_')).collect();
    let is_for_nothing = |name: &str| {
        let own = name.strip_prefix('_').and_then(|own| own.rsplit_once('@'));
        own.is_some_and(|(field, _)| !shared.contains(field))
    };
    meanings.retain(|name, json| !(json.is_null() && is_for_nothing(name)));
    meanings
}

/// Reads what a field's text means; none where that is nothing.
fn meaning(field: &str, text: &str, now: OffsetDateTime) -> Option<Json> {
    if field == DUE_FIELD || field.strip_prefix(DUE_FIELD).is_some_and(|own| own.starts_with('@')) {
        let mut due: Vec<&str> = text.split(' ').filter(|due| !due.is_empty()).collect();
        due.sort_unstable();
        let is_own = field != DUE_FIELD;
        return (is_own || !due.is_empty()).then(|| due.into());
    }
    let json = serde_json::from_str(text).unwrap_or_else(|_| Json::from(text));
    let expired = |at: &str| OffsetDateTime::parse(at, &Rfc3339).is_ok_and(|at| at <= now);
    if json.get("expires_at").and_then(Json::as_str).is_some_and(expired) {
        return None;
    }
    let nothing = || serde_json::to_value(cache_entries::consent_entry(None)).ok();
    if field == CONSENT_FIELD && Some(&json) == nothing().as_ref() { None } else { Some(json) }
}
