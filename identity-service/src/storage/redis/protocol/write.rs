//! Putting markers and values.

use bb8_redis::redis::{Pipeline, Value as Answer};

use super::{Entry, Nonce, READY, VERSION_FIELD, Value, eval};
use crate::{
    error::Result,
    storage::redis::{
        client::RedisClient,
        keys::{Key, Shape},
    },
};

const BUSY_MS: u32 = 30_000;
const FILL_MS: u32 = 2_000;
/// Life of a new identity's empty hashes, 30 days as of any serving key.
const NEW_MS: i64 = 30 * 24 * 3_600_000;

/// Script that marks a hash, whatever type the key has. The first write is one that Redis refuses where memory is
/// full; after a DEL it would take any.
const MARK_HASH: &str = "redis.call('SET', KEYS[1], ARGV[1]) \
    redis.call('DEL', KEYS[1]) \
    redis.call('HSET', KEYS[1], '_v', ARGV[1]) \
    return redis.call('PEXPIRE', KEYS[1], ARGV[2])";

/// Script that puts a reader's marker. A hash without `_v` is none of ours, and looks to readers as if it were missing.
const CLAIM_HASH: &str = "if redis.call('EXISTS', KEYS[1]) == 1 then \
      if redis.call('TYPE', KEYS[1]).ok ~= 'hash' or redis.call('HGET', KEYS[1], '_v') then return false end \
      redis.call('DEL', KEYS[1]) \
    end \
    redis.call('HSET', KEYS[1], '_v', ARGV[1]) \
    redis.call('PEXPIRE', KEYS[1], ARGV[2]) \
    return 'OK'";

/// Script that puts a value in the place of its own marker. ARGV: own marker, '1' for a writer, life in ms,
/// 'hash' or 'string', then the value: nothing, a text, or fields and values. Lua unpacks less than 8,000 at once. What
/// came in the marker's place and is none of ours is dropped.
const PUT: &str = "local hash, kind = ARGV[4] == 'hash', redis.call('TYPE', KEYS[1]).ok \
    if kind ~= ARGV[4] then redis.call('DEL', KEYS[1]) return 0 end \
    local now = hash and redis.call('HGET', KEYS[1], '_v') or not hash and redis.call('GET', KEYS[1]) \
    if now == ARGV[1] then \
      if #ARGV == 4 then redis.call('DEL', KEYS[1]) return 1 end \
      if hash then \
        redis.call('DEL', KEYS[1]) \
        for i = 5, #ARGV, 4000 do \
          redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 3999, #ARGV))) \
        end \
        redis.call('PEXPIRE', KEYS[1], ARGV[3]) \
      else redis.call('SET', KEYS[1], ARGV[5], 'PX', ARGV[3]) end \
      return 1 \
    end \
    if not now or ARGV[2] == '1' and string.sub(now, 1, 6) ~= '!busy:' then redis.call('DEL', KEYS[1]) end \
    return 0";

impl RedisClient {
    /// Puts a writer's marker on the keys, just before COMMIT.
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
        let () = self.write(&pipe).await?;
        self.state().wrote();
        Ok(())
    }

    /// Puts a reader's marker on keys that are missing. Says for each whether this reader may fill it.
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
        let answers = self.pipeline(pipe).await?;
        Ok(answers.iter().map(|answer| *answer != Answer::Nil).collect())
    }

    /// Puts a writer's values, after COMMIT.
    pub async fn put(&self, entries: &[Entry], nonce: &Nonce) -> Result<()> {
        self.put_as(entries, &nonce.busy(), true).await
    }

    /// Puts a reader's values, for keys it has claimed.
    pub async fn fill(&self, entries: &[Entry], nonce: &Nonce) -> Result<()> {
        self.put_as(entries, &nonce.fill(), false).await
    }

    async fn put_as(&self, entries: &[Entry], marker: &str, writer: bool) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut pipe = Pipeline::new();
        for entry in entries {
            let shape = if entry.key.shape == Shape::Hash { "hash" } else { "string" };
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

    /// Puts hashes of an identity that was made just now, which know nothing yet. Set only where nothing is.
    pub async fn put_new(&self, hashes: &[Key]) -> Result<()> {
        if hashes.is_empty() {
            return Ok(());
        }
        let mut pipe = Pipeline::new();
        for key in hashes {
            pipe.hset_nx(&key.name, VERSION_FIELD, READY);
            pipe.cmd("PEXPIRE").arg(&key.name).arg(NEW_MS).arg("NX");
        }
        self.pipeline(pipe).await.map(drop)
    }
}
