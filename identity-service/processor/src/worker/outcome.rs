//! What a worker does with what came of an event, and what it writes down.

use std::time::Duration;

use blueprint::Outcome;
use metrics::{counter, gauge, histogram};
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Of, PARKED_PERIOD, Worker};
use crate::{
    destination::Destination,
    health::{State, Verdict},
    lane::Lane,
    live::Shown,
    pacing::jitter,
    prepare::{ERASED, Prepared},
    sending::{Sent, system_time},
    storage::{NewDelivery, Report},
};

/// Pauses after each failure of an event while others pass: the first in the window, the rest in the table. After one
/// more it is given up.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(4), Duration::from_mins(5), Duration::from_hours(2), Duration::from_hours(22)];
/// Pause of an event of the table while the destination is down.
const OUTAGE_PAUSE: Duration = Duration::from_mins(1);
/// Half the pause after the first failure of an event of a replay; each further one is twice as long.
const REPLAY_PAUSE: Duration = Duration::from_secs(2);

impl Worker {
    /// Takes what came of a request.
    pub async fn take(&mut self, of: Of, prepared: Prepared, sent: Sent) {
        let now = Instant::now();
        if let Of::Table { .. } = of {
            self.due_under_way = self.due_under_way.saturating_sub(1);
        }
        match sent.outcome {
            Outcome::Delivered { dropping } => {
                self.health.note_success(now);
                self.pacing.note_success();
                self.report.succeeded = true;
                self.report.dropping |= dropping;
                let word = match of {
                    Of::Replay { .. } => "replayed",
                    _ if dropping => "dropped_by_stream",
                    _ => "delivered",
                };
                self.show(&prepared, &sent, word);
                if let Of::Replay { .. } = of {
                    counter!("datafly_replayed_total", "vendor" => self.destination.vendor).increment(1);
                } else {
                    self.count(word);
                    let age = OffsetDateTime::from(system_time()) - prepared.event.received_at;
                    histogram!("datafly_delivery_age_seconds", "vendor" => self.destination.vendor)
                        .record(age.as_seconds_f64().max(0.0));
                }
                self.finish(of, &prepared, true).await;
            }
            Outcome::Refused(reason) => {
                self.health.note_success(now);
                self.note_error(reason, &sent);
                self.show(&prepared, &sent, "dead");
                match of {
                    Of::Window(_) => self.give_up(&prepared, 1, reason, sent.status()),
                    Of::Table { row, .. } => {
                        self.bury_row(row, prepared.lane, reason, sent.status(), true).await;
                    }
                    Of::Replay { .. } => {}
                }
                if !matches!(of, Of::Table { .. }) {
                    self.finish(of, &prepared, false).await;
                }
            }
            Outcome::Paused { reason, probe } => {
                if *self.health.state() != (State::Paused { reason }) {
                    let (destination, vendor) = (self.destination.id, self.destination.vendor);
                    tracing::warn!(%destination, vendor, reason, "a destination takes no events until something changes");
                }
                self.health.pause(reason, probe, now);
                self.note_error(reason, &sent);
                self.show(&prepared, &sent, reason);
                self.put_back(of, prepared, Duration::ZERO, now).await;
            }
            Outcome::RateLimited(asked) => {
                self.pacing.note_refusal(asked, jitter(), now);
                self.note_error("rate_limited", &sent);
                self.show(&prepared, &sent, "rate_limited");
                self.put_back(of, prepared, Duration::ZERO, now).await;
            }
            Outcome::Failed { reason, retry_after } => {
                self.note_error(reason, &sent);
                self.show(&prepared, &sent, reason);
                let failed_at = match of {
                    Of::Window(ticket) => self.window.item(ticket).and_then(|item| item.failed_at),
                    Of::Table { .. } | Of::Replay { .. } => None,
                };
                let was_active = *self.health.state() == State::Active;
                // An event of a replay that failed before says nothing of the destination.
                let is_known = was_active && matches!(of, Of::Replay { attempts } if attempts > 0);
                let verdict = if is_known {
                    Verdict::Event
                } else {
                    self.health.note_failure(failed_at, jitter(), now)
                };
                match verdict {
                    Verdict::Outage => {
                        if was_active {
                            self.window.forget_attempts();
                            let (destination, vendor) = (self.destination.id, self.destination.vendor);
                            tracing::warn!(%destination, vendor, reason, "a destination is down");
                        }
                        self.put_back(of, prepared, Duration::ZERO, now).await;
                    }
                    Verdict::Event => self.fail(of, prepared, reason, &sent, retry_after, now).await,
                }
            }
        }
    }

    /// Counts a failure of an event while others pass.
    async fn fail(
        &mut self,
        of: Of,
        prepared: Prepared,
        reason: &'static str,
        sent: &Sent,
        retry_after: Option<Duration>,
        now: Instant,
    ) {
        let pause = |failures: usize| {
            let pause = PAUSES.get(failures.saturating_sub(1)).copied()?;
            Some(pause.mul_f64(jitter()).max(retry_after.unwrap_or_default()))
        };
        match of {
            Of::Window(ticket) => {
                let Some(item) = self.window.item_mut(ticket) else { return };
                item.attempts += 1;
                if item.attempts == 1 {
                    item.failed_at = Some(now);
                    self.window.put_back(ticket, pause(1).unwrap_or_default(), now);
                    return;
                }
                let attempts = i16::from(item.attempts);
                self.count("parked");
                self.wait(&prepared, attempts, pause(2).map(|pause| pause.as_secs_f64()), reason);
                if let Some(row) = self.waiting.last_mut() {
                    row.status = sent.status();
                }
                self.window.finish(ticket);
            }
            Of::Table { row, attempts } => {
                let failures = usize::try_from(attempts).unwrap_or_default() + 1;
                match pause(failures) {
                    Some(pause) => {
                        let next = Some(pause.as_secs_f64());
                        let storage = &self.shared.storage;
                        let failed = storage.fail(
                            self.destination.id,
                            row,
                            prepared.lane,
                            next,
                            true,
                            (reason, sent.status()),
                        );
                        if let Err(error) = failed.await {
                            tracing::debug!(%error, "a failure was not written down: it is tried again");
                        }
                    }
                    None => self.bury_row(row, prepared.lane, reason, sent.status(), true).await,
                }
            }
            Of::Replay { attempts } => {
                let Some(replay) = &mut self.replay else { return };
                let attempts = attempts + 1;
                if usize::from(attempts) > PAUSES.len() {
                    replay.finish(false);
                } else {
                    let pause = REPLAY_PAUSE * 2_u32.pow(u32::from(attempts));
                    let pause = pause.mul_f64(jitter()).max(retry_after.unwrap_or_default());
                    replay.put_back(prepared, attempts, now + pause);
                }
            }
        }
    }

    async fn put_back(&mut self, of: Of, prepared: Prepared, delay: Duration, now: Instant) {
        match of {
            Of::Window(ticket) => self.window.put_back(ticket, delay, now),
            Of::Table { row, .. } => {
                let storage = &self.shared.storage;
                let next = Some(OUTAGE_PAUSE.as_secs_f64());
                let kept =
                    storage.fail(self.destination.id, row, prepared.lane, next, false, ("waits", None));
                if let Err(error) = kept.await {
                    tracing::debug!(%error, "an event is tried again sooner");
                }
            }
            Of::Replay { attempts } => {
                if let Some(replay) = &mut self.replay {
                    replay.put_back(prepared, attempts, now);
                }
            }
        }
    }

    async fn finish(&mut self, of: Of, prepared: &Prepared, was_sent: bool) {
        match of {
            Of::Window(ticket) => self.window.finish(ticket),
            Of::Table { row, .. } => self.settle_row(row, prepared.lane).await,
            Of::Replay { .. } => {
                if let Some(replay) = &mut self.replay {
                    replay.finish(was_sent);
                }
            }
        }
    }

    /// Has an event wait in the table: for so long, or behind another.
    pub fn wait(&mut self, prepared: &Prepared, attempts: i16, next_in: Option<f64>, reason: &'static str) {
        *self.parked.entry(prepared.lane).or_default() += 1;
        self.waiting.push(NewDelivery {
            event: prepared.event.clone(),
            seq: prepared.position.number(),
            lane: prepared.lane,
            attempts,
            next_in,
            is_dead: false,
            reason: Some(reason),
            status: None,
        });
    }

    /// Gives an event up: it is listed, and can be sent again by people.
    pub fn give_up(&mut self, prepared: &Prepared, attempts: i16, reason: &'static str, status: Option<i16>) {
        self.count("dead");
        self.waiting.push(NewDelivery {
            event: prepared.event.clone(),
            seq: prepared.position.number(),
            lane: prepared.lane,
            attempts,
            next_in: None,
            is_dead: true,
            reason: Some(reason),
            status,
        });
    }

    /// Leaves an event out, as it is not to be sent.
    pub fn skip(&mut self, prepared: &Prepared, word: &'static str) {
        self.count(word);
        if word == ERASED {
            // Nothing of theirs is shown, or stored to be.
            return;
        }
        let outcome = format!("dropped: {word}");
        let shown = Shown { request: None, answer: None, took_ms: None, outcome: &outcome };
        self.live.record(&self.destination, prepared, &shown);
    }

    /// Removes an event of the table that was sent, or is not to be. Where that fails it is due again.
    pub async fn settle_row(&mut self, row: Uuid, lane: Lane) {
        match self.shared.storage.settle(self.destination.id, row, lane).await {
            Ok(()) => self.leave_lane(lane),
            Err(error) => tracing::debug!(%error, "an event that came to its end is due once more"),
        }
    }

    /// Gives up an event of the table; `counts` where it was tried.
    pub async fn bury_row(
        &mut self,
        row: Uuid,
        lane: Lane,
        reason: &'static str,
        status: Option<i16>,
        counts: bool,
    ) {
        let storage = &self.shared.storage;
        match storage.fail(self.destination.id, row, lane, None, counts, (reason, status)).await {
            Ok(()) => {
                self.count("dead");
                self.leave_lane(lane);
            }
            Err(error) => tracing::debug!(%error, "an event that was given up is tried again"),
        }
    }

    fn leave_lane(&mut self, lane: Lane) {
        if let Some(waiting) = self.parked.get_mut(&lane) {
            *waiting -= 1;
            if *waiting <= 0 {
                self.parked.remove(&lane);
            }
        }
    }

    fn count(&self, outcome: &'static str) {
        counter!("datafly_deliveries_total", "vendor" => self.destination.vendor, "outcome" => outcome)
            .increment(1);
    }

    fn note_error(&mut self, reason: &str, sent: &Sent) {
        let at = blueprint::transform::iso8601(OffsetDateTime::from(system_time()));
        self.report.error = Some(json!({"reason": reason, "status": sent.status(), "at": at}));
    }

    fn show(&mut self, prepared: &Prepared, sent: &Sent, outcome: &str) {
        let took_ms = Some(sent.took.as_millis());
        let shown = Shown { request: sent.request.as_ref(), answer: Some(&sent.answer), took_ms, outcome };
        self.live.record(&self.destination, prepared, &shown);
    }

    /// Writes down how far the destination is, and what is to wait; false where it is not this process's any more.
    pub async fn write_down(&mut self) -> bool {
        let began = Instant::now();
        let progress = self.window.advance();
        if let Some(position) = progress.position {
            self.report.position = Some(position.number());
        }
        self.report.events += progress.events;
        self.report.bytes += progress.bytes;
        self.report.is_at_head = !self.has_more && self.window.is_empty();
        if self.report.is_at_head {
            // What lies between is of people who are erased.
            self.report.position = Some(self.read.number());
        }
        self.report.reason = match self.health.state() {
            State::Active => None,
            State::Down => Some("down"),
            State::Paused { reason } => Some(reason),
        };
        let probe = self.health.probe_at().filter(|_| *self.health.state() != State::Active);
        self.report.probe_in = probe.map(|at| at.saturating_duration_since(began).as_secs_f64());
        #[expect(clippy::cast_possible_truncation, reason = "at most some hundreds")]
        let rate = self.pacing.rate() as f32;
        self.report.rate = rate;
        let shared = self.shared.clone();
        let held = shared.storage.report(&shared.keys, &self.taken, &self.report, &self.waiting).await;
        let held = match held {
            Ok(Some(held)) => held,
            Ok(None) => {
                tracing::info!(destination = %self.destination.id, "a destination is another's now");
                return false;
            }
            Err(error) => {
                serve::warn_on_change!(WARN, %error, "how far a destination is can't be written down");
                return true;
            }
        };
        self.reported = began;
        self.report = Report { position: self.report.position, ..Report::default() };
        self.waiting.clear();
        if began >= self.parked_at {
            self.count_parked().await;
        }
        self.is_paused = held.is_paused;
        self.live.set_watched(held.is_watched);
        self.write_down_replay().await;
        gauge!("datafly_delivery_rate", "vendor" => self.destination.vendor).set(f64::from(rate));
        if !held.is_enabled {
            return false;
        }
        if held.fingerprint == self.destination.version { true } else { self.renew().await }
    }

    /// Counts what waits in the table anew, all of which is written down, and wakes what nobody has.
    async fn count_parked(&mut self) {
        let (storage, destination) = (&self.shared.storage, self.destination.id);
        let woken = storage.wake_lanes(destination).await;
        match woken.and(storage.parked_lanes(destination).await) {
            Ok(parked) => {
                self.parked = parked.into_iter().collect();
                self.parked_at = Instant::now() + PARKED_PERIOD;
            }
            Err(error) => tracing::debug!(%error, "what waits is counted anew later"),
        }
    }

    async fn write_down_replay(&mut self) {
        let Some(replay) = &mut self.replay else { return };
        let advance = replay.advance();
        let id = replay.row.id;
        let written = self
            .shared
            .storage
            .advance_replay(id, advance.position, advance.counts, advance.is_finished)
            .await;
        match written {
            Ok(true) => {}
            Ok(false) => self.replay = None,
            Err(error) => tracing::debug!(%error, "how far a replay is can't be written down"),
        }
    }

    /// Takes new settings, with which everything is tried anew.
    async fn renew(&mut self) -> bool {
        match self.shared.storage.destination(self.destination.id).await {
            Ok(Some(row)) => {
                let Some(destination) = Destination::of(row, &self.shared.keys) else { return false };
                self.pacing.set_most(destination.settings.rate(destination.kind));
                self.destination = std::sync::Arc::new(destination);
                self.health.reset();
                self.window.expire();
                self.due.clear();
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::debug!(%error, "new settings are read at the next look");
                true
            }
        }
    }
}
