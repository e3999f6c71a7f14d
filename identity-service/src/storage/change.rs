//! Changing known facts: one transaction, and Redis follows it (see [`super::redis::protocol`]).

use std::{future::Future, time::Duration};

use diesel_async::{AsyncConnection, AsyncPgConnection};
use metrics::counter;
use migrations::pool::Fault;
use proto::v1::ErrorReason;
use uuid::Uuid;

use super::{
    Stores,
    postgres::{commits, repairs},
    redis::{
        keys::Key,
        protocol::{Entry, Nonce},
    },
};
use crate::error::{Error, Result};

/// A change to what is known about visitors of one organisation.
pub trait Change: Send + Sync + 'static {
    /// The answer that the caller gets once the change is committed.
    type Output: Send + 'static;

    /// The organisation whose visitors are changed.
    fn org(&self) -> Uuid;

    /// Locks, decides and writes, inside a transaction. Returns the serving entries as they are to be after
    /// COMMIT; they must hold everything committed so far, so rows are locked before they are read.
    fn apply(
        &self,
        connection: &mut AsyncPgConnection,
    ) -> impl Future<Output = Result<(Self::Output, Vec<Entry>)>> + Send;
}

/// The outcome of a change that PostgreSQL has committed.
#[derive(Debug)]
pub struct Committed<T> {
    /// The answer that the change returned.
    pub output: T,
    /// True where Redis could not be marked or written; a repair row stands for the change.
    pub redis_failed: bool,
}

/// Tries of a change that met another's lock, the first included.
const TRIES: u32 = 5;
/// Tries of a change whose rows had changed by the time it had locked them: each time another came through.
const MOVED_TRIES: u32 = 50;
/// The longest a change may take with all its tries, whatever state the database is in.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Commits `change`. Runs in a task of its own, so that a caller that goes away, or its deadline, can't leave
/// a transaction open or Redis behind.
pub async fn commit<C: Change>(stores: &Stores, change: C) -> Result<Committed<C::Output>> {
    let stores = stores.clone();
    let work = async move {
        let turn = stores.org_writes.take(change.org()).await;
        let _turn = turn.ok_or_else(|| Error::refused(ErrorReason::Overloaded))?;
        let (mut tries, mut was_lost) = (1, false);
        loop {
            // Boxed, as the task is moved before it runs.
            match Box::pin(commit_here(&stores, &change)).await {
                // Nothing of it was committed.
                Err(error) if !was_lost && error.is_lost_connection() => was_lost = true,
                Err(Error::Postgres(error)) if tries < TRIES && Fault::of(&error) == Fault::Conflict => {
                    tries += 1;
                }
                Err(Error::Moved) if tries < MOVED_TRIES => tries += 1,
                done => return done.inspect_err(|error| stores.leave_if_demoted(error)),
            }
            tokio::time::sleep(Duration::from_millis(rand::random_range(1..20))).await;
        }
    };
    let timed = tokio::spawn(tokio::time::timeout(TIMEOUT, work)).await?;
    timed.unwrap_or_else(|_| Err(Error::refused(ErrorReason::Unavailable)))
}

/// Commits `change` over one connection. An error of a lost connection means that nothing was committed.
async fn commit_here<C: Change>(stores: &Stores, change: &C) -> Result<Committed<C::Output>> {
    let nonce = Nonce::new();
    let mut connection = stores.connection().await?;
    // There where nothing but COMMIT is left to be sent.
    let mut complete = None;
    let done = connection
        .transaction(async |connection| {
            let (output, entries) = change.apply(connection).await?;
            let keys: Vec<Key> = entries.iter().map(|entry| entry.key.clone()).collect();
            let (marked, number) =
                tokio::join!(stores.redis.mark(&keys, &nonce), commits::number(connection));
            let number = number?;
            if let Err(error) = &marked {
                stores.redis.distrust(error);
                repairs::add(connection, change.org(), &keys, &nonce).await?;
            }
            complete = Some((output, entries, marked, number));
            Ok::<_, Error>(())
        })
        .await;
    let Some((output, entries, marked, number)) = complete else {
        return Err(done.err().unwrap_or_else(|| Error::refused(ErrorReason::Internal)));
    };
    if let Err(error) = done {
        if !error.is_lost_connection() {
            return Err(error);
        }
        match commits::was_committed(&stores.postgres, connection.generation(), &number).await {
            // What is left to do has another connection, if there is one: the change is committed.
            Some(true) => connection = stores.connection().await.unwrap_or(connection),
            Some(false) => return Err(error),
            None => return Err(Error::refused(ErrorReason::Unavailable)),
        }
    }
    let mut failure = marked.err();
    if failure.is_none()
        && let Err(error) = stores.redis.put(&entries, &nonce).await
    {
        let keys: Vec<Key> = entries.into_iter().map(|entry| entry.key).collect();
        // The marker ends in 30 s whatever happens; the repair covers a Redis that comes back with older data.
        // The change itself is committed, so a failure here is not the caller's.
        if let Err(missing) = repairs::add(&mut connection, change.org(), &keys, &nonce).await {
            serve::warn_on_change!(WARN, error = %missing, "no repair could be left");
        }
        failure = Some(error);
    }
    if let Some(error) = &failure {
        // Again, now that the repair is committed: a drain may have found none a moment ago.
        stores.redis.distrust(error);
        counter!("datafly_redis_repairs_added_total").increment(1);
    }
    Ok(Committed { output, redis_failed: failure.is_some() })
}
