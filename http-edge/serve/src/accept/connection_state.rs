//! State of a connection: which requests are in flight, and how long it may go on like that.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

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
    /// Time for which a peer may neither send nor read what we wait for, before its connection may be ended for
    /// others'.
    pub(super) stall: Duration,
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
    /// The listener is full, and the connection waited or stalled longest of all.
    Full,
    /// The address has its share of the listener, and the connection waited or stalled longest of its own, or is one
    /// too many.
    Address,
}

impl EndReason {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Idle => "idle",
            Self::Age => "age",
            Self::Drain => "drain",
            Self::Full => "full",
            Self::Address => "address",
        }
    }
}

/// State of a connection, shared by its task, its socket, its requests and answers, and its listener's places.
#[derive(Debug)]
pub(super) struct ConnectionState {
    timing: Timing,
    inner: Mutex<Inner>,
    /// Notified when another connection needs the room.
    pub(super) full: Notify,
    /// Number of connections that count on the address's share; none where the address has no bound.
    counted: Option<Arc<AtomicUsize>>,
}

#[derive(Debug)]
struct Inner {
    born: Instant,
    /// Instant at which the last request ended, or the next one's first byte came.
    since: Instant,
    in_flight: usize,
    /// Requests in flight that wait for the peer to send or to read, and not for us.
    held_up: usize,
    /// Instant at which the peer last sent or read what we waited for, or we last began to wait.
    moved: Instant,
    /// True while the peer reads nothing of what is to be written.
    is_unread: bool,
    /// True while the connection counts on its address's share.
    counts: bool,
    /// True where the peer has shown that it is one of our own.
    is_trusted: bool,
    /// Reason for which the connection was told to end.
    told: Option<EndReason>,
    asked: bool,
    http2: bool,
    /// Bytes of the next request's head that have come; empty in HTTP/2.
    head: Vec<u8>,
    leaving: Option<Instant>,
}

impl ConnectionState {
    /// State of a new connection, which counts on `counted` at once.
    pub(super) fn new(timing: Timing, counted: Option<Arc<AtomicUsize>>) -> Arc<Self> {
        let now = Instant::now();
        let counts = counted.is_some();
        if let Some(counted) = &counted {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        let inner = Inner {
            born: now,
            since: now,
            in_flight: 0,
            held_up: 0,
            moved: now,
            is_unread: false,
            counts,
            is_trusted: false,
            told: None,
            asked: false,
            http2: false,
            head: Vec::new(),
            leaving: None,
        };
        Arc::new(Self { timing, inner: Mutex::new(inner), full: Notify::new(), counted })
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
        (Flight { state: self.clone(), is_held_up: false, has_moved: false }, std::mem::take(&mut inner.head))
    }

    /// Marks the connection as one that is to end, with what is in flight.
    pub(super) fn leave(&self) {
        self.lock().leaving.get_or_insert_with(Instant::now);
    }

    /// Takes note of a request that from now on waits for the peer.
    pub(super) fn hold_up(&self) {
        let mut inner = self.lock();
        // What is new is not what was waited for.
        if inner.held_up == 0 {
            inner.moved = Instant::now();
        }
        inner.held_up += 1;
    }

    /// Takes note of a request that waited for the peer and does so no longer.
    pub(super) fn go_on(&self) {
        let mut inner = self.lock();
        inner.held_up -= 1;
        inner.moved = Instant::now();
    }

    /// Takes note of something that the peer has taken, while there is more.
    pub(super) fn progress(&self) {
        self.lock().moved = Instant::now();
    }

    /// Takes note of whether the peer reads what is written.
    pub(super) fn set_unread(&self, is_unread: bool) {
        let mut inner = self.lock();
        inner.is_unread = is_unread;
        inner.moved = Instant::now();
    }

    /// Marks the peer as one of our own, which no share and no other connection's need ends.
    pub(super) fn trust(&self) {
        let mut inner = self.lock();
        inner.is_trusted = true;
        self.count(&mut inner, false);
    }

    /// Gives up what the connection counts on its address's share.
    pub(super) fn discount(&self) {
        self.count(&mut self.lock(), false);
    }

    fn count(&self, inner: &mut Inner, counts: bool) {
        let Some(counted) = self.counted.as_ref().filter(|_| inner.counts != counts) else { return };
        inner.counts = counts;
        if counts {
            counted.fetch_add(1, Ordering::Relaxed)
        } else {
            counted.fetch_sub(1, Ordering::Relaxed)
        };
    }

    /// Instant since which the connection has waited for a request, or for [`Timing::stall`] or longer for the peer to send or
    /// read what its requests need; `None` where it can't be ended for others'.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let inner = self.lock();
        if inner.told.is_some() { None } else { inner.idle_since(self.timing.stall) }
    }

    /// Tells the connection to end for others', of which the new one takes its place in the address's share.
    pub(super) fn end(&self, reason: EndReason) {
        let mut inner = self.lock();
        inner.told = Some(reason);
        self.count(&mut inner, false);
        drop(inner);
        self.full.notify_one();
    }

    /// Reason for which the connection was told to end, if that still holds: it may have got a request since.
    pub(super) fn told(&self) -> Option<EndReason> {
        let mut inner = self.lock();
        let told = inner.told.take();
        if inner.idle_since(self.timing.stall).is_none() {
            let counts = !inner.is_trusted;
            self.count(&mut inner, counts);
            return None;
        }
        told
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

impl Inner {
    fn idle_since(&self, stall: Duration) -> Option<Instant> {
        let is_stalled = self.is_unread || self.in_flight > 0;
        if self.is_trusted || self.in_flight > self.held_up {
            None
        } else if is_stalled {
            Some(self.moved).filter(|moved| moved.elapsed() >= stall)
        } else {
            Some(self.since)
        }
    }
}

/// Guard of a request in flight, kept until its answer has been written or given up.
#[derive(Debug)]
pub(super) struct Flight {
    state: Arc<ConnectionState>,
    /// True while the answer waits for the peer to read it.
    is_held_up: bool,
    /// True where the peer has read some of it.
    has_moved: bool,
}

impl Flight {
    /// Takes note of an answer that from now on waits for the peer to read it.
    pub(super) fn hold_up(&mut self) {
        self.is_held_up = true;
        self.state.hold_up();
    }

    /// Takes note of a part of the answer that the peer has taken, and of which more follows unless it is the `last`.
    pub(super) fn progress(&mut self, last: bool) {
        self.has_moved = true;
        if !last {
            self.state.progress();
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut inner = self.state.lock();
        inner.in_flight -= 1;
        inner.held_up -= usize::from(self.is_held_up);
        inner.since = Instant::now();
        if self.has_moved {
            inner.moved = inner.since;
        }
    }
}
