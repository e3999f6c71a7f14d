//! What keys say.

use bb8_redis::redis::{self, Pipeline};

use super::MARKER;
use crate::storage::redis::{client::Lanes, keys::Key};

/// What a text key says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// The value.
    Ready(String),
    /// Nothing; it may be filled.
    Missing,
    /// A marker: PostgreSQL is asked, and nothing filled.
    Marked,
}

impl Text {
    /// Judges what GET returned.
    pub fn of(answer: Option<String>) -> Self {
        match answer {
            None => Self::Missing,
            Some(text) if text.starts_with(MARKER) => Self::Marked,
            Some(text) => Self::Ready(text),
        }
    }
}

/// What a hash key says, from its `_v`.
pub fn hash_state(version: Option<&str>) -> Text {
    match version {
        None => Text::Missing,
        Some(text) if text.starts_with(MARKER) => Text::Marked,
        Some(_) => Text::Ready(String::new()),
    }
}

/// The bulk strings of an array, moved out of it; none for what is nil or no UTF-8.
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

impl Lanes {
    /// What text keys say, in one round trip. Where Redis is away every one is as if marked: PostgreSQL is
    /// asked, and nothing filled.
    pub async fn texts(&self, keys: &[Key]) -> Vec<Text> {
        if keys.is_empty() {
            return Vec::new();
        }
        let mut pipe = Pipeline::new();
        for key in keys {
            pipe.get(&key.name);
        }
        match self.pipeline::<Vec<Option<String>>>(&pipe).await {
            Ok(answers) => answers.into_iter().map(Text::of).collect(),
            Err(error) => {
                tracing::debug!(%error, "redis is away; serving from postgres");
                vec![Text::Marked; keys.len()]
            }
        }
    }
}
