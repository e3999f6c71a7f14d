//! A connection that knows when it must not be used any more.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use diesel::connection::{Instrumentation, InstrumentationEvent};
use diesel_async::{AsyncConnection, AsyncPgConnection, pooled_connection::PoolableConnection};

/// A connection to the primary.
pub struct Connection {
    inner: AsyncPgConnection,
    generation: u64,
    newest: Arc<AtomicU64>,
    in_statement: Arc<AtomicBool>,
}

impl Connection {
    /// One that is good for as long as `newest` is its `generation`.
    pub(super) fn new(mut inner: AsyncPgConnection, generation: u64, newest: Arc<AtomicU64>) -> Self {
        let in_statement = Arc::<AtomicBool>::default();
        inner.set_instrumentation(Statements(Arc::clone(&in_statement)));
        Self { inner, generation, newest, in_statement }
    }

    /// Changes whenever another server, or a demoted one, was found behind the name.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether it stands, leads to the primary as far as is known, and is between transactions and statements.
    /// One whose user was dropped in the middle of a statement is not used again: the next would wait for that
    /// statement. Closed it ends at the server as well, by `client_connection_check_interval`.
    pub fn is_usable(&mut self) -> bool {
        self.newest.load(Ordering::Acquire) == self.generation
            && !self.in_statement.load(Ordering::Acquire)
            && !self.inner.is_broken()
    }
}

impl Deref for Connection {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        &self.inner
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        &mut self.inner
    }
}

/// Notes whether a statement is being waited for. diesel-async notes as much for BEGIN, COMMIT and ROLLBACK
/// alone.
struct Statements(Arc<AtomicBool>);

impl Instrumentation for Statements {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { .. } => self.0.store(true, Ordering::Release),
            InstrumentationEvent::FinishQuery { .. } => self.0.store(false, Ordering::Release),
            _ => {}
        }
    }
}
