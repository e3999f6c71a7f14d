//! What a connection is doing, and until when it may.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Version;
use tokio::{
    sync::Notify,
    time::{Duration, Instant},
};

/// Most of a request's head that is kept until it is complete. Longer ones are refused for their size.
const MAX_HEAD: usize = 64 * 1024;

/// How long a peer may take. One value everywhere but in tests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// For a request's header, from its first byte on; for the first one from the connection's (threats.md T01).
    pub(super) header: Duration,
    /// Between two requests of an HTTP/1.1 connection. Longer than the 60 s of common load balancers, who would
    /// else send into a connection that is just being closed; nginx' `keepalive_timeout` has the same 75 s.
    pub(super) idle: Duration,
    /// Life of an HTTP/2 connection. A peer that never takes its answers holds their memory so long, and no longer.
    pub(super) age: Duration,
    /// Between the signal and the end of listening: load balancers learn meanwhile that we are not ready.
    pub(super) notice: Duration,
    /// For a request that has not arrived when its connection is to end.
    pub(super) grace: Duration,
    /// For the requests in flight when their connection is to end. With `notice` it leaves 1 s of the 10 s that a
    /// shutdown may take.
    pub(super) drain: Duration,
}

/// Why a connection is ended from this side; the label `reason` of `datafly_connections_ended_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// A header did not come in time.
    Header,
    /// No request for long.
    Idle,
    /// It is old, and may end what is in flight.
    Age,
    /// What was in flight when it was to end took too long.
    Drain,
    /// The listener is full, and this one waited longest.
    Full,
}

impl End {
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

/// One connection's state.
#[derive(Debug)]
pub(super) struct Watch {
    timing: Timing,
    state: Mutex<State>,
    /// Told when another connection needs the room.
    pub(super) full: Notify,
}

#[derive(Debug)]
struct State {
    born: Instant,
    /// When the last request ended, or the next one's first byte came.
    since: Instant,
    in_flight: usize,
    asked: bool,
    http2: bool,
    /// What has come of the next request's head; not in HTTP/2.
    head: Vec<u8>,
    leaving: Option<Instant>,
}

impl Watch {
    pub(super) fn new(timing: Timing) -> Arc<Self> {
        let now = Instant::now();
        let (in_flight, asked, http2, head, leaving) = (0, false, false, Vec::new(), None);
        let state = State { born: now, since: now, in_flight, asked, http2, head, leaving };
        Arc::new(Self { timing, state: Mutex::new(state), full: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes have come.
    pub(super) fn read(&self, bytes: &[u8]) {
        let mut state = self.state();
        if state.in_flight > 0 || state.http2 || bytes.is_empty() {
            return;
        }
        if state.head.is_empty() && state.asked {
            state.since = Instant::now();
        }
        let room = MAX_HEAD.saturating_sub(state.head.len());
        state.head.extend(bytes.iter().take(room));
    }

    /// A request's head is complete. Answers with the bytes it came in, as far as they came while nothing else
    /// was in flight, and what follows it in the same packet.
    pub(super) fn request(self: &Arc<Self>, version: Version) -> (Flight, Vec<u8>) {
        let mut state = self.state();
        state.in_flight += 1;
        state.asked = true;
        state.http2 = version == Version::HTTP_2;
        (Flight(self.clone()), std::mem::take(&mut state.head))
    }

    /// The connection is to end, with what is in flight.
    pub(super) fn leave(&self) {
        self.state().leaving.get_or_insert_with(Instant::now);
    }

    /// Since when no request is in flight.
    pub(super) fn waiting(&self) -> Option<Instant> {
        let state = self.state();
        (state.in_flight == 0).then_some(state.since)
    }

    /// When the connection has to end if nothing changes.
    pub(super) fn due(&self) -> Option<(Instant, End)> {
        let (state, timing) = (self.state(), &self.timing);
        match state.leaving {
            Some(leaving) if state.in_flight > 0 => Some((leaving + timing.drain, End::Drain)),
            Some(leaving) => Some((leaving.max(state.since) + timing.grace, End::Drain)),
            None if state.asked && state.http2 => Some((state.born + timing.age, End::Age)),
            None if state.in_flight > 0 => None,
            None if state.asked && state.head.is_empty() => Some((state.since + timing.idle, End::Idle)),
            None => Some((state.since + timing.header, End::Header)),
        }
    }
}

/// One request, until its answer has been written or given up.
#[derive(Debug)]
pub(super) struct Flight(Arc<Watch>);

impl Drop for Flight {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_flight -= 1;
        state.since = Instant::now();
    }
}
