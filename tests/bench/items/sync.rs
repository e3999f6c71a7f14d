//! The 302 to a vendor, and the callback that brings the ID: edge, core, and both stores.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use http_body_util::BodyExt;

use super::HTTP;
use crate::{
    cpu::Meter,
    http::{Client, connect},
    load::{Flood, Lane, ROUNDS, alternate},
    report::{Item, Report},
    visitors::anonymous_id,
    world::World,
};

/// Requests a round: each is a visitor of its own, as a state is used once.
const REQUESTS: u64 = 3000;

/// States in the order in which the redirects gave them out.
type States = Arc<Mutex<Vec<String>>>;

/// One connection that asks for redirects.
struct BeginLane {
    client: Client,
    host: String,
    key: String,
    /// The first visitor; floor and product have their own.
    first: u64,
    states: States,
}

impl Lane for BeginLane {
    async fn ask(&mut self, number: u64) -> Result<()> {
        let visitor = anonymous_id(self.first + number);
        let request =
            hyper::Request::get(format!("/v1/sync/pinterest?pipeline_key={}&aid={visitor}", self.key))
                .header("host", &self.host)
                .header("referer", "https://shop.example.com/shoes")
                .body(String::new())?;
        let answer = self.client.send_request(request).await?;
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        let state = location.and_then(|location| location.rsplit_once("state%3D")).map(|(_, state)| state);
        ensure!(answer.status() == 302, "the sync of {visitor} was answered {}", answer.status());
        let state = state.with_context(|| format!("no state in {location:?}"))?.to_owned();
        self.states.lock().unwrap_or_else(PoisonError::into_inner).push(state);
        answer.into_body().collect().await?;
        Ok(())
    }
}

/// One connection that brings IDs back.
struct CallbackLane {
    client: Client,
    host: String,
    states: States,
}

impl Lane for CallbackLane {
    async fn ask(&mut self, number: u64) -> Result<()> {
        let state =
            self.states.lock().unwrap_or_else(PoisonError::into_inner)[usize::try_from(number)?].clone();
        let uid = format!("dWlkPU5XTTJOamc0TXpBdE1HRXpN{number:08}");
        let request = hyper::Request::get(format!("/v1/sync/pinterest/callback?state={state}&uid={uid}"))
            .header("host", &self.host)
            .body(String::new())?;
        let answer = self.client.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(
            status == 200 && body.len() == 43,
            "a callback was answered {status} with {} bytes",
            body.len()
        );
        Ok(())
    }
}

/// Floor and product, the redirects first.
pub async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let ((edge, edge_meter), (_, core_meter)) = (world.edge(), world.core());
    let stores = [world.redis_meter, world.postgres_meter];
    let floor_meters =
        [Meter::Process(world.floor_edge.pid), Meter::Process(world.floor_core.pid), stores[0], stores[1]];
    let meters = [edge_meter, core_meter, stores[0], stores[1]];
    let processes = vec![("edge", Some(1.3)), ("core", None), ("redis", None), ("postgres", None)];
    let (host, floor_states, states) = (edge.to_string(), States::default(), States::default());

    let begin = async |addr, first, states: &States| {
        let mut lanes = Vec::with_capacity(HTTP);
        for _ in 0..HTTP {
            let (client, host, key) = (connect(addr).await?, host.clone(), world.customer.live_key.clone());
            lanes.push(BeginLane { client, host, key, first, states: states.clone() });
        }
        anyhow::Ok(Flood::of(lanes))
    };
    let mut floor = begin(world.floor_edge.addr, world.stored / 2, &floor_states).await?;
    let mut product = begin(edge, 0, &states).await?;
    let [floor, product] = alternate([&floor_meters, &meters], async |side| {
        if side == 0 { floor.count(REQUESTS).await } else { product.count(REQUESTS).await }
    })
    .await?;
    let item = Item {
        name: "/v1/sync, 302".to_owned(),
        floor: "a bare axum handler reads the query and makes one bare call, whose handler reads canonical ID and \
                consent in one pipeline and upserts one row",
        processes: processes.clone(),
    };
    report.add(&item, world.stored, &floor, &product);

    let callback = async |addr, states: &States| {
        let mut lanes = Vec::with_capacity(HTTP);
        for _ in 0..HTTP {
            let (client, host) = (connect(addr).await?, host.clone());
            lanes.push(CallbackLane { client, host, states: states.clone() });
        }
        anyhow::Ok(Flood::of(lanes))
    };
    let mut floor = callback(world.floor_edge.addr, &floor_states).await?;
    let mut product = callback(edge, &states).await?;
    let stored_before = stored(world).await;
    let [floor, product] = alternate([&floor_meters, &meters], async |side| {
        if side == 0 { floor.count(REQUESTS).await } else { product.count(REQUESTS).await }
    })
    .await?;
    // The browser gets its image whatever happens; the core says what did.
    let (count, expected) = (stored(world).await - stored_before, REQUESTS * (ROUNDS as u64 + 1));
    ensure!(count as u64 == expected, "{count} of {expected} callbacks were stored");
    let item = Item {
        name: "/v1/sync/…/callback".to_owned(),
        floor: "a bare axum handler makes one bare call, whose handler finds the identity, uses the state up and \
                stores the ID in one statement, and then writes one field to Redis",
        processes,
    };
    report.add(&item, world.stored, &floor, &product);
    Ok(())
}

/// IDs that the core says it has stored.
async fn stored(world: &World) -> f64 {
    let metrics = world.cluster.cores[0].metrics().await;
    metrics.sum("datafly_sync_succeeded_total", &[("vendor", "pinterest")])
}
