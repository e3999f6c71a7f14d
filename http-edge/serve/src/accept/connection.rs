//! The life of one connection, from its first byte to its end.

use std::{
    convert::Infallible,
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, ready},
};

use axum::extract::ConnectInfo;
use http::{HeaderValue, Request, Response, Version, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use tokio::{
    net::TcpStream,
    time::{Duration, Instant, Sleep, sleep},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    connection_state::{ConnectionState, EndReason, Flight, Timing},
    instrumented::{InstrumentedBody, InstrumentedSocket, ReceivedBody, Stream},
};
use crate::{Serve, limits};

/// Handle to the connection of a request, for whoever finds out that its peer is one of our own.
#[derive(Debug, Clone)]
pub struct Voucher(Arc<ConnectionState>);

impl Voucher {
    /// Exempts the connection from its address's share of the listener, and from being ended for others'.
    pub fn vouch(&self) {
        self.0.trust();
    }
}

/// Time that a timer is put off by when nothing is due.
const RECHECK_INTERVAL: Duration = Duration::from_hours(1);

pub(super) struct Connection<S> {
    pub(super) builder: Builder<TokioExecutor>,
    /// TLS that the connection has to begin with; where there is none, it begins with requests.
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) service: S,
    pub(super) peer: SocketAddr,
    pub(super) timing: Timing,
    pub(super) state: Arc<ConnectionState>,
    /// True where requests carry a [`Voucher`] in place of the peer's address.
    pub(super) is_vouched_for: bool,
    /// Cancelled when the process drains; each later HTTP/1.1 answer is its connection's last.
    pub(super) draining: CancellationToken,
    /// Cancelled when listening ends; a connection that waits is left then, and one with requests in flight
    /// has `timing.drain` left.
    pub(super) leaving: CancellationToken,
}

impl<S: Serve> Connection<S> {
    /// Serves until the peer ends the connection (`None`) or this side does (why).
    pub(super) async fn serve(self, stream: TcpStream) -> Option<EndReason> {
        // Small answers must not wait for the peer's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let stream = match &self.tls {
            None => Stream::Plain(stream),
            // Boxed, as a plain connection would have to carry the room for it.
            Some(tls) => {
                let hands = shake_hands(tls, stream, &self.state, &self.leaving, self.timing.header);
                match Box::pin(hands).await {
                    Ok(stream) => stream,
                    Err(end) => return end,
                }
            }
        };
        let service = {
            let (service, peer, state, draining) =
                (self.service, self.peer, self.state.clone(), self.draining);
            let is_vouched_for = self.is_vouched_for;
            service_fn(move |request: Request<Incoming>| {
                let (flight, head) = state.request(request.version());
                let mut request =
                    request.map(|body| ReceivedBody { body, state: state.clone(), is_awaited: false });
                if is_vouched_for {
                    request.extensions_mut().insert(Voucher(state.clone()));
                } else {
                    request.extensions_mut().insert(ConnectInfo(peer));
                }
                answer(service.clone(), flight, head, draining.clone(), request)
            })
        };
        let socket = InstrumentedSocket { stream, state: self.state.clone(), is_unread: false };
        let mut connection = pin!(self.builder.serve_connection(TokioIo::new(socket), service));
        let mut timer = pin!(sleep(self.timing.header));
        let (mut leaving, mut ended) = (false, None);
        loop {
            tokio::select! {
                biased;
                result = &mut connection => {
                    if let Err(error) = result {
                        debug!(error, "connection ended");
                    }
                    return ended;
                }
                () = self.leaving.cancelled(), if !leaving => {}
                () = self.state.full.notified() => {
                    if let Some(reason) = self.state.told() {
                        return Some(reason);
                    }
                    continue;
                }
                end = overdue(&self.state, timer.as_mut()) => {
                    ended = Some(end);
                    if end != EndReason::Age {
                        return ended;
                    }
                }
            }
            leaving = true;
            self.state.leave();
            connection.as_mut().graceful_shutdown();
        }
    }
}

/// Accepts the TLS stream that requests come on. A peer has as long for its handshake as for a header, and no
/// longer for both together.
async fn shake_hands(
    tls: &TlsAcceptor,
    stream: TcpStream,
    state: &ConnectionState,
    leaving: &CancellationToken,
    limit: Duration,
) -> Result<Stream, Option<EndReason>> {
    tokio::select! {
        accepted = tls.accept(stream) => accepted.map(|stream| Stream::Tls(Box::new(stream))).map_err(|error| {
            debug!(%error, "no handshake");
            metrics::counter!("datafly_tls_handshake_failures_total").increment(1);
            None
        }),
        // Nothing was asked yet.
        () = leaving.cancelled() => Err(Some(EndReason::Drain)),
        () = state.full.notified() => Err(state.told()),
        () = sleep(limit) => Err(Some(EndReason::Header)),
    }
}

/// Waits until `state` is due. What is due changes with every request, and the timer is only touched when it
/// would come too late, or has come too early.
async fn overdue(state: &ConnectionState, mut timer: Pin<&mut Sleep>) -> EndReason {
    poll_fn(move |context| {
        loop {
            let due = state.due();
            if let Some((at, _)) = due
                && at < timer.deadline()
            {
                timer.as_mut().reset(at);
            }
            ready!(timer.as_mut().poll(context));
            match due {
                Some((at, end)) if at <= timer.deadline() => return Poll::Ready(end),
                Some((at, _)) => timer.as_mut().reset(at),
                // A request is in flight; what follows it is due later than this.
                None => timer.as_mut().reset(Instant::now() + RECHECK_INTERVAL),
            }
        }
    })
    .await
}

async fn answer<S: Serve>(
    mut service: S,
    flight: Flight,
    head: Vec<u8>,
    draining: CancellationToken,
    request: Request<ReceivedBody>,
) -> Result<Response<InstrumentedBody>, Infallible> {
    let version = request.version();
    let mut response = if let Some(refusal) = limits::refuse(&request, &head) {
        refusal
    } else {
        // A router is always ready.
        service.call(request).await?
    };
    // HTTP/2 says it once for the whole connection.
    if draining.is_cancelled() && version != Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| InstrumentedBody::new(body, flight)))
}
