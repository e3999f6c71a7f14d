//! Profiles of identities, as providers have said them: soft, and dropped with every change of the identity.
//!
//! Whoever finds out something new learns the key's generation before they read what the identity is known by, and
//! adds to that generation alone. A change drops the key, and so what was found out by what was known before it.

use bb8_redis::redis::{Pipeline, Value, cmd};
use uuid::Uuid;

use super::{
    client::RedisClient,
    keys,
    protocol::{self, Cached, VERSION_FIELD},
};
use crate::error::Result;

/// Field with the generation of a key. A field of ours.
const GENERATION_FIELD: &str = "_g";
/// Life of a key to which nothing is added.
const LIFE_MS: i64 = 60 * 60 * 1000;
/// Most fields of a key: a page whose every event has another context would fill it.
const MAX_FIELDS: usize = 32;
/// Life of a count of calls.
const COUNT_LIFE_S: u32 = 5;

/// Script that gives the generation of a key, a new one where there is no key; nothing while a change is under way.
/// ARGV: a new generation, life in ms.
const OPEN: &str = "if redis.call('TYPE', KEYS[1]).ok == 'hash' then \
      local version = redis.call('HGET', KEYS[1], '_v') \
      if version == '1' then return redis.call('HGET', KEYS[1], '_g') end \
      if version then return false end \
    end \
    redis.call('DEL', KEYS[1]) \
    redis.call('HSET', KEYS[1], '_v', '1', '_g', ARGV[1]) \
    redis.call('PEXPIRE', KEYS[1], ARGV[2]) \
    return ARGV[1]";

/// Script that adds to a key of that generation. ARGV: generation, most fields, field, value, life in ms.
const ADD: &str = "if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return 0 end \
    if redis.call('HGET', KEYS[1], '_v') ~= '1' or redis.call('HGET', KEYS[1], '_g') ~= ARGV[1] then return 0 end \
    if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[2]) and redis.call('HEXISTS', KEYS[1], ARGV[3]) == 0 then \
      return redis.call('DEL', KEYS[1]) \
    end \
    redis.call('HSET', KEYS[1], ARGV[3], ARGV[4]) \
    if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[5]) then redis.call('PEXPIRE', KEYS[1], ARGV[5]) end \
    return 1";

/// The fields of an identity's profiles.
pub type ProfileFields = Vec<(String, String)>;

impl RedisClient {
    /// Reads the profiles of identities, in one round trip; nothing where Redis is away.
    pub async fn profiles(&self, org: Uuid, canonicals: &[Uuid]) -> Vec<ProfileFields> {
        if canonicals.is_empty() {
            return Vec::new();
        }
        let mut pipe = Pipeline::new();
        for canonical in canonicals {
            pipe.hgetall(keys::profiles(org, *canonical).name);
        }
        match self.pipeline(pipe).await {
            Ok(answers) => answers.into_iter().map(fields).collect(),
            Err(error) => {
                tracing::debug!(%error, "redis is away; profiles are not known");
                vec![Vec::new(); canonicals.len()]
            }
        }
    }

    /// The generation of an identity's profiles, for who is about to find out something; none while a change is under
    /// way.
    pub async fn open_profiles(&self, org: Uuid, canonical: Uuid) -> Result<Option<String>> {
        let mut command = cmd("EVAL");
        command.arg(OPEN).arg(1).arg(keys::profiles(org, canonical).name);
        command.arg(format!("{:032x}", rand::random::<u128>())).arg(LIFE_MS);
        self.command(&command).await
    }

    /// Adds what was found out to the profiles of that generation.
    pub async fn add_profile(
        &self,
        org: Uuid,
        canonical: Uuid,
        generation: &str,
        (field, value): (&str, &str),
    ) -> Result<()> {
        let mut command = cmd("EVAL");
        command.arg(ADD).arg(1).arg(keys::profiles(org, canonical).name);
        command.arg(generation).arg(MAX_FIELDS).arg(field).arg(value).arg(LIFE_MS);
        let _: i64 = self.command(&command).await?;
        Ok(())
    }

    /// Counts a call of a provider in that second, and tells the number of them.
    pub async fn count_call(&self, org: Uuid, provider: Uuid, second: i64) -> Result<i64> {
        let key = keys::calls(org, provider, second);
        let mut pipe = Pipeline::new();
        pipe.incr(&key, 1).expire(&key, COUNT_LIFE_S.into()).ignore();
        let (count,): (i64,) = self.write(&pipe).await?;
        Ok(count)
    }
}

/// The fields of a key that is ready.
fn fields(answer: Value) -> ProfileFields {
    let mut texts = protocol::strings(answer).unwrap_or_default().into_iter();
    let pairs: ProfileFields = std::iter::from_fn(|| Some((texts.next()??, texts.next()??))).collect();
    let version = pairs.iter().find(|(name, _)| name == VERSION_FIELD).map(|(_, version)| version.as_str());
    match protocol::hash_state(version) {
        Cached::Hit(()) => pairs.into_iter().filter(|(name, _)| name != GENERATION_FIELD).collect(),
        Cached::Miss | Cached::Busy | Cached::Junk => Vec::new(),
    }
}
