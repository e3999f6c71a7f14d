//! The accept loop. axum 0.8 has no deadline for a request's header and no bound on its drain, so the three
//! binaries drive hyper themselves: HTTP/1.1, and HTTP/2 by prior knowledge, on one port.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, extract::ConnectInfo};
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use crate::{EnvError, Lifecycle, Serve, Workers, limits};

/// Most connections at once on one listener. More wait in the kernel's backlog.
const MAX_CONNECTIONS: u64 = 8192;
/// Pause after a failed accept: descriptors are short, and trying again at once would spin.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// Streams at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// Streams a peer may open and reset before they are accepted (rapid reset); h2's default, named here
/// because it is a defence.
const MAX_PENDING_RESETS: usize = 20;
/// A silent HTTP/2 peer is asked for a sign of life, and has this long to give it.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// How long a peer may take. One value everywhere but in tests.
#[derive(Debug, Clone, Copy)]
struct Timing {
    /// For a request's header. In HTTP/1 it also bounds an idle connection, which hyper does not tell apart
    /// from one whose header is slow; in HTTP/2 it counts for the first request only.
    header: Duration,
    /// For the requests in flight when draining begins; leaves 2 s of the 10 s that a shutdown may take.
    drain: Duration,
}

const TIMING: Timing = Timing { header: Duration::from_secs(10), drain: Duration::from_secs(8) };

/// Listens at `addr`, the value of the variable `name`. Port 0 takes any free one.
pub async fn bind(name: &'static str, addr: SocketAddr) -> Result<TcpListener, EnvError> {
    let failed = |error: std::io::Error| {
        EnvError::malformed(name, format_args!("can't be listened at ({addr}): {}", error.kind()))
    };
    TcpListener::bind(addr).await.map_err(failed)
}

/// Serves what `workers` answer on `listener` until `lifecycle` drains, then for at most 8 s what is in flight.
/// `name` is the `listener` label of the log line `listening` and of `datafly_connections`. Requests carry the
/// peer as [`ConnectInfo<SocketAddr>`].
pub async fn serve<S: Serve>(
    listener: TcpListener,
    name: &'static str,
    workers: Workers<S>,
    lifecycle: Lifecycle,
) {
    serve_with(listener, name, workers, lifecycle, TIMING).await;
}

async fn serve_with<S: Serve>(
    listener: TcpListener,
    name: &'static str,
    workers: Workers<S>,
    lifecycle: Lifecycle,
    timing: Timing,
) {
    if let Ok(addr) = listener.local_addr() {
        info!(listener = name, %addr, "listening");
    }
    let draining = lifecycle.draining();
    let dropping = CancellationToken::new();
    let permits = Arc::new(Semaphore::new(connection_limit()));
    let tasks = TaskTracker::new();
    let builder = builder(timing.header);
    let open = metrics::gauge!("datafly_connections", "listener" => name);

    loop {
        let accepted = async {
            let permit = permits.clone().acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            biased;
            () = draining.cancelled() => break,
            accepted = accepted => accepted,
        };
        // Another thread's reactor is to watch it.
        let accepted = accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer)));
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(listener = name, %error, "accept failed");
                sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        let Some((worker, busy)) = workers.next() else { break };
        let connection = Connection {
            builder: builder.clone(),
            service: worker.service.clone(),
            peer,
            header_deadline: timing.header,
            draining: draining.clone(),
            dropping: dropping.clone(),
        };
        let open = open.clone();
        let serve = async move {
            open.increment(1.0);
            if let Ok(stream) = TcpStream::from_std(stream) {
                connection.serve(stream).await;
            }
            open.decrement(1.0);
            drop((permit, busy));
        };
        tasks.spawn_on(serve, &worker.runtime);
    }

    drop(listener);
    tasks.close();
    if timeout(timing.drain, tasks.wait()).await.is_err() {
        warn!(listener = name, connections = tasks.len(), "dropping connections that did not end");
        dropping.cancel();
        tasks.wait().await;
    }
}

struct Connection<S> {
    builder: Builder<TokioExecutor>,
    service: S,
    peer: SocketAddr,
    header_deadline: Duration,
    draining: CancellationToken,
    dropping: CancellationToken,
}

impl<S: Serve> Connection<S> {
    async fn serve(self, stream: TcpStream) {
        // Small answers must not wait for the peer's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let asked = Arc::new(AtomicBool::new(false));
        let service = {
            let (service, peer, asked) = (self.service, self.peer, asked.clone());
            service_fn(move |request| {
                asked.store(true, Ordering::Relaxed);
                answer(service.clone(), peer, request)
            })
        };
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        // hyper's own deadline starts once the protocol is known: it does not see a peer that says nothing,
        // or stops within the HTTP/2 preface.
        let mut first_request = std::pin::pin!(sleep(self.header_deadline));
        let (mut waiting, mut serving) = (true, true);
        loop {
            tokio::select! {
                result = &mut connection => {
                    if let Err(error) = result {
                        debug!(error, "connection ended");
                    }
                    return;
                }
                () = self.draining.cancelled(), if serving => {
                    serving = false;
                    connection.as_mut().graceful_shutdown();
                }
                () = &mut first_request, if waiting => {
                    waiting = false;
                    if !asked.load(Ordering::Relaxed) {
                        return;
                    }
                }
                () = self.dropping.cancelled() => return,
            }
        }
    }
}

async fn answer<S: Serve>(
    mut service: S,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if let Some(refusal) = limits::refuse(&request) {
        return Ok(refusal);
    }
    request.extensions_mut().insert(ConnectInfo(peer));
    // A router is always ready.
    service.call(request).await
}

fn builder(header_deadline: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_deadline)
        .max_buf_size(limits::MAX_BUFFER)
        .max_headers(limits::MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(limits::MAX_HEADER_LIST)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1);
    builder
}

/// Raises the soft descriptor limit to the hard one, as Go's runtime does, and leaves a fifth of it to
/// everything that is not an accepted connection.
fn connection_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let descriptors = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let connections = descriptors.map_or(MAX_CONNECTIONS, |all| (all / 5 * 4).min(MAX_CONNECTIONS));
    usize::try_from(connections.max(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
