//! How Redis follows PostgreSQL.
//!
//! A key is ready, or holds a marker instead of its value: a *busy* marker (30 s) while a writer commits, a
//! *fill* marker (2 s) while a reader loads. Every marker has a nonce, and a value only ever replaces the
//! marker of its own nonce.
//!
//! A writer locks the rows, marks the keys, commits, and puts the values. Row locks make marks follow commit
//! order: a later writer has seen what an earlier one committed. So
//! - a put that finds another's busy marker leaves it: that writer's value includes this one's change;
//! - a put that finds a value or a fill marker deletes it: it may have been read before this commit;
//! - a writer that dies leaves its marker, which ends in 30 s, and the key is loaded anew.
//!
//! Each script touches one key, so a Redis Cluster serves as well.

use std::fmt::Write;

use bb8_redis::redis::{self, Cmd, Pipeline, RedisResult, aio::MultiplexedConnection, cmd};

use super::{
    keys::{self, Key, Shape},
    lanes::Lanes,
    state,
};
use crate::error::Result;

/// Field of a hash that says whether it is ready. A field that begins with `_` is ours.
pub const VERSION_FIELD: &str = "_v";
/// Value of [`VERSION_FIELD`] in a hash that is ready.
pub const READY: &str = "1";
/// What every marker begins with; no value does.
const MARKER: char = '!';
const BUSY: &str = "!busy:";
const FILL: &str = "!fill:";
const BUSY_MS: u32 = 30_000;
const FILL_MS: u32 = 2_000;
/// A new identity's empty hashes live as long as any serving key, 30 days.
const NEW_MS: i64 = 30 * 24 * 3_600_000;

/// A value for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// For a text key.
    Text(String),
    /// Fields of a hash key; `_v` is added.
    Hash(Vec<(String, String)>),
    /// PostgreSQL knows nothing: the key goes.
    Nothing,
}

/// A key with its value and the value's life in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it belongs.
    pub key: Key,
    /// What it holds.
    pub value: Value,
    /// After that many milliseconds it is loaded anew. At least 1.
    pub ttl_ms: i64,
}

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

/// Names one writer or reader.
#[derive(Debug, Clone)]
pub struct Nonce(String);

impl Nonce {
    /// A nonce nobody else has.
    pub fn new() -> Self {
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = write!(text, "{:032x}", rand::random::<u128>());
        Self(text)
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn busy(&self) -> String {
        busy(&self.0)
    }

    fn fill(&self) -> String {
        format!("{FILL}{}", self.0)
    }
}

impl Default for Nonce {
    fn default() -> Self {
        Self::new()
    }
}

/// Its first write is one that Redis refuses where memory is full; after a DEL it would take any.
const MARK_HASH: &str = "redis.call('HSET', KEYS[1], '_v', ARGV[1]) \
    redis.call('DEL', KEYS[1]) \
    redis.call('HSET', KEYS[1], '_v', ARGV[1]) \
    return redis.call('PEXPIRE', KEYS[1], ARGV[2])";

const CLAIM_HASH: &str = "if redis.call('EXISTS', KEYS[1]) == 1 then return false end \
    redis.call('HSET', KEYS[1], '_v', ARGV[1]) \
    redis.call('PEXPIRE', KEYS[1], ARGV[2]) \
    return 'OK'";

/// ARGV: own marker, '1' for a writer, life in ms, then the value: nothing, a text, or fields and values.
const PUT: &str = "local hash = ARGV[4] == 'hash' \
    local now = hash and redis.call('HGET', KEYS[1], '_v') or not hash and redis.call('GET', KEYS[1]) \
    if now == ARGV[1] then \
      if #ARGV == 4 then redis.call('DEL', KEYS[1]) return 1 end \
      if hash then \
        redis.call('DEL', KEYS[1]) \
        redis.call('HSET', KEYS[1], unpack(ARGV, 5)) \
        redis.call('PEXPIRE', KEYS[1], ARGV[3]) \
      else redis.call('SET', KEYS[1], ARGV[5], 'PX', ARGV[3]) end \
      return 1 \
    end \
    if ARGV[2] == '1' and now and string.sub(now, 1, 6) ~= '!busy:' then redis.call('DEL', KEYS[1]) end \
    return 0";

/// Deletes a value that can't be trusted. ARGV: the marker of the writer that left the
/// repair; it has committed and comes no more. Says 0 where another writer is at work on it: its value may be older than
/// what is to be repaired, so the key has to be looked at again.
const INVALIDATE: &str = "local kind = redis.call('TYPE', KEYS[1]).ok \
    local now = kind == 'hash' and redis.call('HGET', KEYS[1], '_v') \
        or kind == 'string' and redis.call('GET', KEYS[1]) \
    if now and string.sub(now, 1, 6) == '!busy:' and now ~= ARGV[1] then return 0 end \
    redis.call('DEL', KEYS[1]) \
    return 1";

/// A key whose value may be old.
#[derive(Debug, Clone)]
pub struct Stale {
    /// Its name.
    pub key: String,
    /// Who could not write it, as [`Nonce::as_str`]; nobody is empty.
    pub writer: String,
}

/// What became of a value that was to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalidated {
    /// It is gone.
    Done,
    /// A writer has marked it; it is to be looked at again.
    Busy,
    /// It can't be: the name is none of ours, or Redis refuses this one.
    Failed,
}

impl Lanes {
    /// A writer's marker on every key, just before COMMIT.
    pub async fn mark(&self, keys: &[Key], nonce: &Nonce) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut pipe = Pipeline::new();
        for key in keys {
            match key.shape {
                Shape::Text => {
                    pipe.cmd("SET").arg(&key.name).arg(nonce.busy()).arg("PX").arg(BUSY_MS).ignore()
                }
                Shape::Hash => {
                    pipe.add_command(eval(MARK_HASH, &key.name)).arg(nonce.busy()).arg(BUSY_MS).ignore()
                }
            };
        }
        self.write(&pipe).await
    }

    /// A reader's marker on keys that were missing. Says for each whether this reader may fill it.
    pub async fn claim(&self, keys: &[Key], nonce: &Nonce) -> Result<Vec<bool>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = Pipeline::new();
        for key in keys {
            match key.shape {
                Shape::Text => {
                    pipe.cmd("SET").arg(&key.name).arg(nonce.fill()).arg("NX").arg("PX").arg(FILL_MS)
                }
                Shape::Hash => pipe.add_command(eval(CLAIM_HASH, &key.name)).arg(nonce.fill()).arg(FILL_MS),
            };
        }
        let answers: Vec<Option<String>> = self.pipeline(&pipe).await?;
        Ok(answers.iter().map(Option::is_some).collect())
    }

    /// A writer's values, after COMMIT.
    pub async fn put(&self, entries: &[Entry], nonce: &Nonce) -> Result<()> {
        self.put_as(entries, &nonce.busy(), true).await
    }

    /// A reader's values, for keys it has claimed.
    pub async fn fill(&self, entries: &[Entry], nonce: &Nonce) -> Result<()> {
        self.put_as(entries, &nonce.fill(), false).await
    }

    async fn put_as(&self, entries: &[Entry], marker: &str, writer: bool) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut pipe = Pipeline::new();
        for entry in entries {
            let shape = if entry.key.shape == Shape::Hash { "hash" } else { "text" };
            let put = pipe
                .add_command(eval(PUT, &entry.key.name))
                .arg(marker)
                .arg(u8::from(writer))
                .arg(entry.ttl_ms.max(1))
                .arg(shape);
            match &entry.value {
                Value::Nothing => {}
                Value::Text(text) => {
                    put.arg(text);
                }
                Value::Hash(fields) => {
                    put.arg(VERSION_FIELD).arg(READY);
                    for (field, value) in fields {
                        put.arg(field).arg(value);
                    }
                }
            }
            put.ignore();
        }
        self.write(&pipe).await
    }

    /// Hashes of an identity that was made just now, which know nothing yet. Set only where nothing is.
    pub async fn put_new(&self, hashes: &[Key]) -> Result<()> {
        if hashes.is_empty() {
            return Ok(());
        }
        let mut pipe = Pipeline::new();
        for key in hashes {
            pipe.hset_nx(&key.name, VERSION_FIELD, READY).ignore();
            pipe.cmd("PEXPIRE").arg(&key.name).arg(NEW_MS).arg("NX").ignore();
        }
        self.pipeline(&pipe).await
    }

    /// Drops values that may be wrong. An error is the server's; what is wrong with a single key spoils no other.
    pub async fn invalidate(&self, keys: &[Stale]) -> Result<Vec<Invalidated>> {
        let answers = self.write(&invalidations(keys)).await?;
        Ok(invalidated(keys, answers)?)
    }

    /// The same over a given connection.
    pub(super) async fn invalidate_over(
        connection: &mut MultiplexedConnection,
        keys: &[Stale],
    ) -> RedisResult<Vec<Invalidated>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        invalidated(keys, invalidations(keys).query_async(connection).await?)
    }

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

fn invalidations(keys: &[Stale]) -> Pipeline {
    let mut pipe = Pipeline::new();
    for Stale { key, writer } in keys {
        // The table could name anything; nothing but a serving key is ever deleted.
        if keys::serves(key) {
            pipe.add_command(eval(INVALIDATE, key)).arg(busy(writer));
        } else {
            pipe.exists(key);
        }
    }
    pipe.ignore_errors();
    pipe
}

fn invalidated(keys: &[Stale], answers: Vec<RedisResult<bool>>) -> RedisResult<Vec<Invalidated>> {
    let judge = |(stale, answer): (&Stale, RedisResult<bool>)| match answer {
        Ok(_) if !keys::serves(&stale.key) => Ok(Invalidated::Failed),
        Ok(true) => Ok(Invalidated::Done),
        Ok(false) => Ok(Invalidated::Busy),
        Err(error) if state::is_the_servers(&error) => Err(error),
        Err(_) => Ok(Invalidated::Failed),
    };
    keys.iter().zip(answers).map(judge).collect()
}

fn busy(writer: &str) -> String {
    format!("{BUSY}{writer}")
}

fn eval(script: &str, key: &str) -> Cmd {
    let mut command = cmd("EVAL");
    command.arg(script).arg(1).arg(key);
    command
}
