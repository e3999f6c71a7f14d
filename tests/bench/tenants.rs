//! Two customers on one edge: how long one waits while the other stays away, keeps to its rate, sends ten
//! times as much, and merges ever more browsers onto one user. Latency is counted from when a request was
//! due, so a stall is not hidden by those it holds up.

use std::{net::SocketAddr, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use harness::seed::Customer;
use http_body_util::BodyExt;
use tokio::{
    runtime::Builder,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use serde::Serialize;
use uuid::Uuid;

use crate::{http::Client, report::Report, visitors::anonymous_id, world::World};

/// Events a second that the loud customer's keys may bring.
const LOUD: u32 = 200;

/// Rounds of each kind, in turn, so that what else the machine does meets all of them alike.
const ROUNDS: usize = 6;
/// Length of a round.
const ROUND: Duration = Duration::from_secs(2);
/// Requests a second of the quiet customer.
const QUIET: u32 = 400;
/// Connections that each customer sends over.
const CONNECTIONS: u32 = 8;

/// A customer's page, which sends one event a request.
#[derive(Debug, Clone)]
struct Page {
    host: String,
    key: String,
    origin: String,
    visitor: Visitor,
}

/// Visitor on a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visitor {
    /// A known visitor, so that a request is one round trip to Redis.
    Known,
    /// A new browser each time, all of one user: two identities that meet, whether they are merged or refused.
    Bomb,
}

impl Visitor {
    fn event(self) -> String {
        match self {
            Self::Known => format!(r#"{{"type":"page","anonymousId":"{}"}}"#, anonymous_id(0)),
            Self::Bomb => {
                format!(r#"{{"type":"identify","anonymousId":"{}","userId":"bomb"}}"#, Uuid::new_v4())
            }
        }
    }
}

/// Waits of the quiet customer: for the fastest half, and for all but the slowest hundredth.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Waits {
    /// The median, in microseconds.
    pub p50_us: f64,
    /// The 99th percentile, in microseconds.
    pub p99_us: f64,
}

/// Waits of the quiet customer beside each kind of neighbour.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Tenants {
    /// The other sends nothing.
    pub alone: Waits,
    /// The other sends what its rate allows.
    pub within_rate: Waits,
    /// The other sends ten times that.
    pub flooded: Waits,
    /// The other sends what its rate allows, each time another browser of one user.
    pub bombed: Waits,
    /// Part of the flood that was refused with 429, from 0 to 1.
    pub refused: f64,
}

/// Measures the customer of today's product beside a new, loud one.
pub async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let loud = world.another_customer(LOUD).await?;
    let page = |customer: &Customer| Page {
        host: world.today.cluster.host_at(&customer.collect_name),
        key: customer.live_key.clone(),
        origin: customer.origin.clone(),
        visitor: Visitor::Known,
    };
    report
        .add_tenants(compare(world.today.edge().0, &page(&world.today.customer), &page(&loud), LOUD).await?);
    Ok(())
}

/// Measures what `loud` does to `quiet` on the edge at `edge`. `rate` is what the keys of `loud` may bring, in events
/// a second, and must be set already; the rate of `quiet` must not matter.
async fn compare(edge: SocketAddr, quiet: &Page, loud: &Page, rate: u32) -> Result<Tenants> {
    // What has gathered in the loud one's burst is used up first.
    flood(edge, loud.clone(), 10 * rate, Duration::from_secs(1)).join().map_err(|_| failed())??;
    let mut waits: [Vec<Duration>; 4] = Default::default();
    let (mut sent, mut refused) = (0, 0);
    for round in 0..4 * ROUNDS {
        let kind = round % 4;
        let (other, visitor) = [
            (0, Visitor::Known),
            (rate * 9 / 10, Visitor::Known),
            (10 * rate, Visitor::Known),
            (rate * 9 / 10, Visitor::Bomb),
        ][kind];
        let loud = Page { visitor, ..loud.clone() };
        let other = (other > 0).then(|| flood(edge, loud, other, ROUND));
        let counts = send(edge, quiet, QUIET, ROUND).await?;
        ensure!(counts.refused == 0, "{} requests of the quiet customer were refused", counts.refused);
        waits[kind].extend(counts.waits);
        if let Some(other) = other {
            let counts = other.join().map_err(|_| failed())??;
            if kind == 2 {
                sent += counts.waits.len();
                refused += counts.refused;
            }
        }
    }
    let [alone, within_rate, flooded, bombed] = waits.map(percentiles);
    Ok(Tenants { alone, within_rate, flooded, bombed, refused: refused as f64 / sent.max(1) as f64 })
}

fn failed() -> anyhow::Error {
    anyhow::anyhow!("the flood's thread failed")
}

fn percentiles(mut waits: Vec<Duration>) -> Waits {
    waits.sort_unstable();
    let at = |percent: usize| waits.get(waits.len() * percent / 100).copied().unwrap_or_default();
    let micros = |percent| at(percent).as_secs_f64() * 1e6;
    Waits { p50_us: micros(50), p99_us: micros(99) }
}

/// The answers of one round.
#[derive(Debug, Default)]
struct Counts {
    waits: Vec<Duration>,
    refused: usize,
}

/// Sends on a thread of its own, so that the two senders do not wait for each other.
fn flood(edge: SocketAddr, page: Page, rate: u32, lasts: Duration) -> thread::JoinHandle<Result<Counts>> {
    thread::spawn(move || {
        Builder::new_current_thread().enable_all().build()?.block_on(send(edge, &page, rate, lasts))
    })
}

async fn send(edge: SocketAddr, page: &Page, rate: u32, lasts: Duration) -> Result<Counts> {
    let (began, each) = (Instant::now(), Duration::from_secs(1) / rate);
    let mut senders = JoinSet::new();
    for number in 0..CONNECTIONS {
        let (client, page) = (Client::connect(edge).await?, page.clone());
        let (first, step) = (began + each * number, each * CONNECTIONS);
        senders.spawn(paced(client, page, first, step, began + lasts));
    }
    let mut all = Counts::default();
    while let Some(counts) = senders.join_next().await {
        let counts = counts??;
        all.waits.extend(counts.waits);
        all.refused += counts.refused;
    }
    Ok(all)
}

async fn paced(
    mut client: Client,
    page: Page,
    first: Instant,
    step: Duration,
    end: Instant,
) -> Result<Counts> {
    let (mut counts, mut due) = (Counts::default(), first);
    while due < end {
        sleep_until(due).await;
        let request = hyper::Request::post("/v1/batch")
            .header("host", &page.host)
            .header("origin", &page.origin)
            .header("authorization", format!("Bearer {}", page.key))
            .header("content-type", "application/json")
            .body(format!(r#"{{"batch":[{}]}}"#, page.visitor.event()))?;
        let answer = client.send(request).await.context("POST /v1/batch")?;
        let status = answer.status().as_u16();
        answer.into_body().collect().await?;
        ensure!(status == 200 || status == 429, "POST /v1/batch: HTTP {status}");
        counts.refused += usize::from(status == 429);
        counts.waits.push(due.elapsed());
        due += step;
    }
    Ok(counts)
}
