//! Throttling of passwords that are tried: by account and network, and by network. An attempt is counted
//! before its password is looked at, and taken back when it was right, so that a thousand guesses at once are
//! no better than one by one. Someone who guesses shuts out themselves, never the owner elsewhere. Refresh
//! tokens that were refused count for their network as well. The counters are PostgreSQL's: they hold for all
//! instances together.

use std::{net::IpAddr, time::Duration};

use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, QueryableByName, delete, sql_query,
    sql_types::{Array, Binary, Double, Integer},
    update,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::login_failures;
use sha2::{Digest, Sha256};

use super::Auth;
use crate::api::error::{ApiError, Result};

/// Most failures of one account from one network in 15 minutes.
const MAX_ACCOUNT_FAILURES: i32 = 10;
/// Most failures from one network in 15 minutes.
const MAX_NETWORK_FAILURES: i32 = 100;

/// Counts one more of each, from the first of 15 minutes on; gives no row for those of which there are as many as may
/// be.
const COUNT_FAILURE: &str = "INSERT INTO login_failures AS f (key, times, since) \
        SELECT key, 1, now() FROM unnest($1) AS key \
    ON CONFLICT (key) DO UPDATE SET \
        times = CASE WHEN f.since <= now() - interval '15 minutes' THEN 1 ELSE f.times + 1 END, \
        since = CASE WHEN f.since <= now() - interval '15 minutes' THEN now() ELSE f.since END \
    WHERE f.times < $2 OR f.since <= now() - interval '15 minutes' RETURNING f.key";

/// Seconds until the 15 minutes are over.
const REMAINING_SECONDS: &str = "SELECT coalesce(max( \
        greatest(0, extract(epoch FROM since + interval '15 minutes' - now()))), 0)::float8 AS seconds \
    FROM login_failures WHERE key = ANY($1) AND times >= $2";

/// Seconds until the 15 minutes are over, where there are as many failures as may be.
const FULL: &str = "SELECT extract(epoch FROM since + interval '15 minutes' - now())::float8 AS seconds \
    FROM login_failures WHERE key = $1 AND times >= $2 AND since > now() - interval '15 minutes'";

#[derive(QueryableByName)]
struct Remaining {
    #[diesel(sql_type = Double)]
    seconds: f64,
}

#[derive(QueryableByName)]
struct CountedKey {
    #[diesel(sql_type = Binary)]
    key: Vec<u8>,
}

/// An attempt that was counted as a failure.
#[derive(Debug)]
pub struct Attempt {
    accounts: Vec<Vec<u8>>,
    network: Vec<u8>,
}

impl Attempt {
    /// Counts an attempt on each of `accounts` from `ip`. `RATE_LIMITED` where there were too many on any; then it is
    /// not counted again.
    pub async fn begin(auth: &Auth, accounts: &[Vec<u8>], ip: IpAddr) -> Result<Self> {
        let network = network(ip);
        let mut keys: Vec<Vec<u8>> = accounts.iter().map(|account| account_key(&network, account)).collect();
        // In one order, so that nobody waits for anybody in turn.
        keys.sort_unstable();
        let attempt = Self { accounts: keys, network: key("network", &network) };
        let mut connection = auth.connection().await?;
        count(&mut connection, std::slice::from_ref(&attempt.network), MAX_NETWORK_FAILURES).await?;
        if let Err(refused) = count(&mut connection, &attempt.accounts, MAX_ACCOUNT_FAILURES).await {
            take_back(&mut connection, std::slice::from_ref(&attempt.network)).await?;
            return Err(refused);
        }
        Ok(attempt)
    }

    /// Ends an attempt of which the password was that of these `accounts`: failures of theirs before it are forgotten,
    /// but for those of the network.
    pub async fn succeeded(self, auth: &Auth, accounts: &[&[u8]], ip: IpAddr) -> Result<()> {
        let network = network(ip);
        let right: Vec<Vec<u8>> = accounts.iter().map(|account| account_key(&network, account)).collect();
        let mut connection = auth.connection().await?;
        delete(login_failures::table.filter(login_failures::key.eq_any(right)))
            .execute(&mut **connection)
            .await?;
        take_back(&mut connection, &[self.network]).await
    }

    /// Takes an attempt back of which the password was not looked at.
    pub async fn did_not_count(self, auth: &Auth) -> Result<()> {
        let mut connection = auth.connection().await?;
        take_back(&mut connection, &self.accounts).await?;
        take_back(&mut connection, &[self.network]).await
    }
}

/// Refuses whoever comes from a network with as many failures as may be: `RATE_LIMITED`.
pub async fn check_network(connection: &mut AsyncPgConnection, ip: IpAddr) -> Result<()> {
    let counted = key("network", &network(ip));
    let full = sql_query(FULL).bind::<Binary, _>(counted).bind::<Integer, _>(MAX_NETWORK_FAILURES);
    match full.get_result::<Remaining>(connection).await.optional()? {
        Some(remaining) => Err(ApiError::rate_limited(Duration::from_secs_f64(remaining.seconds.max(1.0)))),
        None => Ok(()),
    }
}

/// Counts a failure of a network, up to as many as may be.
pub async fn count_network(connection: &mut AsyncPgConnection, ip: IpAddr) -> Result<()> {
    let counted = vec![key("network", &network(ip))];
    let count = sql_query(COUNT_FAILURE).bind::<Array<Binary>, _>(counted);
    count.bind::<Integer, _>(MAX_NETWORK_FAILURES).execute(connection).await?;
    Ok(())
}

async fn count(connection: &mut AsyncPgConnection, keys: &[Vec<u8>], most: i32) -> Result<()> {
    let count = sql_query(COUNT_FAILURE).bind::<Array<Binary>, _>(keys).bind::<Integer, _>(most);
    let counted: Vec<CountedKey> = count.load(connection).await?;
    if counted.len() == keys.len() {
        return Ok(());
    }
    let counted: Vec<Vec<u8>> = counted.into_iter().map(|counted| counted.key).collect();
    take_back(connection, &counted).await?;
    let remaining = sql_query(REMAINING_SECONDS).bind::<Array<Binary>, _>(keys).bind::<Integer, _>(most);
    // None where a login has succeeded since.
    let Remaining { seconds } = remaining.get_result(connection).await?;
    Err(ApiError::rate_limited(Duration::from_secs_f64(seconds.max(1.0))))
}

async fn take_back(connection: &mut AsyncPgConnection, keys: &[Vec<u8>]) -> Result<()> {
    let counted =
        login_failures::table.filter(login_failures::key.eq_any(keys)).filter(login_failures::times.gt(0));
    update(counted).set(login_failures::times.eq(login_failures::times - 1)).execute(connection).await?;
    Ok(())
}

/// Key of the failures of an account from a network.
fn account_key(network: &[u8], account: &[u8]) -> Vec<u8> {
    key("account", &[network, account].concat())
}

/// Network that one customer of a provider has: an IPv4 /24, an IPv6 /64.
fn network(ip: IpAddr) -> Vec<u8> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets().into_iter().take(3).collect(),
        IpAddr::V6(ip) => ip.octets().into_iter().take(8).collect(),
    }
}

fn key(label: &str, counted: &[u8]) -> Vec<u8> {
    Sha256::new().chain_update(label).chain_update([0]).chain_update(counted).finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_what_one_customer_has() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("192.0.2.255"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.9"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(key("account", b"x"), key("network", b"x"));
    }
}
