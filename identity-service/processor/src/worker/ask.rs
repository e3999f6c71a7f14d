//! What a worker asks for, one thing at a time: what the core now says of events that wait, what of the table is due, the
//! next page of the log, and the next of a replay.

use std::{sync::Arc, time::Duration};

use event_log::{Position, StoredEvent};
use migrations::sealed::columns;
use prost::Message;
use proto::event::Envelope;
use tokio::time::Instant;

use super::Worker;
use crate::{
    destination::Destination,
    health::State,
    lane,
    prepare::{Action, OpenEvent, Prepared},
    replay::{self, Replaying},
    shared::Shared,
    storage::{DeliveryRow, ReplayRow},
    window::Ticket,
};

/// Events of a page.
const PAGE_EVENTS: i64 = 1000;
/// Bytes of a page.
const PAGE_BYTES: i64 = 4 * 1024 * 1024;
/// Events in the window from which on no further page is read.
const ENOUGH_EVENTS: usize = 1000;
/// Bytes in the window from which on no further page is read.
const ENOUGH_BYTES: usize = 4 * 1024 * 1024;
/// Events of the table that are tried at once.
const DUE_EVENTS: i64 = 32;
/// Pause after which the core, or the log, is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Period of looks at the table, and for a replay.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// The answer to what was asked.
pub enum Page {
    /// The next events of the log; none where there are no more.
    Events(Vec<Prepared>),
    /// What is to be done with events that wait.
    Checked(Vec<(Ticket, Action)>),
    /// Events of the table that are due.
    Due(Vec<(DeliveryRow, Prepared)>),
    /// A replay that is to be begun, from a position on.
    Replay(ReplayRow, Position),
    /// The next events of a replay: the last position that was read, whether there are no more, and they.
    Replayed(Position, bool, Vec<Prepared>),
    /// Nothing was to be had.
    Nothing,
    /// The log or the core could not be asked.
    Later,
}

impl Worker {
    /// Asks for what is wanted most, unless something is being asked.
    pub fn ask(&mut self, now: Instant) {
        if self.asking.is_some() || now < self.ask_at {
            return;
        }
        let (shared, destination) = (self.shared.clone(), self.destination.clone());
        let is_active = *self.health.state() == State::Active && !self.is_paused;
        let has_room = self.window.len() < ENOUGH_EVENTS && self.window.bytes() < ENOUGH_BYTES;
        if self.is_stale {
            self.is_stale = false;
            let events: Vec<(Ticket, Arc<OpenEvent>)> =
                self.window.waiting().map(|(ticket, item)| (ticket, item.prepared.event.clone())).collect();
            self.asking = Some(Box::pin(check(shared, destination, events)));
        } else if is_active && self.due.is_empty() && now >= self.due_at {
            self.due_at = now + LOOK_PERIOD;
            self.asking = Some(Box::pin(due(shared, destination)));
        } else if self.has_more && has_room && !self.is_paused {
            let after = self.read;
            self.asking = Some(Box::pin(page(shared, destination, after)));
        } else if is_active && now >= self.replay_at {
            match &self.replay {
                None => {
                    self.replay_at = now + LOOK_PERIOD;
                    self.asking = Some(Box::pin(begun(shared, destination)));
                }
                Some(replay) if replay.wants_page() => {
                    let (row, after) = (replay.row.clone(), replay.read);
                    self.asking = Some(Box::pin(replayed(shared, destination, row, after)));
                }
                Some(_) => {}
            }
        }
    }

    /// Takes what was asked for.
    pub fn receive(&mut self, page: Page, now: Instant) {
        match page {
            Page::Events(events) => {
                self.has_more = !events.is_empty();
                for prepared in events {
                    self.read = prepared.position;
                    self.window.push(prepared);
                }
                self.report.is_at_head = !self.has_more && self.window.is_empty();
            }
            Page::Checked(actions) => {
                for (ticket, action) in actions {
                    if let Some(item) = self.window.item_mut(ticket) {
                        (item.prepared.action, item.prepared.checked_at) = (action, Some(now));
                    }
                }
            }
            Page::Due(due) => {
                for (row, prepared) in due {
                    if let Action::Skip(word) = prepared.action {
                        self.skip(&prepared, word);
                        self.forget_row(row.id, prepared.lane);
                    } else if let Action::Dead(reason) = prepared.action {
                        self.bury_row(row.id, prepared.lane, reason);
                    } else {
                        self.due.push_back((row, prepared));
                    }
                }
            }
            Page::Replay(row, from) => {
                let rate = self.destination.settings.rate(self.destination.kind);
                self.replay = Some(Replaying::new(row, from, rate, now));
            }
            Page::Replayed(read, is_last, events) => {
                if let Some(replay) = &mut self.replay {
                    replay.receive(read, is_last, events);
                }
            }
            Page::Nothing => {}
            Page::Later => self.ask_at = now + RETRY_PAUSE,
        }
    }
}

async fn page(shared: Arc<Shared>, destination: Arc<Destination>, after: Position) -> Page {
    let read = shared.log.read(destination.source, after, PAGE_EVENTS, PAGE_BYTES).await;
    match read {
        Ok(stored) if stored.is_empty() => Page::Events(Vec::new()),
        Ok(stored) => prepared(&shared, &destination, stored).await.map_or(Page::Later, Page::Events),
        Err(error) => {
            serve::warn_on_change!(WARN, %error, "the event log can't be read");
            Page::Later
        }
    }
}

async fn prepared(
    shared: &Shared,
    destination: &Destination,
    stored: Vec<StoredEvent>,
) -> Option<Vec<Prepared>> {
    // What the core said was logged where it was met.
    shared.preparer.page(destination, stored).await.ok()
}

async fn check(
    shared: Arc<Shared>,
    destination: Arc<Destination>,
    events: Vec<(Ticket, Arc<OpenEvent>)>,
) -> Page {
    let asked = events.iter().map(|(_, event)| event.as_ref());
    let actions = shared.preparer.actions(&destination, asked).await;
    let with_tickets = |actions: Vec<Action>| events.iter().map(|(ticket, _)| *ticket).zip(actions).collect();
    actions.map_or(Page::Later, |actions| Page::Checked(with_tickets(actions)))
}

async fn due(shared: Arc<Shared>, destination: Arc<Destination>) -> Page {
    let Ok(rows) = shared.storage.due(destination.id, DUE_EVENTS).await else { return Page::Later };
    if rows.is_empty() {
        return Page::Nothing;
    }
    let opened: Vec<(DeliveryRow, Arc<OpenEvent>)> = rows
        .into_iter()
        .map(|row| {
            let event = open(&shared, &destination, &row);
            (row, event)
        })
        .collect();
    let Ok(actions) =
        shared.preparer.actions(&destination, opened.iter().map(|(_, event)| event.as_ref())).await
    else {
        return Page::Later;
    };
    let checked_at = Some(Instant::now());
    let ready = opened.into_iter().zip(actions).map(|((row, event), action)| {
        let lane = row.lane.as_slice().try_into().unwrap_or_else(|_| lane::of(&event.envelope));
        let prepared = Prepared { position: Position::default(), lane, bytes: 0, event, action, checked_at };
        (row, prepared)
    });
    Page::Due(ready.collect())
}

/// Opens an event of the table; one that does not open has nothing in it, and is given up.
fn open(shared: &Shared, destination: &Destination, row: &DeliveryRow) -> Arc<OpenEvent> {
    let place = columns::DELIVERIES.place(row.org_id, row.id);
    let opened = shared.keys.open(place, &row.sealed).map_err(|error| {
        serve::warn_on_change!(ERROR, %error, row = %row.id, "an event that waits can't be opened");
    });
    let envelope = opened.ok().and_then(|plain| Envelope::decode(plain.as_slice()).ok()).unwrap_or_default();
    Arc::new(OpenEvent {
        org: row.org_id,
        source: destination.source,
        canonical: row.canonical_id,
        id: row.event_id,
        received_at: row.received_at,
        envelope,
    })
}

async fn begun(shared: Arc<Shared>, destination: Arc<Destination>) -> Page {
    let row = match shared.storage.replay(destination.id).await {
        Ok(Some(row)) => row,
        Ok(None) => return Page::Nothing,
        Err(_) => return Page::Later,
    };
    let from = match row.position {
        Some(position) => Ok(Position::from_number(position)),
        None => shared.log.position_at(destination.source, row.from_at).await,
    };
    from.map_or(Page::Later, |from| Page::Replay(row, from))
}

async fn replayed(
    shared: Arc<Shared>,
    destination: Arc<Destination>,
    row: ReplayRow,
    after: Position,
) -> Page {
    let read = shared.log.read(destination.source, after, replay::PAGE_EVENTS, PAGE_BYTES).await;
    let Ok(stored) = read else { return Page::Later };
    let is_last = stored.last().is_none_or(|event| event.received_at > row.to_at);
    let last = stored.last().map_or(after, |event| event.position);
    let within = stored.into_iter().filter(|event| (row.from_at..=row.to_at).contains(&event.received_at));
    match prepared(&shared, &destination, within.collect()).await {
        Some(events) => Page::Replayed(last, is_last, events),
        None => Page::Later,
    }
}
