//! Leases on offered syncs, so that two tabs of one browser do not fire the same one.

use std::collections::{BTreeMap, BTreeSet};

use bb8_redis::redis::{Pipeline, cmd};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{client::RedisClient, keys};
use crate::{clock, error::Result, storage::cache_entries};

/// The time for which an offered sync is not offered again.
const LEASE: Duration = Duration::seconds(60);

/// Script that takes leases. ARGV: now in ms, life in ms, limit, leases in order of preference. Returns
/// those that were free. A key of another type is none of ours and goes; an end that is no number, or further away than
/// any that we write ([`is_running`]), ends nothing.
const TAKE: &str = "local taken = {} \
    if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end \
    for i = 4, #ARGV do \
      if #taken >= tonumber(ARGV[3]) then break end \
      local left = (tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or '') or 0) - ARGV[1] \
      if not (left > 0 and left <= 2 * ARGV[2]) then \
        redis.call('HSET', KEYS[1], ARGV[i], ARGV[1] + ARGV[2]) \
        taken[#taken + 1] = ARGV[i] \
      end \
    end \
    if #taken > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end \
    return taken";

/// True where a lease that ends then is taken. Clocks may differ by another life of it.
pub fn is_running(ends_ms: i64, now: OffsetDateTime) -> bool {
    let left = ends_ms.saturating_sub(clock::unix_ms(now));
    (1..=2 * cache_entries::millis(LEASE)).contains(&left)
}

impl RedisClient {
    /// Takes at most `limit` of `leases`, in that order, and returns those that it got.
    pub async fn take_offers(
        &self,
        org: Uuid,
        canonical: Uuid,
        leases: &[String],
        limit: usize,
        now: OffsetDateTime,
    ) -> Result<Vec<String>> {
        let mut command = cmd("EVAL");
        command.arg(TAKE).arg(1).arg(keys::offers(org, canonical));
        command.arg(clock::unix_ms(now)).arg(cache_entries::millis(LEASE));
        command.arg(limit).arg(leases);
        self.command(&command).await
    }

    /// Drops leases, by canonical identity; no set may be empty.
    pub async fn end_offers(&self, org: Uuid, offers: &BTreeMap<Uuid, BTreeSet<String>>) -> Result<()> {
        if offers.is_empty() {
            return Ok(());
        }
        let mut pipe = Pipeline::new();
        for (canonical, leases) in offers {
            pipe.hdel(keys::offers(org, *canonical), leases).ignore();
        }
        self.write(&pipe).await
    }

    /// Drops all leases of canonical identities.
    pub async fn forget_offers(&self, org: Uuid, canonicals: &[Uuid]) -> Result<()> {
        if canonicals.is_empty() {
            return Ok(());
        }
        let mut pipe = Pipeline::new();
        for canonical in canonicals {
            pipe.del(keys::offers(org, *canonical)).ignore();
        }
        self.write(&pipe).await
    }
}
