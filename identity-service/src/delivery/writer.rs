//! The writer of the log: requests that wait share a statement. A log that fails is left alone for a moment, and a
//! request waits for it no longer than its share of the deadline.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use event_log::{NewEvent, PostgresLog};
use metrics::{counter, histogram};
use proto::v1::ErrorReason;
use tokio::{sync::oneshot, time::timeout};
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    storage::{Stores, batcher::Batcher},
};

/// The longest a request waits for its events to be durable.
const BUDGET: Duration = Duration::from_millis(500);
/// Most events of a statement, unless one request has more.
const MAX_STATEMENT_EVENTS: usize = 2000;
/// Most bytes of a statement, unless one request has more.
const MAX_STATEMENT_BYTES: usize = 4 * 1024 * 1024;
/// Failures in a row after which the log is left alone.
const MAX_FAILURES: u32 = 3;
/// Pause between tries of a log that is left alone.
const PAUSE: Duration = Duration::from_millis(200);

type Outcome = Result<(), ErrorReason>;

struct WaitingEvents {
    events: Vec<NewEvent>,
    answer: oneshot::Sender<Outcome>,
}

/// The writer of the log.
#[derive(Clone)]
pub struct LogWriter {
    batcher: Batcher<WaitingEvents>,
    health: Arc<Mutex<Health>>,
}

/// What is known of the log's health.
#[derive(Default)]
struct Health {
    failures: u32,
    not_before: Option<Instant>,
}

impl LogWriter {
    /// Starts the work on batches, which goes on as long as the runtime.
    pub fn start(stores: &Stores, log: PostgresLog) -> Self {
        let health = Arc::<Mutex<Health>>::default();
        let (stores, own) = (stores.clone(), health.clone());
        let work = move |batch| {
            let (stores, log, health) = (stores.clone(), log.clone(), own.clone());
            async move { write(&stores, &log, &health, batch).await }
        };
        Self { batcher: Batcher::start(work), health }
    }

    /// Makes events durable, all of them or none as far as can be told: after an error some may be.
    pub async fn append(&self, org: Uuid, events: Vec<NewEvent>) -> Result<()> {
        let began = Instant::now();
        let outcome = self.try_append(org, events).await;
        let word = match outcome {
            Ok(()) => "kept",
            Err(ErrorReason::Overloaded) => "full",
            Err(_) => "failed",
        };
        counter!("datafly_log_appends_total", "outcome" => word).increment(1);
        histogram!("datafly_log_append_seconds").record(began.elapsed().as_secs_f64());
        outcome.map_err(Error::refused)
    }

    async fn try_append(&self, org: Uuid, events: Vec<NewEvent>) -> Outcome {
        if !lock(&self.health).may_try() {
            return Err(ErrorReason::Unavailable);
        }
        let (answer, answered) = oneshot::channel();
        self.batcher.push(org, WaitingEvents { events, answer }).map_err(|error| error.reason())?;
        let outcome = timeout(BUDGET, answered).await;
        outcome.ok().and_then(Result::ok).unwrap_or(Err(ErrorReason::Unavailable))
    }
}

impl Health {
    /// True where the log may be tried; of those who ask while it is left alone one in [`PAUSE`] may.
    fn may_try(&mut self) -> bool {
        if self.failures < MAX_FAILURES {
            return true;
        }
        let now = Instant::now();
        let may = self.not_before.is_none_or(|at| now >= at);
        if may {
            self.not_before = Some(now + PAUSE);
        }
        may
    }

    fn note(&mut self, is_well: bool) {
        self.failures = if is_well { 0 } else { self.failures.saturating_add(1) };
    }
}

fn lock(health: &Mutex<Health>) -> std::sync::MutexGuard<'_, Health> {
    health.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes what waits in as few statements as their bounds allow, and answers each request.
async fn write(stores: &Stores, log: &PostgresLog, health: &Mutex<Health>, batch: Vec<WaitingEvents>) {
    let (mut events, mut answers, mut bytes) = (Vec::new(), Vec::new(), 0);
    for waiting in batch {
        let own = waiting.events.iter().map(|event| event.body.len()).sum::<usize>();
        let is_full =
            events.len() + waiting.events.len() > MAX_STATEMENT_EVENTS || bytes + own > MAX_STATEMENT_BYTES;
        if is_full && !answers.is_empty() {
            bytes = 0;
            write_some(stores, log, health, std::mem::take(&mut events), std::mem::take(&mut answers)).await;
        }
        bytes += own;
        events.extend(waiting.events);
        answers.push(waiting.answer);
    }
    if !answers.is_empty() {
        write_some(stores, log, health, events, answers).await;
    }
}

async fn write_some(
    stores: &Stores,
    log: &PostgresLog,
    health: &Mutex<Health>,
    events: Vec<NewEvent>,
    answers: Vec<oneshot::Sender<Outcome>>,
) {
    // Whoever has left is told nothing, and sends it again.
    if answers.iter().all(oneshot::Sender::is_closed) {
        return;
    }
    let mut appended = timeout(BUDGET, log.append(&events)).await;
    if matches!(&appended, Ok(Err(error)) if error.is_lost_connection()) {
        // Safe to repeat: what was carried out is there already.
        appended = timeout(BUDGET, log.append(&events)).await;
    }
    let outcome = match appended {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => {
            if error.is_read_only() {
                stores.postgres.leave();
            }
            Err(Error::from(error).reason())
        }
        Err(_) => Err(ErrorReason::Unavailable),
    };
    lock(health).note(outcome.is_ok());
    for answer in answers {
        let _ = answer.send(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_fails_is_left_alone_but_for_one_try_a_while() {
        let mut health = Health::default();
        for _ in 1..MAX_FAILURES {
            health.note(false);
            assert!(health.may_try() && health.may_try());
        }
        health.note(false);
        assert!(health.may_try());
        assert!(!health.may_try());
        health.not_before = Some(Instant::now());
        assert!(health.may_try());
        health.note(true);
        assert!(health.may_try() && health.may_try());
    }
}
