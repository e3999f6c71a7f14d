//! The share of a tenant's rate that profiles take: Amperity allows 500 requests a second, events included.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{clock, providers::outcome::Failure, storage::Stores};

/// Most calls of one provider in a second, over all instances.
const CALLS_PER_SECOND: i64 = 100;
/// Calls after which pages wait: anybody can open many, and delivery is to have its profiles all the same.
const CALLS_OF_PAGES: i64 = CALLS_PER_SECOND / 2;

/// Waits for a call's turn, until the end of its time. Where Redis can't count, nobody waits.
pub async fn wait(
    stores: &Stores,
    org: Uuid,
    provider: Uuid,
    is_server: bool,
    until: Instant,
) -> Result<(), Failure> {
    let most = if is_server { CALLS_PER_SECOND } else { CALLS_OF_PAGES };
    loop {
        let now = clock::now();
        let count = stores.redis.count_call(org, provider, now.unix_timestamp()).await;
        if count.is_ok_and(|count| count > most) {
            let next = Duration::from_millis(1000 - u64::from(now.millisecond()));
            if Instant::now() + next >= until {
                return Err(Failure::Busy(Duration::from_secs(1)));
            }
            sleep(next).await;
        } else {
            return Ok(());
        }
    }
}
