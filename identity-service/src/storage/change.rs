//! Changing known facts: one transaction, and Redis follows it (see [`super::redis::protocol`]).

use std::future::Future;

use diesel_async::{AsyncConnection, AsyncPgConnection};
use metrics::counter;
use uuid::Uuid;

use super::{
    Stores,
    postgres::repairs,
    redis::{
        keys::Key,
        protocol::{Entry, Nonce},
    },
};
use crate::error::Result;

/// A change to what is known about visitors of one organisation.
pub trait Change: Send + Sync + 'static {
    /// What the caller learns.
    type Output: Send + 'static;

    /// The organisation.
    fn org(&self) -> Uuid;

    /// Locks, decides and writes, inside a transaction. Returns the serving entries as they are to be after
    /// COMMIT; they must hold everything committed so far, so rows are locked before they are read.
    fn apply(
        &self,
        connection: &mut AsyncPgConnection,
    ) -> impl Future<Output = Result<(Self::Output, Vec<Entry>)>> + Send;
}

/// What became of a change that PostgreSQL has committed.
#[derive(Debug)]
pub struct Committed<T> {
    /// What the change returned.
    pub output: T,
    /// Redis could not be marked or written; a repair row stands for it.
    pub redis_failed: bool,
}

/// Commits `change`. Runs in a task of its own, so that a caller that goes away, or its deadline, can't leave
/// a transaction open or Redis behind.
pub async fn commit<C: Change>(stores: &Stores, change: C) -> Result<Committed<C::Output>> {
    let stores = stores.clone();
    tokio::spawn(async move { commit_here(&stores, &change).await }).await?
}

async fn commit_here<C: Change>(stores: &Stores, change: &C) -> Result<Committed<C::Output>> {
    let nonce = Nonce::new();
    let mut connection = stores.postgres.get().await?;
    let (output, entries, marked) = connection
        .transaction(async |connection| {
            let (output, entries) = change.apply(connection).await?;
            let keys: Vec<Key> = entries.iter().map(|entry| entry.key.clone()).collect();
            let marked = match stores.redis.mark(&keys, &nonce).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(%error, "redis could not be marked; leaving a repair");
                    repairs::add(connection, change.org(), &keys).await?;
                    false
                }
            };
            Ok::<_, crate::error::Error>((output, entries, marked))
        })
        .await?;
    if !marked {
        counter!("datafly_redis_repairs_added_total").increment(1);
        return Ok(Committed { output, redis_failed: true });
    }
    let Err(error) = stores.redis.put(&entries, &nonce).await else {
        return Ok(Committed { output, redis_failed: false });
    };
    tracing::warn!(%error, "redis was marked but not written; leaving a repair");
    counter!("datafly_redis_repairs_added_total").increment(1);
    let keys: Vec<Key> = entries.into_iter().map(|entry| entry.key).collect();
    // The marker ends in 30 s whatever happens; the repair covers a Redis that comes back with older data.
    repairs::add(&mut connection, change.org(), &keys).await?;
    Ok(Committed { output, redis_failed: true })
}
