//! Keeping the snapshot fresh: one row is polled on a connection of its own, and what changed is reloaded.
//!
//! Only a primary confirms the snapshot. A standby, and a primary that was demoted, have what is older: they would
//! go on confirming a key that was revoked at the new primary. While there is none the snapshot ages like with any
//! other loss of PostgreSQL. Versions count on one server alone: a standby may be promoted that had not yet got the
//! last changes, and then gives the same numbers to others. So another server's settings are read from the start.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use diesel_async::SimpleAsyncConnection;
use metrics::gauge;
use migrations::{
    pool::{Connection, PgPool, PgPoolError},
    sealed::SealKeys,
};
use proto::v1::ErrorReason;
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{load, snapshot::Snapshot};
use crate::{
    clock,
    error::{Error, Result},
    pii::tombstone::TombstoneKeys,
};

/// Pause between looks at the version, so that a revoked key is refused within 1 s everywhere.
const POLL: Duration = Duration::from_millis(300);
/// Age beyond which PostgreSQL is asked before an answer is given.
const FRESH: Duration = Duration::from_secs(1);
/// Age beyond which nothing is answered.
const MAX_AGE: Duration = Duration::from_mins(1);
/// The longest a look may take.
const LOOK_TIMEOUT: Duration = Duration::from_millis(800);
/// The longest the first look may take, which reads everything.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Tries of the first look: where everything starts at once, a login may take longer than one is given.
const LOAD_TRIES: u32 = 5;

/// The settings of all organisations; clones share them.
#[derive(Clone)]
pub struct Settings {
    shared: Arc<Shared>,
}

struct Shared {
    snapshot: ArcSwap<Snapshot>,
    /// Milliseconds after `started` at which PostgreSQL last confirmed the snapshot.
    confirmed: AtomicU64,
    /// Milliseconds after `started` at which the last look that failed ended.
    failed: AtomicU64,
    started: Instant,
    looker: Mutex<Looker>,
    /// Told of each new snapshot.
    on_change: fn(&Snapshot),
}

struct Looker {
    pool: PgPool,
    keys: Arc<SealKeys>,
    tombstones: Arc<TombstoneKeys>,
    allow_loopback: bool,
    connection: Option<Connection>,
    /// Generation of the connection that the snapshot was last confirmed by.
    confirmed_by: Option<u64>,
}

impl Settings {
    /// Loads the settings of all organisations, once; hosts on this machine or in a private network only where they are
    /// allowed. `tombstones` takes the keys of tombstones, now and whenever they change; `on_change` is told of each new
    /// snapshot.
    pub async fn load(
        pool: PgPool,
        keys: Arc<SealKeys>,
        tombstones: Arc<TombstoneKeys>,
        allow_loopback: bool,
        on_change: fn(&Snapshot),
    ) -> Result<Self> {
        let looker = Looker { pool, keys, tombstones, allow_loopback, connection: None, confirmed_by: None };
        let settings = Self {
            shared: Arc::new(Shared {
                snapshot: ArcSwap::default(),
                confirmed: AtomicU64::new(0),
                failed: AtomicU64::new(0),
                started: Instant::now(),
                looker: Mutex::new(looker),
                on_change,
            }),
        };
        let mut tries = 1;
        while let Err(error) = settings.look(LOAD_TIMEOUT).await {
            if tries == LOAD_TRIES {
                return Err(error);
            }
            tries += 1;
            tokio::time::sleep(POLL).await;
        }
        Ok(settings)
    }

    /// Looks at the version every [`POLL`] until `stop`.
    pub async fn poll_until(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(POLL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            if let Err(error) = self.look(LOOK_TIMEOUT).await {
                serve::warn_on_change!(WARN, %error, "settings can't be looked at");
            }
            gauge!("datafly_settings_age_seconds").set(self.age().as_secs_f64());
        }
    }

    /// Returns the snapshot, at most a second old while PostgreSQL answers and at most a minute while it does
    /// not. Refused as UNAVAILABLE beyond, never as a wrong key.
    pub async fn current(&self) -> Result<Arc<Snapshot>> {
        // A process that was stopped for a while, or a poller that was held up: look before answering. Not
        // when the last look has failed, or every request would wait for a database that is away.
        let last = |mark: &AtomicU64| mark.load(Ordering::Acquire);
        let mut age = self.age();
        if age > FRESH && last(&self.shared.confirmed) >= last(&self.shared.failed) {
            // The failure is logged by the poller; the age decides. Boxed, as nearly no call comes this way and each
            // would carry the room for it.
            let _ = Box::pin(self.look(LOOK_TIMEOUT)).await;
            age = self.age();
        }
        if age > MAX_AGE {
            return Err(Error::refused(ErrorReason::Unavailable));
        }
        Ok(self.shared.snapshot.load_full())
    }

    /// Returns the snapshot as it is now, while PostgreSQL answers: for whoever has just changed settings, and wants to
    /// see what comes of it.
    pub async fn newest(&self) -> Result<Arc<Snapshot>> {
        // The failure is logged by the poller; the age decides.
        let _ = Box::pin(self.look(LOOK_TIMEOUT)).await;
        self.current().await
    }

    async fn look(&self, limit: Duration) -> Result<()> {
        let before = self.now_ms();
        let mut looker = self.shared.looker.lock().await;
        // Another look was made while this one waited for it.
        if [&self.shared.confirmed, &self.shared.failed]
            .iter()
            .any(|mark| mark.load(Ordering::Acquire) > before)
        {
            return Ok(());
        }
        let asked = self.now_ms();
        let looked = tokio::time::timeout(limit, looker.look(&self.shared.snapshot.load()))
            .await
            .unwrap_or_else(|_| Err(Error::refused(ErrorReason::Unavailable)));
        match looked {
            Ok(next) => {
                if let Some(next) = next {
                    (self.shared.on_change)(&next);
                    self.shared.snapshot.store(Arc::new(next));
                }
                self.shared.confirmed.store(asked.max(1), Ordering::Release);
                Ok(())
            }
            Err(error) => {
                looker.connection = None;
                self.shared.failed.store(self.now_ms(), Ordering::Release);
                Err(error)
            }
        }
    }

    fn age(&self) -> Duration {
        self.since(&self.shared.confirmed)
    }

    fn since(&self, mark: &AtomicU64) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(mark.load(Ordering::Acquire)))
    }

    fn now_ms(&self) -> u64 {
        // From 1 on, so that 0 stands for never.
        u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

impl Looker {
    /// Returns the next snapshot, or none where nothing has changed.
    async fn look(&mut self, before: &Snapshot) -> Result<Option<Snapshot>> {
        let mut connection = match self.connection.take_if(Connection::is_usable) {
            Some(connection) => connection,
            None => self.open().await?,
        };
        let from = Some(connection.generation());
        let nothing = Snapshot::default();
        let before = if self.confirmed_by == from { before } else { &nothing };
        let current = load::current(&mut connection).await?;
        if !current.is_primary {
            self.pool.leave();
            return Err(Error::refused(ErrorReason::Unavailable));
        }
        clock::follow(current.now);
        let next = if from == self.confirmed_by && current.version == before.version {
            None
        } else {
            let (keys, tombstones) = (&self.keys, &self.tombstones);
            Some(load::load(&mut connection, before, keys, tombstones, self.allow_loopback).await?)
        };
        self.confirmed_by = from;
        self.connection = Some(connection);
        Ok(next)
    }

    /// Opens a connection on which reading everything may take its time.
    async fn open(&self) -> Result<Connection> {
        let mut connection = self.pool.open().await.map_err(PgPoolError::User)?;
        let timeout = format!("SET statement_timeout = {}", LOAD_TIMEOUT.as_millis());
        connection.batch_execute(&timeout).await?;
        Ok(connection)
    }
}
