//! A connection that knows when it must not be used any more.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use diesel::connection::{Instrumentation, InstrumentationEvent};
use diesel_async::{
    AsyncConnection, AsyncPgConnection, SimpleAsyncConnection, pooled_connection::PoolableConnection,
};
use metrics::counter;

use super::fault::Fault;

/// A connection to the primary, which knows when it must not be used any more.
pub struct Connection {
    inner: AsyncPgConnection,
    generation: u64,
    life: Arc<Life>,
    in_statement: Arc<AtomicBool>,
}

/// State that all connections to a server share.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Number that grows when the connections opened so far must be left.
    pub(super) generation: AtomicU64,
    /// Number of statements that were answered.
    pub(super) answers: AtomicU64,
}

impl Connection {
    /// Wraps a connection that is good for as long as `life` is in that generation.
    pub(super) fn new(mut inner: AsyncPgConnection, generation: u64, life: Arc<Life>) -> Self {
        let in_statement = Arc::<AtomicBool>::default();
        inner.set_instrumentation(Statements {
            waited_for: Arc::clone(&in_statement),
            life: Arc::clone(&life),
        });
        Self { inner, generation, life, in_statement }
    }

    /// Generation in which it was opened. Connections differ in it where another server, or a demoted one,
    /// was found behind the name.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// True where it stands, leads to the primary as far as is known, and is between transactions and
    /// statements.
    pub fn is_usable(&mut self) -> bool {
        self.life.generation.load(Ordering::Acquire) == self.generation
            && !self.is_in_statement()
            && !self.inner.is_broken()
    }

    /// True where its user has left it in the middle of a statement.
    pub(super) fn is_in_statement(&self) -> bool {
        self.in_statement.load(Ordering::Acquire)
    }

    /// Waits until the server has come to the end of the statement.
    pub(super) async fn settle(&mut self) -> diesel::QueryResult<()> {
        // Statements are answered in order.
        self.inner.batch_execute("").await
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

/// Notes whether a statement is being waited for, which diesel-async does for BEGIN, COMMIT and ROLLBACK
/// alone.
struct Statements {
    waited_for: Arc<AtomicBool>,
    life: Arc<Life>,
}

impl Instrumentation for Statements {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { .. } => self.waited_for.store(true, Ordering::Release),
            InstrumentationEvent::FinishQuery { error, .. } => {
                self.waited_for.store(false, Ordering::Release);
                match error {
                    None => drop(self.life.answers.fetch_add(1, Ordering::AcqRel)),
                    Some(error) => {
                        let kind = Fault::of(error).name();
                        counter!("datafly_postgres_errors_total", "kind" => kind).increment(1);
                    }
                }
            }
            _ => {}
        }
    }
}
