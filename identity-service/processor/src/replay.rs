//! Replaying: events of the past that are sent once more, after all that is new and at half the pace.

use std::collections::{HashMap, VecDeque};

use event_log::Position;
use tokio::time::Instant;

use crate::{
    pacing::Pacing,
    prepare::{Action, Prepared},
    storage::ReplayRow,
};

/// Most events of a replay that are under way at once.
const MOST: usize = 8;
/// Events of a page.
pub const PAGE_EVENTS: i64 = 200;

/// A replay that is being done.
pub struct Replaying {
    /// What was asked for.
    pub row: ReplayRow,
    /// The position up to which all is done.
    pub done: Position,
    /// The position up to which it was read.
    pub read: Position,
    queue: VecDeque<Waiting>,
    under_way: usize,
    sent: i64,
    failed: i64,
    is_read: bool,
    pacing: Pacing,
}

/// An event that waits for its turn.
struct Waiting {
    event: Prepared,
    /// Failures so far.
    attempts: u8,
    /// The time before which it is not sent.
    at: Instant,
}

/// What is to be written down of a replay.
pub struct Advance {
    /// The position up to which all is done.
    pub position: i64,
    /// Events that were sent, and that were refused, since the last time.
    pub counts: (i64, i64),
    /// True where nothing is left.
    pub is_finished: bool,
}

impl Replaying {
    /// A replay from a position on, at half of `rate`.
    pub fn new(row: ReplayRow, from: Position, rate: u32, now: Instant) -> Self {
        let pacing = Pacing::new((rate / 2).max(1), now);
        let queue = VecDeque::new();
        Self { row, done: from, read: from, queue, under_way: 0, sent: 0, failed: 0, is_read: false, pacing }
    }

    /// True where its next page is to be read.
    pub fn wants_page(&self) -> bool {
        !self.is_read && self.queue.is_empty() && self.under_way == 0
    }

    /// Takes a page: its last position, whether it is the last, and the events that were asked for.
    pub fn receive(&mut self, read: Position, is_last: bool, page: Vec<Prepared>, now: Instant) {
        self.done = self.read;
        self.read = read;
        self.is_read = is_last;
        let names = &self.row.events;
        let wanted = page.into_iter().filter(|event| names.is_empty() || names.contains(&name_of(event)));
        self.queue.extend(wanted.map(|event| Waiting { event, attempts: 0, at: now }));
    }

    /// Takes the next event with its failures so far, if one may be sent. Of one that is not to be sent it counts that.
    pub fn next(&mut self, now: Instant) -> Option<(Prepared, u8)> {
        let before = self.queue.len();
        self.queue.retain(|waiting| matches!(waiting.event.action, Action::Send(_)));
        self.failed += i64::try_from(before - self.queue.len()).unwrap_or_default();
        if self.under_way >= MOST || self.is_stale(now) {
            return None;
        }
        let next = self.queue.iter().position(|waiting| waiting.at <= now)?;
        if self.pacing.take(now).is_err() {
            return None;
        }
        self.under_way += 1;
        self.queue.remove(next).map(|waiting| (waiting.event, waiting.attempts))
    }

    /// True where the core has to be asked again about what waits.
    pub fn is_stale(&self, now: Instant) -> bool {
        self.queue.iter().any(|waiting| waiting.at <= now && !waiting.event.is_fresh(now))
    }

    /// The events that wait.
    pub fn waiting(&self) -> impl Iterator<Item = &Prepared> {
        self.queue.iter().map(|waiting| &waiting.event)
    }

    /// Takes what the core now says of events that wait.
    pub fn check(&mut self, actions: Vec<(Position, Action)>, now: Instant) {
        let mut actions: HashMap<Position, Action> = actions.into_iter().collect();
        for waiting in &mut self.queue {
            if let Some(action) = actions.remove(&waiting.event.position) {
                (waiting.event.action, waiting.event.checked_at) = (action, Some(now));
            }
        }
    }

    /// Notes that an event came to its end: it was sent, or refused for good.
    pub fn finish(&mut self, was_sent: bool) {
        self.under_way = self.under_way.saturating_sub(1);
        if was_sent {
            self.sent += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Puts an event back that was not taken now, until that time.
    pub fn put_back(&mut self, event: Prepared, attempts: u8, at: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        self.queue.push_front(Waiting { event, attempts, at });
    }

    /// What is to be written down; what it counts is not told again.
    pub fn advance(&mut self) -> Advance {
        let is_done = self.queue.is_empty() && self.under_way == 0;
        if is_done {
            self.done = self.read;
        }
        let counts = (std::mem::take(&mut self.sent), std::mem::take(&mut self.failed));
        Advance { position: self.done.number(), counts, is_finished: is_done && self.is_read }
    }

    /// True where an event waits for its turn.
    pub fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }
}

/// The name of an event as it came; of a call that is no track its kind.
fn name_of(event: &Prepared) -> String {
    let json: serde_json::Value = serde_json::from_slice(&event.event.envelope.json).unwrap_or_default();
    let text = |name: &str| json.get(name).and_then(serde_json::Value::as_str);
    text("event").or_else(|| text("type")).unwrap_or_default().to_owned()
}
