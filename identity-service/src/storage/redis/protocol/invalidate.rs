//! Dropping values that may be wrong.

use std::collections::BTreeSet;

use bb8_redis::redis::{Pipeline, RedisResult, aio::MultiplexedConnection};

use super::{busy, eval};
use crate::{
    error::Result,
    storage::redis::{
        client::RedisClient,
        keys::{self, Family, Key},
        state,
    },
};

/// Script that deletes a value that can't be trusted. ARGV: the marker of the writer that left the repair; it
/// has committed and comes no more. Says 0 where another writer is at work on it: its value may be older than
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
    /// Name of the key.
    pub key: String,
    /// The writer that could not write it, as [`super::Nonce::as_str`]; empty where there is none.
    pub writer: String,
}

/// The outcome for a value that was to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalidated {
    /// Dropped: the value is gone.
    Done,
    /// Marked by a writer; the key is to be looked at again.
    Busy,
    /// Kept, as it can't be dropped: the name is none of ours, or Redis refuses this one.
    Failed,
}

impl RedisClient {
    /// Drops values that may be wrong. An error is the server's; what is wrong with a single key spoils no other.
    pub async fn invalidate(&self, keys: &[Stale]) -> Result<Vec<Invalidated>> {
        let answers = self.write(&invalidations(keys)).await?;
        Ok(invalidated(keys, answers)?)
    }

    /// Drops keys that hold what is none of ours, so that they can be filled anew. A writer that is at work on one
    /// keeps it. Redis being away only means that they stay.
    pub async fn drop_junk(&self, keys: Vec<Key>) {
        if keys.is_empty() {
            return;
        }
        let kinds: BTreeSet<&str> =
            keys.iter().filter_map(|key| Family::of(&key.name)).map(Family::prefix).collect();
        serve::warn_on_change!(WARN, ?kinds, keys = keys.len(), "redis held what is none of ours");
        let stale: Vec<Stale> =
            keys.into_iter().map(|key| Stale { key: key.name, writer: String::new() }).collect();
        if let Err(error) = self.invalidate(&stale).await {
            tracing::debug!(%error, "not dropped");
        }
    }

    /// Drops values that may be wrong over a given connection, as [`RedisClient::invalidate`] does.
    pub(in crate::storage::redis) async fn invalidate_over(
        connection: &mut MultiplexedConnection,
        keys: &[Stale],
    ) -> RedisResult<Vec<Invalidated>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        invalidated(keys, invalidations(keys).query_async(connection).await?)
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
