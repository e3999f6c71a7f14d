//! The load: a stated number of requests in flight, and rounds of one side after the other.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::cpu::Meter;

/// Number of rounds of each side that count; one before them warms up.
pub const ROUNDS: usize = 11;
/// Length of a round that is not bounded by a number of requests.
pub const ROUND: Duration = Duration::from_millis(600);

/// A counted round that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Request in flight: sends, waits, checks the answer, and sends the next.
pub trait Lane: Send + 'static {
    /// Sends the `number`th request. An answer that is not as it should be is an error, which ends the run.
    fn ask(&mut self, number: u64) -> impl Future<Output = Result<()>> + Send;
}

/// Lanes with the number of their next request.
pub struct Flood<L> {
    lanes: Vec<L>,
    next: u64,
    /// Requests of a round; none where its length is the time's.
    requests: Option<u64>,
}

impl<L: Lane> Flood<L> {
    /// Keeps as many requests in flight as there are lanes. Rounds last for [`ROUND`].
    pub fn of(lanes: Vec<L>) -> Self {
        Self { lanes, next: 0, requests: None }
    }

    /// The same with that many requests a round.
    pub fn counted(lanes: Vec<L>, requests: u64) -> Self {
        Self { lanes, next: 0, requests: Some(requests) }
    }

    /// Asks for a round. Returns how many requests were answered.
    pub async fn round(&mut self) -> Result<u64> {
        match self.requests {
            Some(requests) => self.run(requests, Instant::now() + PATIENCE).await,
            None => self.run(u64::MAX - self.next, Instant::now() + ROUND).await,
        }
    }

    async fn run(&mut self, requests: u64, deadline: Instant) -> Result<u64> {
        let (next, end) = (Arc::new(AtomicU64::new(self.next)), self.next + requests);
        let mut running = JoinSet::new();
        for mut lane in self.lanes.drain(..) {
            let next = next.clone();
            running.spawn(async move {
                let mut answered = 0;
                while Instant::now() < deadline {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end {
                        break;
                    }
                    lane.ask(number).await?;
                    answered += 1;
                }
                anyhow::Ok((lane, answered))
            });
        }
        let mut sum = 0;
        while let Some(ended) = running.join_next().await {
            let (lane, answered) = ended??;
            self.lanes.push(lane);
            sum += answered;
        }
        self.next = next.load(Ordering::Relaxed).min(end);
        Ok(sum)
    }
}

/// Cost of one round of one side.
#[derive(Debug, Clone)]
pub struct Round {
    /// Microseconds of CPU a request, one for each meter.
    pub cpu: Vec<f64>,
    /// Requests answered a second.
    pub per_second: f64,
}

/// Runs the sides in turn, so that what else the machine does meets all of them alike. `run` does one round of the
/// side of that number and returns how many requests it was. `meters` are each side's.
pub async fn alternate(
    meters: &[Vec<Meter>],
    mut run: impl AsyncFnMut(usize) -> Result<u64>,
) -> Result<Vec<Vec<Round>>> {
    let sides = meters.len();
    let mut rounds = vec![Vec::new(); sides];
    for number in 0..=ROUNDS {
        for turn in 0..sides {
            // A B C, B C A, C A B, …: none has a place of its own.
            let side = (number + turn) % sides;
            let round = measure(&meters[side], async || run(side).await).await?;
            if number > 0 {
                rounds[side].push(round);
            }
        }
    }
    Ok(rounds)
}

/// A flood, and the servers that it keeps busy.
pub struct Side<L> {
    /// Meters of the servers whose CPU counts.
    pub meters: Vec<Meter>,
    /// Load that keeps them busy.
    pub flood: Flood<L>,
}

/// Rounds of sides that are asked the same.
pub async fn compare<L: Lane>(mut sides: Vec<Side<L>>) -> Result<Vec<Vec<Round>>> {
    let meters: Vec<_> = sides.iter().map(|side| side.meters.clone()).collect();
    alternate(&meters, async |side| sides[side].flood.round().await).await
}

async fn measure(meters: &[Meter], mut run: impl AsyncFnMut() -> Result<u64>) -> Result<Round> {
    let read = || meters.iter().map(|meter| meter.micros()).collect::<Result<Vec<f64>>>();
    let (before, began) = (read()?, Instant::now());
    let requests = run().await?;
    let (after, seconds) = (read()?, began.elapsed().as_secs_f64());
    ensure!(requests > 0, "a round without an answer");
    let requests = requests as f64;
    let cpu = before.iter().zip(after).map(|(before, after)| (after - before) / requests).collect();
    Ok(Round { cpu, per_second: requests / seconds })
}
