//! The share of a tenant's rate that profiles take: Amperity allows 500 requests a second, events included.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{clock, providers::outcome::Failure, storage::Stores};

/// Most calls of one provider in a second, over all instances.
const CALLS_PER_SECOND: i64 = 100;

/// Waits for a call's turn, until the end of its time. Where Redis can't count, nobody waits.
pub async fn wait(stores: &Stores, org: Uuid, provider: Uuid, until: Instant) -> Result<(), Failure> {
    loop {
        let now = clock::now();
        let count = stores.redis.count_call(org, provider, now.unix_timestamp()).await;
        if count.is_ok_and(|count| count > CALLS_PER_SECOND) {
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
