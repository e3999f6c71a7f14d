//! Threads that serve connections: one a core, each with a single-threaded runtime and a service of its own.
//! A connection stays on its thread, with whatever its service opened there, so a request crosses no core: on
//! two cores that gave more than twice the requests of one work-stealing runtime (`make bench` measures
//! both).

use std::{
    cell::Cell,
    convert::Infallible,
    io,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use axum::{body::Body, response::Response};
use http::Request;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::Service;

use crate::{EnvError, accept::ReceivedBody};

/// Service that answers requests: an axum router, or a service around one.
pub trait Serve:
    Service<Request<ReceivedBody>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S> Serve for S where
    S: Service<Request<ReceivedBody>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

thread_local! {
    static INDEX: Cell<usize> = const { Cell::new(0) };
}

/// Index of the thread that the caller runs on, below [`threads`]: 0 for the process's main runtime, from 1
/// on for a worker. What is kept for each of them needs no lock that another would hold.
pub fn index() -> usize {
    INDEX.get()
}

/// Number of threads that [`index`] tells apart.
pub fn threads() -> usize {
    cores() + 1
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Runtimes that serve connections.
pub struct Workers<S> {
    all: Vec<Worker<S>>,
    /// Guard that ends the threads when it is dropped.
    _stop: Option<DropGuard>,
}

/// Runtime of one thread, with the service that answers there.
pub(crate) struct Worker<S> {
    /// Handle to the runtime that the connections live on.
    pub(crate) runtime: Handle,
    /// Service that answers the connections' requests.
    pub(crate) service: S,
    connections: Arc<AtomicUsize>,
}

impl<S: Serve> Workers<S> {
    /// Starts a thread a core. `service` is called once for each, within its runtime: what it opens there, as
    /// channels to another service, belongs to that thread alone.
    pub fn per_core(service: impl FnMut() -> S) -> Result<Self, EnvError> {
        Self::start(service).map_err(|error| {
            EnvError::malformed("THREADS", format_args!("can't be started: {}", error.kind()))
        })
    }

    fn start(mut service: impl FnMut() -> S) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let mut all = Vec::new();
        for index in 1..=cores() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let entered = handle.enter();
            let service = service();
            drop(entered);
            spawn(index, runtime, stop.clone())?;
            all.push(Worker { runtime: handle, service, connections: Arc::default() });
        }
        Ok(Self { all, _stop: Some(stop.drop_guard()) })
    }

    /// Serves on the caller's own runtime, without a thread more.
    pub fn here(service: S) -> Self {
        let worker = Worker { runtime: Handle::current(), service, connections: Arc::default() };
        Self { all: vec![worker], _stop: None }
    }

    /// Chooses the worker with the fewest connections for the next one. Few and long-lived connections, as a
    /// service's, are spread evenly that way, which the kernel's choice (SO_REUSEPORT) would leave to chance.
    pub(crate) fn next(&self) -> Option<(&Worker<S>, Open)> {
        let worker = self.all.iter().min_by_key(|worker| worker.connections.load(Ordering::Relaxed))?;
        worker.connections.fetch_add(1, Ordering::Relaxed);
        Some((worker, Open(worker.connections.clone())))
    }
}

/// Count of one open connection of a worker, until it is dropped.
pub(crate) struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn spawn(index: usize, runtime: Runtime, stop: CancellationToken) -> io::Result<()> {
    let run = move || {
        INDEX.set(index);
        runtime.block_on(stop.cancelled());
    };
    thread::Builder::new().name(format!("worker-{index}")).spawn(run)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_go_to_the_least_busy_thread_and_know_it() {
        let workers = Workers::per_core(axum::Router::new).unwrap();
        let count = workers.all.len();
        let open: Vec<_> = (0..2 * count).map(|_| workers.next().unwrap().1).collect();
        assert!(workers.all.iter().all(|worker| worker.connections.load(Ordering::Relaxed) == 2));
        drop(open);
        assert!(workers.all.iter().all(|worker| worker.connections.load(Ordering::Relaxed) == 0));
        let mut seen = Vec::new();
        for worker in &workers.all {
            seen.push(worker.runtime.spawn(async { index() }).await.unwrap());
        }
        assert_eq!(seen, (1..threads()).collect::<Vec<_>>());
        assert_eq!(index(), 0);
    }
}
