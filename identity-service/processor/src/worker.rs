//! Delivering to one destination, for as long as this process has it: what is read of the log, whose turn it is, and what
//! is written down.

mod ask;
mod outcome;

use std::{
    collections::{HashMap, VecDeque},
    future::pending,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use event_log::Position;
use futures_util::{StreamExt, stream::FuturesUnordered};
use metrics::counter;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::ask::Page;
use crate::{
    destination::Destination,
    health::{Health, State},
    lane::Lane,
    live::{Live, Shown},
    pacing::Pacing,
    prepare::{Action, Outgoing, Prepared},
    replay::Replaying,
    sending::{self, Sent},
    shared::Shared,
    storage::{DeliveryRow, NewDelivery, Report, StorageError, Taken},
    window::{Ticket, Window},
};

/// Period of writing down how far it is.
const REPORT_PERIOD: Duration = Duration::from_secs(1);
/// Time without a report after which the destination may be another's: its lease is 15 s.
const LEASE: Duration = Duration::from_secs(12);
/// Time in which what is under way may end when the process drains.
const DRAIN: Duration = Duration::from_secs(7);
/// Longest sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Period of counting what waits anew: rows go with the people whose they are.
const PARKED_PERIOD: Duration = Duration::from_secs(30);
/// Most events that wait behind one that failed; from then on the order of that lane is given up.
const MAX_BEHIND: i64 = 1000;

/// Something that ends.
type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Where an event that is sent comes from.
#[derive(Debug, Clone, Copy)]
pub enum Of {
    /// The window.
    Window(Ticket),
    /// The table of those that wait.
    Table {
        /// ID of its row.
        row: Uuid,
        /// Failures so far.
        attempts: i16,
    },
    /// A replay.
    Replay {
        /// Failures so far.
        attempts: u8,
    },
}

/// A worker for one destination.
pub struct Worker {
    shared: Arc<Shared>,
    taken: Taken,
    destination: Arc<Destination>,
    window: Window,
    /// The last position that was read.
    read: Position,
    has_more: bool,
    pacing: Pacing,
    pace_at: Option<Instant>,
    health: Health,
    live: Live,
    /// Lanes of which something waits in the table, with how many.
    parked: HashMap<Lane, i64>,
    /// Time at which they are counted anew.
    parked_at: Instant,
    /// What is to be added to the table.
    waiting: Vec<NewDelivery>,
    report: Report,
    reported: Instant,
    sending: FuturesUnordered<Task<(Of, Prepared, Sent)>>,
    asking: Option<Task<Page>>,
    ask_at: Instant,
    is_stale: bool,
    /// What of the table is due.
    due: VecDeque<(DeliveryRow, Prepared)>,
    /// Number of events of the table that are under way: they are due there still.
    due_under_way: usize,
    due_at: Instant,
    replay: Option<Replaying>,
    replay_at: Instant,
    is_paused: bool,
}

impl Worker {
    /// A worker for a destination that this process has taken.
    pub async fn new(
        shared: Arc<Shared>,
        taken: Taken,
        destination: Destination,
    ) -> Result<Self, StorageError> {
        shared.storage.wake_lanes(taken.destination_id).await?;
        let parked = shared.storage.parked_lanes(taken.destination_id).await?.into_iter().collect();
        let now = Instant::now();
        let most = destination.settings.rate(destination.kind);
        Ok(Self {
            live: Live::new(shared.storage.clone(), shared.preparer.keys.clone()),
            window: Window::default(),
            read: Position::from_number(taken.position),
            has_more: true,
            pacing: Pacing::new(most, now),
            pace_at: None,
            health: Health::default(),
            parked,
            parked_at: now + PARKED_PERIOD,
            waiting: Vec::new(),
            report: Report { position: Some(taken.position), ..Report::default() },
            reported: now,
            sending: FuturesUnordered::new(),
            asking: None,
            ask_at: now,
            is_stale: false,
            due: VecDeque::new(),
            due_under_way: 0,
            due_at: now,
            replay: None,
            replay_at: now,
            is_paused: true,
            destination: Arc::new(destination),
            shared,
            taken,
        })
    }

    /// Delivers until `stop`, or until the destination is another's, gone or off; and gives it back where it can.
    pub async fn run(mut self, mut news: watch::Receiver<HashMap<Uuid, Position>>, stop: CancellationToken) {
        let mut reports = interval(REPORT_PERIOD);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ends_at: Option<Instant> = None;
        let mut holds = true;
        while holds {
            let now = Instant::now();
            self.launch(now, ends_at.is_some());
            if let Some(end) = ends_at {
                let is_done = self.sending.is_empty() && !self.window.has_below_finished();
                if is_done || now >= end {
                    break;
                }
                if self.is_stale {
                    // What is yet to be sent, so that nothing is repeated, may have to be asked about.
                    self.ask(now);
                }
            } else {
                let head = news.borrow_and_update().get(&self.destination.source).copied();
                self.has_more |= head.is_some_and(|head| head > self.read);
                self.ask(now);
            }
            let wake = self.wake_at(now);
            tokio::select! {
                Some((of, prepared, sent)) = self.sending.next(), if !self.sending.is_empty() => {
                    self.take(of, prepared, sent).await;
                }
                page = ended(&mut self.asking) => {
                    self.asking = None;
                    self.receive(page, Instant::now()).await;
                }
                _ = news.changed(), if ends_at.is_none() => {}
                _ = reports.tick() => holds = self.write_down().await,
                () = stop.cancelled(), if ends_at.is_none() => ends_at = Some(now + DRAIN),
                () = sleep_until(wake) => {}
            }
        }
        if holds
            && self.write_down().await
            && let Err(error) = self.shared.storage.release(&self.taken).await
        {
            tracing::debug!(%error, "a destination was not given back: its lease ends by itself");
        }
    }

    /// Sends as much as may be sent now.
    fn launch(&mut self, now: Instant, is_ending: bool) {
        self.pace_at = None;
        let is_ours = now.saturating_duration_since(self.reported) < LEASE;
        if self.is_paused || !is_ours {
            return;
        }
        if let Some(reason) = self.destination.unusable()
            && *self.health.state() != (State::Paused { reason })
        {
            self.health.pause(reason, None, now);
        }
        while self.sending.len() < self.health.allowed(self.destination.in_flight(), now) {
            let has_sent = if is_ending {
                match self.window.next_below_finished(now) {
                    Some(ticket) => self.launch_of_window(ticket, now),
                    None => break,
                }
            } else if *self.health.state() == State::Active && !self.due.is_empty() {
                self.launch_due(now)
            } else if let Some(ticket) = self.window.next(now) {
                self.launch_of_window(ticket, now)
            } else if !self.due.is_empty() {
                // Where nothing else can tell that the destination is back.
                self.launch_due(now)
            } else {
                // What is new comes first, and a replay has few under way at once.
                self.launch_replay(now)
            };
            if !has_sent {
                break;
            }
        }
    }

    /// Sends the next event of the table; false where it has to wait.
    fn launch_due(&mut self, now: Instant) -> bool {
        if self.due.front().is_some_and(|(_, prepared)| !prepared.is_fresh(now)) {
            // They are read again, and asked about.
            self.due.clear();
            self.due_at = now;
            return false;
        }
        if !self.has_place(now) {
            return false;
        }
        if let Some((row, prepared)) = self.due.pop_front()
            && let Action::Send(outgoing) = prepared.action.clone()
        {
            self.due_under_way += 1;
            self.send(Of::Table { row: row.id, attempts: row.attempts }, prepared, outgoing);
        }
        true
    }

    /// Sends the next event of a replay; false where there is none, or it has to wait.
    fn launch_replay(&mut self, now: Instant) -> bool {
        let Some((prepared, attempts)) = self.replay.as_mut().and_then(|replay| replay.next(now)) else {
            return false;
        };
        if !self.has_place(now) {
            if let Some(replay) = &mut self.replay {
                replay.put_back(prepared, attempts, now);
            }
            return false;
        }
        if let Action::Send(outgoing) = prepared.action.clone() {
            self.send(Of::Replay { attempts }, prepared, outgoing);
        }
        true
    }

    /// Sends an event of the window, or finishes it where it is not to be sent; false where it has to wait.
    fn launch_of_window(&mut self, ticket: Ticket, now: Instant) -> bool {
        let Some(item) = self.window.item(ticket) else { return true };
        let prepared = item.prepared.clone();
        match prepared.action.clone() {
            Action::Skip(word) => self.skip(&prepared, word),
            Action::Dead(reason) => self.give_up(&prepared, 0, reason, None),
            Action::Send(_) if self.is_behind(prepared.lane) => self.wait(&prepared, 0, None, "waits"),
            Action::Send(_) | Action::Test(_) if !prepared.is_fresh(now) => {
                self.is_stale = true;
                self.window.put_back(ticket, Duration::ZERO, now);
                return false;
            }
            Action::Test(outgoing) => self.show_test(&prepared, &outgoing),
            Action::Send(outgoing) => {
                if !self.has_place(now) {
                    self.window.put_back(ticket, Duration::ZERO, now);
                    return false;
                }
                self.send(Of::Window(ticket), prepared, outgoing);
                return true;
            }
        }
        self.window.finish(ticket);
        true
    }

    /// Shows an event of a test key with the request that would have gone.
    fn show_test(&mut self, prepared: &Prepared, outgoing: &Outgoing) {
        let (message_id, payload) = (&outgoing.message_id, outgoing.payload.clone());
        let request = self.destination.request(message_id, payload, sending::system_time());
        let shown = Shown { request: request.as_ref(), answer: None, took_ms: None, outcome: "test" };
        self.live.record(&self.destination, prepared, &shown);
    }

    /// Takes the place of one request, or notes when there is one.
    fn has_place(&mut self, now: Instant) -> bool {
        self.pacing.take(now).map_err(|at| self.pace_at = Some(at)).is_ok()
    }

    fn send(&self, of: Of, prepared: Prepared, outgoing: Arc<Outgoing>) {
        let (egress, destination) = (self.shared.egress.clone(), self.destination.clone());
        self.sending.push(Box::pin(async move {
            let sent = sending::send(egress, destination, outgoing).await;
            (of, prepared, sent)
        }));
    }

    /// True where events of a lane have to wait behind one that failed.
    fn is_behind(&mut self, lane: Lane) -> bool {
        let Some(waiting) = self.parked.get(&lane) else { return false };
        if *waiting < MAX_BEHIND {
            return true;
        }
        counter!("datafly_deliveries_total", "vendor" => self.destination.vendor, "outcome" => "out_of_order")
            .increment(1);
        false
    }

    /// The time at which there is something to do again, if nothing ends before.
    fn wake_at(&self, now: Instant) -> Instant {
        let is_asking = self.asking.is_some();
        let times = [
            self.pace_at,
            self.window.next_at(),
            self.health.probe_at(),
            Some(self.ask_at).filter(|_| !is_asking && (self.has_more || self.is_stale)),
            self.replay
                .as_ref()
                .filter(|replay| replay.is_waiting())
                .map(|_| now + Duration::from_millis(20)),
        ];
        let next = times.into_iter().flatten().filter(|at| *at > now).min();
        next.unwrap_or(now + LONGEST_SLEEP).min(now + LONGEST_SLEEP)
    }
}

/// The end of what is being asked; never where nothing is.
async fn ended<T>(task: &mut Option<Task<T>>) -> T {
    match task {
        Some(task) => task.await,
        None => pending().await,
    }
}
