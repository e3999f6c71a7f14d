//! The 302 to a vendor, and the callback that brings the ID: edge, core, and both stores.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use http_body_util::BodyExt;

use super::{Edge, connections, edges};
use crate::{
    http::Client,
    load::{Flood, Lane, ROUNDS, Side, compare},
    report::{Item, Report},
    visitors::{address, anonymous_id},
    world::{Product, World},
};

/// Requests a round: each is a visitor of its own, as a state is used once.
const REQUESTS: u64 = 1000;

/// States in the order in which the redirects gave them out.
type States = Arc<Mutex<Vec<String>>>;

/// Connection that asks for redirects.
struct BeginLane {
    client: Client,
    host: String,
    key: String,
    /// Number of the first visitor; each edge has its own.
    first: u64,
    states: States,
}

impl Lane for BeginLane {
    async fn ask(&mut self, number: u64) -> Result<()> {
        let visitor = anonymous_id(self.first + number);
        let request =
            hyper::Request::get(format!("/v1/sync/pinterest?pipeline_key={}&aid={visitor}", self.key))
                .header("host", &self.host)
                .header("x-forwarded-for", address(number))
                .header("referer", "https://shop.example.com/shoes")
                .body(String::new())?;
        let answer = self.client.send(request).await?;
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        let state = location.and_then(|location| location.rsplit_once("state%3D")).map(|(_, state)| state);
        ensure!(answer.status() == 302, "the sync of {visitor} was answered {}", answer.status());
        let state = state.with_context(|| format!("no state in {location:?}"))?.to_owned();
        self.states.lock().unwrap_or_else(PoisonError::into_inner).push(state);
        answer.into_body().collect().await?;
        Ok(())
    }
}

/// Connection that brings IDs back.
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
            .header("x-forwarded-for", address(number))
            .body(String::new())?;
        let answer = self.client.send(request).await?;
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

/// Compares floor, product, and the product's edge over the floor's core: the redirects first.
pub async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let processes = vec![("edge", Some(1.3)), ("core", Some(1.3)), ("redis", None), ("postgres", None)];
    let meters =
        |edge: &Edge<'_>| [edge.meters.as_slice(), &[edge.stores.redis_meter, world.postgres_meter]].concat();
    let host = |edge: &Edge<'_>| edge.stores.edge().0.to_string();
    let edges = edges(world);

    // Who is not due is sent nowhere.
    let each = REQUESTS * (ROUNDS as u64 + 1);
    let due = world.store_due(each * edges.len() as u64).await?;
    let mut begins = Vec::with_capacity(edges.len());
    let states: Vec<States> = edges.iter().map(|_| States::default()).collect();
    for ((at, states), edge) in (0..).zip(&states).zip(&edges) {
        let begin = |client| BeginLane {
            client,
            host: host(edge),
            key: edge.stores.customer.live_key.clone(),
            first: due.start + each * at,
            states: states.clone(),
        };
        let flood = Flood::counted(connections(edge.addr).await?.into_iter().map(begin).collect(), REQUESTS);
        begins.push(Side { meters: meters(edge), flood });
    }
    let rounds = compare(begins).await?;
    let item = Item {
        name: "/v1/sync, 302".to_owned(),
        floor: "a bare axum handler reads the query and makes one bare call, whose handler reads canonical ID and \
                consent in one pipeline and upserts one row",
        processes: processes.clone(),
    };
    report.add_edges(&item, world.stored, &rounds);

    let mut callbacks = Vec::with_capacity(edges.len());
    for (states, edge) in states.iter().zip(&edges) {
        let callback = |client| CallbackLane { client, host: host(edge), states: states.clone() };
        let flood =
            Flood::counted(connections(edge.addr).await?.into_iter().map(callback).collect(), REQUESTS);
        callbacks.push(Side { meters: meters(edge), flood });
    }
    let mut before = Vec::new();
    for product in world.products() {
        before.push(stored(product).await);
    }
    let rounds = compare(callbacks).await?;
    // The browser gets its image whatever happens; the core says what did.
    for (product, before) in world.products().zip(before) {
        let count = stored(product).await - before;
        ensure!(count as u64 == each, "{count} of {each} callbacks were stored");
    }
    let item = Item {
        name: "/v1/sync/…/callback".to_owned(),
        floor: "a bare axum handler makes one bare call, whose handler finds the identity, uses the state up and \
                stores the ID in one statement, and then writes one field to Redis",
        processes,
    };
    report.add_edges(&item, world.stored, &rounds);
    Ok(())
}

/// IDs that a product's core says it has stored.
async fn stored(product: &Product) -> f64 {
    let metrics = product.cluster.cores[0].metrics().await;
    metrics.sum("datafly_sync_succeeded_total", &[("vendor", "pinterest")])
}
