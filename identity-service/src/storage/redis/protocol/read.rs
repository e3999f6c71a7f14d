//! Reading keys: values, markers, or nothing.

use bb8_redis::redis::{Pipeline, Value};

use super::{BUSY, FILL, READY};
use crate::storage::redis::{client::RedisClient, keys::Key};

/// The state of a key, with what it holds where it has a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cached<T = String> {
    /// The value.
    Hit(T),
    /// No value and no marker; the key may be filled.
    Miss,
    /// A marker: PostgreSQL is asked, and nothing filled.
    Busy,
    /// A value that is none of ours, or another Redis type: the key is to be dropped
    /// ([`RedisClient::drop_junk`]), and may be filled then.
    Junk,
}

impl Cached {
    /// Judges what GET returned.
    pub fn of(answer: Option<String>) -> Self {
        match answer {
            None => Self::Miss,
            Some(text) if is_marker(&text) => Self::Busy,
            Some(text) => Self::Hit(text),
        }
    }

    /// Judges the answer to a GET in a pipeline.
    pub fn read(answer: Value) -> Self {
        string(answer).map_or(Self::Junk, Self::of)
    }
}

impl<T> Cached<T> {
    /// Reads the value. One that can't be read is junk.
    pub fn parse<U>(self, read: impl FnOnce(T) -> Option<U>) -> Cached<U> {
        match self {
            Self::Hit(value) => read(value).map_or(Cached::Junk, Cached::Hit),
            Self::Miss => Cached::Miss,
            Self::Busy => Cached::Busy,
            Self::Junk => Cached::Junk,
        }
    }
}

/// Judges a hash key by its `_v`.
pub fn hash_state(version: Option<&str>) -> Cached<()> {
    match version {
        None => Cached::Miss,
        Some(READY) => Cached::Hit(()),
        Some(text) if is_marker(text) => Cached::Busy,
        Some(_) => Cached::Junk,
    }
}

fn is_marker(text: &str) -> bool {
    text.starts_with(BUSY) || text.starts_with(FILL)
}

/// Moves the bulk strings out of the answer to HMGET or HGETALL; none where the key is of another type, or holds what
/// is no text.
pub fn strings(answer: Value) -> Option<Vec<Option<String>>> {
    match answer {
        Value::Array(values) => values.into_iter().map(string).collect::<Result<_, _>>().ok(),
        _ => None,
    }
}

/// An answer that is neither text nor nil.
#[derive(Debug)]
struct NoText;

/// Moves the text out of an answer, which may be nil.
fn string(answer: Value) -> Result<Option<String>, NoText> {
    match answer {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| NoText),
        _ => Err(NoText),
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
        match self.pipeline(pipe).await {
            Ok(answers) => answers.into_iter().map(Cached::read).collect(),
            Err(error) => {
                tracing::debug!(%error, "redis is away; serving from postgres");
                vec![Cached::Busy; keys.len()]
            }
        }
    }
}
