//! What a worker asks for, one thing at a time: what the core now says of events that wait, what of the table is due, the
//! next page of the log, and the next of a replay.

use std::{sync::Arc, time::Duration};

use event_log::{LogError, Position, StoredEvent};
use migrations::sealed::{SealError, columns};
use prost::Message;
use proto::event::Envelope;
use tokio::time::Instant;
use tonic::{Code, Status};
use uuid::Uuid;

use super::Worker;
use crate::{
    destination::Destination,
    health::State,
    lane,
    prepare::{Action, OpenEvent, Prepared, UNKNOWN_KEY},
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
/// The same where it does not understand the question: settings, or its version, have to change.
const REFUSED_PAUSE: Duration = Duration::from_secs(15);
/// Period of looks at the table, and for a replay.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// The answer to what was asked.
pub enum Page {
    /// The next events of the log.
    Events(Vec<Prepared>),
    /// There are no more: the position that the log has come to.
    AtHead(Position),
    /// What is to be done with events that wait.
    Checked(Vec<(Ticket, Action)>),
    /// What is to be done with those of a replay, by their places in the log.
    ReplayChecked(Vec<(Position, Action)>),
    /// Events of the table that are due.
    Due(Vec<(DeliveryRow, Prepared)>),
    /// A replay that is to be begun, from a position on.
    Replay(ReplayRow, Position),
    /// The next events of a replay: the last position that was read, whether there are no more, and they.
    Replayed(Position, bool, Vec<Prepared>),
    /// Nothing was to be had.
    Nothing,
    /// Nothing can be done until something else than the destination changes, for this reason.
    Refused(&'static str),
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
        // Where nothing new tells that it is back, what waits does.
        let is_time = self.health.probe_at().is_some_and(|at| now >= at);
        let may_probe = is_time && !self.is_paused && self.window.is_empty();
        let has_room = self.window.len() < ENOUGH_EVENTS && self.window.bytes() < ENOUGH_BYTES;
        if self.is_stale {
            self.is_stale = false;
            let events: Vec<(Ticket, Arc<OpenEvent>)> =
                self.window.waiting().map(|(ticket, item)| (ticket, item.prepared.event.clone())).collect();
            self.asking = Some(Box::pin(async move {
                check(shared, destination, events).await.map_or_else(Page::from, Page::Checked)
            }));
        } else if self.due.is_empty()
            && self.due_under_way == 0
            && (is_active || may_probe)
            && now >= self.due_at
        {
            self.due_at = now + LOOK_PERIOD;
            self.asking = Some(Box::pin(due(shared, destination)));
        } else if self.has_more && has_room && !self.is_paused {
            let after = self.read;
            self.asking = Some(Box::pin(page(shared, destination, after)));
        } else if (is_active || (may_probe && self.due.is_empty())) && now >= self.replay_at {
            match &self.replay {
                None => {
                    self.replay_at = now + LOOK_PERIOD;
                    self.asking = Some(Box::pin(begun(shared, destination)));
                }
                Some(replay) if replay.wants_page() => {
                    let (row, after) = (replay.row.clone(), replay.read);
                    self.asking = Some(Box::pin(replayed(shared, destination, row, after)));
                }
                Some(replay) if replay.is_stale(now) => {
                    let events =
                        replay.waiting().map(|event| (event.position, event.event.clone())).collect();
                    self.asking = Some(Box::pin(async move {
                        check(shared, destination, events).await.map_or_else(Page::from, Page::ReplayChecked)
                    }));
                }
                Some(_) => {}
            }
        }
    }

    /// Takes what was asked for.
    pub async fn receive(&mut self, page: Page, now: Instant) {
        let was_understood = !matches!(
            page,
            Page::Later | Page::Refused(_) | Page::Nothing | Page::AtHead(_) | Page::Replay(..)
        );
        let is_ours =
            [SETTINGS, UNKNOWN_KEY].map(|reason| State::Paused { reason }).contains(self.health.state());
        if was_understood && is_ours && self.destination.unusable().is_none() {
            self.health.reset();
        }
        match page {
            Page::Events(events) => {
                self.has_more = true;
                for prepared in events {
                    self.read = prepared.position;
                    self.window.push(prepared);
                }
            }
            Page::AtHead(head) => {
                self.has_more = false;
                self.read = self.read.max(head);
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
                    match prepared.action.clone() {
                        Action::Skip(word) => {
                            self.skip(&prepared, word);
                            self.settle_row(row.id, prepared.lane).await;
                        }
                        Action::Test(outgoing) => {
                            self.show_test(&prepared, &outgoing);
                            self.settle_row(row.id, prepared.lane).await;
                        }
                        Action::Dead(reason) => {
                            self.bury_row(row.id, prepared.lane, reason, None, false).await;
                        }
                        Action::Send(_) => self.due.push_back((row, prepared)),
                    }
                }
            }
            Page::Replay(row, from) => {
                let rate = self.destination.settings.rate(self.destination.kind);
                self.replay = Some(Replaying::new(row, from, rate, now));
            }
            Page::Replayed(read, is_last, events) => {
                if let Some(replay) = &mut self.replay {
                    replay.receive(read, is_last, events, now);
                }
            }
            Page::ReplayChecked(actions) => {
                if let Some(replay) = &mut self.replay {
                    replay.check(actions, now);
                }
            }
            Page::Nothing => {}
            Page::Refused(reason) => {
                if *self.health.state() != (State::Paused { reason }) {
                    let (destination, vendor) = (self.destination.id, self.destination.vendor);
                    tracing::error!(%destination, vendor, reason, "a destination stands until this changes");
                }
                if self.destination.unusable().is_none() {
                    self.health.pause(reason, Some(REFUSED_PAUSE), now);
                }
                self.ask_at = now + REFUSED_PAUSE;
            }
            Page::Later => self.ask_at = now + RETRY_PAUSE,
        }
    }
}

async fn page(shared: Arc<Shared>, destination: Arc<Destination>, after: Position) -> Page {
    match read(&shared, destination.source, after).await {
        Ok((head, stored)) if stored.is_empty() => Page::AtHead(head),
        Ok((_, stored)) => {
            shared.preparer.page(&destination, stored).await.map_or_else(Page::from, Page::Events)
        }
        Err(error) => {
            serve::warn_on_change!(WARN, %error, "the event log can't be read");
            Page::Later
        }
    }
}

/// Reads the next events of a source, and before that how far it is: what is not there then is not there.
async fn read(
    shared: &Shared,
    source: Uuid,
    after: Position,
) -> Result<(Position, Vec<StoredEvent>), LogError> {
    let stored = shared.log.read(source, after, PAGE_EVENTS, PAGE_BYTES).await?;
    if !stored.is_empty() {
        return Ok((after, stored));
    }
    let heads = shared.log.heads(&[source]).await?;
    let head = heads.first().map_or(after, |head| head.position);
    Ok((head, shared.log.read(source, after, PAGE_EVENTS, PAGE_BYTES).await?))
}

/// The reason of a destination whose settings the core does not understand.
const SETTINGS: &str = "settings";

impl From<Status> for Page {
    /// What the core said was logged where it was met.
    fn from(status: Status) -> Self {
        match status.code() {
            Code::InvalidArgument | Code::NotFound => Self::Refused(SETTINGS),
            Code::FailedPrecondition => Self::Refused(UNKNOWN_KEY),
            _ => Self::Later,
        }
    }
}

/// Asks about events by whatever names them.
async fn check<N>(
    shared: Arc<Shared>,
    destination: Arc<Destination>,
    events: Vec<(N, Arc<OpenEvent>)>,
) -> Result<Vec<(N, Action)>, Status> {
    let asked = events.iter().map(|(_, event)| event.as_ref());
    let actions = shared.preparer.actions(&destination, asked).await?;
    Ok(events.into_iter().map(|(name, _)| name).zip(actions).collect())
}

async fn due(shared: Arc<Shared>, destination: Arc<Destination>) -> Page {
    let Ok(rows) = shared.storage.due(destination.id, DUE_EVENTS).await else { return Page::Later };
    if rows.is_empty() {
        return Page::Nothing;
    }
    let mut opened: Vec<(DeliveryRow, Arc<OpenEvent>)> = Vec::with_capacity(rows.len());
    for row in rows {
        match open(&shared, &destination, &row) {
            Some(event) => opened.push((row, event)),
            None => put_off(&shared, &destination, &row).await,
        }
    }
    if opened.is_empty() {
        return Page::Nothing;
    }
    let events = opened.iter().map(|(_, event)| event.as_ref());
    let actions = match shared.preparer.actions(&destination, events).await {
        Ok(actions) => actions,
        Err(status) => return Page::from(status),
    };
    let checked_at = Some(Instant::now());
    let ready = opened.into_iter().zip(actions).map(|((row, event), action)| {
        let lane = row.lane.as_slice().try_into().unwrap_or_else(|_| lane::of(&event.envelope));
        let prepared = Prepared { position: Position::default(), lane, bytes: 0, event, action, checked_at };
        (row, prepared)
    });
    Page::Due(ready.collect())
}

/// Opens an event of the table; none where its key is not known. One that is damaged has nothing in it, and is given up.
fn open(shared: &Shared, destination: &Destination, row: &DeliveryRow) -> Option<Arc<OpenEvent>> {
    let place = columns::DELIVERIES.place(row.org_id, row.id);
    let opened = shared.keys.open(place, &row.sealed);
    if let Err(error) = &opened {
        serve::warn_on_change!(ERROR, %error, row = %row.id, "an event that waits can't be opened");
    }
    if matches!(opened, Err(SealError::UnknownKey)) {
        return None;
    }
    let envelope = opened.ok().and_then(|plain| Envelope::decode(plain.as_slice()).ok()).unwrap_or_default();
    Some(Arc::new(OpenEvent {
        org: row.org_id,
        source: destination.source,
        canonical: row.canonical_id,
        id: row.event_id,
        received_at: row.received_at,
        envelope,
    }))
}

/// Leaves an event whose key is not known for a minute.
async fn put_off(shared: &Shared, destination: &Destination, row: &DeliveryRow) {
    let Ok(lane) = row.lane.as_slice().try_into() else { return };
    let (next, why) = (Some(60.0), (UNKNOWN_KEY, None));
    if let Err(error) = shared.storage.fail(destination.id, row.id, lane, next, false, why).await {
        tracing::debug!(%error, "an event that can't be opened yet is looked at sooner");
    }
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
    let within: Vec<StoredEvent> = within.collect();
    let asked = within.len();
    match shared.preparer.page(&destination, within).await {
        Ok(events) if events.len() == asked => Page::Replayed(last, is_last, events),
        // The page ends before an event whose key is not known.
        Ok(events) => {
            let last = events.last().map_or(after, |event| event.position);
            Page::Replayed(last, false, events)
        }
        Err(status) => Page::from(status),
    }
}
