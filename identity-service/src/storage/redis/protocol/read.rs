//! Reading keys: values, markers, or nothing.

use bb8_redis::redis::{self, Pipeline};

use super::MARKER;
use crate::storage::redis::{client::RedisClient, keys::Key};

/// The state of a key, with its text where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cached {
    /// The value of a text key; empty for a hash.
    Hit(String),
    /// No value and no marker; the key may be filled.
    Miss,
    /// A marker: PostgreSQL is asked, and nothing filled.
    Busy,
}

impl Cached {
    /// Judges what GET returned.
    pub fn of(answer: Option<String>) -> Self {
        match answer {
            None => Self::Miss,
            Some(text) if text.starts_with(MARKER) => Self::Busy,
            Some(text) => Self::Hit(text),
        }
    }
}

/// Judges a hash key by its `_v`.
pub fn hash_state(version: Option<&str>) -> Cached {
    match version {
        None => Cached::Miss,
        Some(text) if text.starts_with(MARKER) => Cached::Busy,
        Some(_) => Cached::Hit(String::new()),
    }
}

/// Moves the bulk strings out of an array; none for what is nil or no UTF-8.
pub fn strings(answer: redis::Value) -> Vec<Option<String>> {
    let string = |value| match value {
        redis::Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        _ => None,
    };
    match answer {
        redis::Value::Array(values) => values.into_iter().map(string).collect(),
        _ => Vec::new(),
    }
}

impl RedisClient {
    /// Reads text keys in one round trip. Where Redis is away each counts as marked: PostgreSQL is asked, and
    /// nothing filled.
    pub async fn texts(&self, keys: &[Key]) -> Vec<Cached> {
        if keys.is_empty() {
            return Vec::new();
        }
        let mut pipe = Pipeline::new();
        for key in keys {
            pipe.get(&key.name);
        }
        match self.pipeline::<Vec<Option<String>>>(&pipe).await {
            Ok(answers) => answers.into_iter().map(Cached::of).collect(),
            Err(error) => {
                tracing::debug!(%error, "redis is away; serving from postgres");
                vec![Cached::Busy; keys.len()]
            }
        }
    }
}
