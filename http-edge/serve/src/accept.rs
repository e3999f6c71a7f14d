//! The accept loop. axum 0.8 has no deadline for a request's header and no bound on its drain, so the three
//! binaries drive hyper themselves: HTTP/1.1, and HTTP/2 by prior knowledge, on one port.

mod connection;
mod connection_state;
mod instrumented;
mod places;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto::Builder,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use self::{
    connection::Connection,
    connection_state::{EndReason, Timing},
    places::Places,
};
pub use self::{connection::Voucher, instrumented::ReceivedBody};
use crate::{EnvError, Lifecycle, Serve, TrustedProxies, Workers, limits};

/// Most connections of a process at once: 8,192 on its main listener, and a quarter of that on the one beside it. More
/// wait in the kernel's backlog.
const MAX_CONNECTIONS: u64 = 10_240;
/// Descriptors that the process itself needs: listeners, stores, channels.
const OWN_DESCRIPTORS: u64 = 64;
/// Pause after a failed accept, and between looks for room: trying again at once would spin.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// Most streams at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// Streams a peer may open and reset before they are accepted (rapid reset, CVE-2023-44487). h2 allows 20;
/// but a proxy or an edge that loses one client resets all that it carries for that client in one burst, and
/// closing on it would cut everybody else's requests with them. So as many are allowed as can be open.
const MAX_PENDING_RESETS: usize = 256;
/// Silence after which an HTTP/2 peer is asked for a sign of life.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// Time in which a peer has to give a sign of life that it was asked for.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

const TIMING: Timing = Timing {
    header: Duration::from_secs(10),
    idle: Duration::from_secs(75),
    age: Duration::from_mins(10),
    stall: Duration::from_secs(5),
    notice: Duration::from_secs(2),
    grace: Duration::from_secs(1),
    drain: Duration::from_secs(7),
};

/// Peers that have no bound on their share of a listener, which is a sixteenth of its places for an address.
#[derive(Debug, Clone)]
pub enum Exempt {
    /// No peer at all.
    Nobody,
    /// Trusted proxies, which stand for all of their clients.
    Proxies(Arc<TrustedProxies>),
    /// Peers whom the service vouches for, each on its connection: requests carry a [`Voucher`], and no peer's address.
    Vouched,
}

impl Exempt {
    fn has(&self, peer: IpAddr) -> bool {
        matches!(self, Self::Proxies(proxies) if proxies.trusts(peer))
    }
}

/// Listens at `addr`, the value of the variable `name`. Port 0 takes any free one.
pub async fn bind(name: &'static str, addr: SocketAddr) -> Result<TcpListener, EnvError> {
    TcpListener::bind(addr).await.map_err(|error| {
        EnvError::malformed(name, format_args!("can't be listened at ({addr}): {}", error.kind()))
    })
}

/// Serves what `workers` answer on `listener` until 2 s after `lifecycle` drains, then for at most 7 s what
/// is in flight. `name` is the `listener` label of the log line `listening` and of the metrics. Requests
/// carry the peer as [`ConnectInfo<SocketAddr>`](axum::extract::ConnectInfo), unless peers are to be vouched for.
pub async fn serve<S: Serve>(
    listener: TcpListener,
    name: &'static str,
    exempt: Exempt,
    workers: Workers<S>,
    lifecycle: Lifecycle,
) {
    serve_tls(listener, name, exempt, None, workers, lifecycle).await;
}

/// Serves as [`serve`] does, behind TLS where there is `tls`.
pub async fn serve_tls<S: Serve>(
    listener: TcpListener,
    name: &'static str,
    exempt: Exempt,
    tls: Option<TlsAcceptor>,
    workers: Workers<S>,
    lifecycle: Lifecycle,
) {
    let places = Places::new((connection_limit() / 5 * 4).max(1), exempt, TIMING);
    serve_with(listener, name, tls, workers, lifecycle, places, TIMING).await;
}

/// Serves as [`serve`] does a listener beside the process's main one, which takes a quarter of that one's connections
/// and whose peers are all alike.
pub(crate) async fn serve_beside<S: Serve>(
    listener: TcpListener,
    name: &'static str,
    workers: Workers<S>,
    lifecycle: Lifecycle,
) {
    let places = Places::new((connection_limit() / 5).max(1), Exempt::Nobody, TIMING);
    serve_with(listener, name, None, workers, lifecycle, places, TIMING).await;
}

async fn serve_with<S: Serve>(
    listener: TcpListener,
    name: &'static str,
    tls: Option<TlsAcceptor>,
    workers: Workers<S>,
    lifecycle: Lifecycle,
    mut places: Places,
    timing: Timing,
) {
    if let Ok(addr) = listener.local_addr() {
        info!(listener = name, %addr, tls = tls.is_some(), "listening");
    }
    let draining = lifecycle.draining();
    let leaving = CancellationToken::new();
    let tasks = TaskTracker::new();
    let accept = async {
        let builder = builder();
        let open = metrics::gauge!("datafly_connections", "listener" => name);
        loop {
            // Another thread's reactor is to watch it.
            let accepted = listener.accept().await.and_then(|(stream, peer)| Ok((stream.into_std()?, peer)));
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(listener = name, %error, "accept failed");
                    sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            let Some(place) = places.take(peer.ip()).await else {
                count(name, EndReason::Address);
                continue;
            };
            let Some((worker, busy)) = workers.next() else { return };
            let connection = Connection {
                builder: builder.clone(),
                tls: tls.clone(),
                service: worker.service.clone(),
                peer,
                timing,
                state: place.state.clone(),
                is_vouched_for: places.are_vouched_for(),
                draining: draining.clone(),
                leaving: leaving.clone(),
            };
            let open = open.clone();
            let serve = async move {
                open.increment(1.0);
                let ended = match TcpStream::from_std(stream) {
                    Ok(stream) => connection.serve(stream).await,
                    Err(_) => None,
                };
                open.decrement(1.0);
                if let Some(end) = ended {
                    count(name, end);
                }
                drop((place, busy));
            };
            tasks.spawn_on(serve, &worker.runtime);
        }
    };
    let noticed = async {
        draining.cancelled().await;
        sleep(timing.notice).await;
    };
    tokio::select! {
        () = accept => {}
        () = noticed => {}
    }
    drop(listener);
    leaving.cancel();
    tasks.close();
    // Each of them knows until when it may stay.
    tasks.wait().await;
}

fn count(listener: &'static str, end: EndReason) {
    metrics::counter!("datafly_connections_ended_total", "listener" => listener, "reason" => end.label())
        .increment(1);
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // hyper's own deadline for headers counts idle time as well; `connection_state` tells the two apart.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(limits::MAX_BUFFER_BYTES)
        .max_headers(limits::MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(limits::MAX_HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

/// Connections of all listeners of the process. Raises the soft descriptor limit to the hard one, as Go's runtime does,
/// and keeps a fifth of it free.
fn connection_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let descriptors = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let connections = descriptors
        .map_or(MAX_CONNECTIONS, |all| (all / 5 * 4).saturating_sub(OWN_DESCRIPTORS).min(MAX_CONNECTIONS));
    usize::try_from(connections.max(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
