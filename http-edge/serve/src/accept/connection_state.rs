//! State of a connection: which requests are in flight, and how long it may go on like that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Version;
use tokio::{
    sync::Notify,
    time::{Duration, Instant},
};

/// Bytes of a request's head that are kept until it is complete. Longer heads are refused for their size.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Time limits of a connection. Only tests have others than the listeners' own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// Time for a request's header, from its first byte on; for the first one from the connection's. So a
    /// client that sends half a header holds its place no longer than this.
    pub(super) header: Duration,
    /// Time between two requests of an HTTP/1.1 connection. Longer than the 60 s of common load balancers,
    /// which would else send into a connection that is just being closed; nginx' `keepalive_timeout` has the
    /// same 75 s.
    pub(super) idle: Duration,
    /// Life of an HTTP/2 connection. A peer that never takes its answers holds their memory so long, and no
    /// longer.
    pub(super) age: Duration,
    /// Time between the signal and the end of listening: load balancers learn meanwhile that the process is
    /// not ready.
    pub(super) notice: Duration,
    /// Time for a request that has not arrived when its connection is to end.
    pub(super) grace: Duration,
    /// Time for the requests in flight when their connection is to end. With `notice` it leaves 1 s of the 10
    /// s that a shutdown may take.
    pub(super) drain: Duration,
}

/// Reason to end a connection from this side; the label `reason` of `datafly_connections_ended_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndReason {
    /// A header did not come in time.
    Header,
    /// No request came for as long as a connection may be idle.
    Idle,
    /// The connection is old, and may end what is in flight.
    Age,
    /// The requests in flight took too long when the connection was to end.
    Drain,
    /// The listener is full, and the connection waited longest of all.
    Full,
}

impl EndReason {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Idle => "idle",
            Self::Age => "age",
            Self::Drain => "drain",
            Self::Full => "full",
        }
    }
}

/// State of a connection, shared by its task, its socket, its answers and the evictor.
#[derive(Debug)]
pub(super) struct ConnectionState {
    timing: Timing,
    inner: Mutex<Inner>,
    /// Notified when another connection needs the room.
    pub(super) full: Notify,
}

#[derive(Debug)]
struct Inner {
    born: Instant,
    /// Instant at which the last request ended, or the next one's first byte came.
    since: Instant,
    in_flight: usize,
    asked: bool,
    http2: bool,
    /// Bytes of the next request's head that have come; empty in HTTP/2.
    head: Vec<u8>,
    leaving: Option<Instant>,
}

impl ConnectionState {
    pub(super) fn new(timing: Timing) -> Arc<Self> {
        let now = Instant::now();
        let (in_flight, asked, http2, head, leaving) = (0, false, false, Vec::new(), None);
        let inner = Inner { born: now, since: now, in_flight, asked, http2, head, leaving };
        Arc::new(Self { timing, inner: Mutex::new(inner), full: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of bytes that have come.
    pub(super) fn read(&self, bytes: &[u8]) {
        let mut inner = self.lock();
        if inner.in_flight > 0 || inner.http2 || bytes.is_empty() {
            return;
        }
        if inner.head.is_empty() && inner.asked {
            inner.since = Instant::now();
        }
        let room = MAX_HEAD_BYTES.saturating_sub(inner.head.len());
        inner.head.extend(bytes.iter().take(room));
    }

    /// Takes note of a request whose head is complete. Answers with the bytes it came in, as far as they came
    /// while nothing else was in flight, and what follows it in the same packet.
    pub(super) fn request(self: &Arc<Self>, version: Version) -> (Flight, Vec<u8>) {
        let mut inner = self.lock();
        inner.in_flight += 1;
        inner.asked = true;
        inner.http2 = version == Version::HTTP_2;
        (Flight(self.clone()), std::mem::take(&mut inner.head))
    }

    /// Marks the connection as one that is to end, with what is in flight.
    pub(super) fn leave(&self) {
        self.lock().leaving.get_or_insert_with(Instant::now);
    }

    /// Instant since which no request is in flight; `None` while one is.
    pub(super) fn waiting(&self) -> Option<Instant> {
        let inner = self.lock();
        (inner.in_flight == 0).then_some(inner.since)
    }

    /// Instant at which the connection has to end if nothing changes, and why; `None` where nothing is due.
    pub(super) fn due(&self) -> Option<(Instant, EndReason)> {
        let (inner, timing) = (self.lock(), &self.timing);
        match inner.leaving {
            Some(leaving) if inner.in_flight > 0 => Some((leaving + timing.drain, EndReason::Drain)),
            Some(leaving) => Some((leaving.max(inner.since) + timing.grace, EndReason::Drain)),
            None if inner.asked && inner.http2 => Some((inner.born + timing.age, EndReason::Age)),
            None if inner.in_flight > 0 => None,
            None if inner.asked && inner.head.is_empty() => {
                Some((inner.since + timing.idle, EndReason::Idle))
            }
            None => Some((inner.since + timing.header, EndReason::Header)),
        }
    }
}

/// Guard of a request in flight, kept until its answer has been written or given up.
#[derive(Debug)]
pub(super) struct Flight(Arc<ConnectionState>);

impl Drop for Flight {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.in_flight -= 1;
        inner.since = Instant::now();
    }
}
