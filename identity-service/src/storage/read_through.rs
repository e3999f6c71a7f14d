//! Reading through: serving keys that are missing are loaded from PostgreSQL, without overtaking a writer.

use std::{collections::HashSet, future::Future};

use futures_util::future::BoxFuture;

use super::{
    Stores,
    redis::{
        keys::Key,
        protocol::{Entry, Nonce},
    },
};
use crate::error::Result;

/// Claims `missing`, loads from PostgreSQL and fills what was claimed. `load` is called once, after the
/// claim: it then reads nothing older than what the claim stands for. Redis being away only means that
/// nothing is filled.
pub fn through<'a, T: Send + 'a>(
    stores: &'a Stores,
    missing: &'a [Key],
    load: impl Future<Output = Result<(T, Vec<Entry>)>> + Send + 'a,
) -> BoxFuture<'a, Result<T>> {
    // Boxed, as most calls find everything in Redis and each would carry the room for this.
    Box::pin(load_through(stores, missing, load))
}

async fn load_through<T>(
    stores: &Stores,
    missing: &[Key],
    load: impl Future<Output = Result<(T, Vec<Entry>)>>,
) -> Result<T> {
    let nonce = Nonce::new();
    let claimed = match stores.redis.claim(missing, &nonce).await {
        Ok(claimed) => claimed,
        Err(error) => {
            tracing::debug!(%error, "serving from postgres");
            Vec::new()
        }
    };
    let (value, entries) = load.await?;
    let own: HashSet<&Key> =
        missing.iter().zip(claimed).filter(|(_, own)| *own).map(|(key, _)| key).collect();
    let own: Vec<Entry> = entries.into_iter().filter(|entry| own.contains(&entry.key)).collect();
    if let Err(error) = stores.redis.fill(&own, &nonce).await {
        tracing::debug!(%error, "not filled");
    }
    Ok(value)
}
