//! A batch of a source with a destination, and the delivery of what it brings.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use harness::{
    cluster::of_build,
    delivery::{INGEST_KEY, add_destination, add_tenant},
    delivery_sim::DeliverySim,
    process::Service,
    seed::Customer,
};
use proto::v1::CollectCaller;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    batch::{BatchLane, body},
    connections,
    resolve::Known,
};
use crate::{
    cpu::Meter,
    floor::deliver::Poster,
    load::{Flood, Lane as _, Side, alternate, compare},
    report::{Item, Report},
    visitors::BENCHED,
    world::{Product, World},
};

/// Batches of a round of delivery, of three events each: two seconds' worth, as a destination takes 400 a second.
const BATCHES: u64 = 300;
/// Numbers of requests that are to be delivered begin there.
const DELIVERED: u64 = 1 << 32;
/// Time within which a round is delivered, and a new source known.
const PATIENCE: Duration = Duration::from_secs(60);

/// Compares a batch of a source with a destination with the same of one without, and the processor with a bare client.
pub async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let product = &world.today;
    let sink = DeliverySim::start().await?;
    let source = world.another_source(&BENCHED).await?;
    let key = &product.cluster.secrets.encryption_key;
    add_tenant(&product.database, &source, key, &sink.base_url(), INGEST_KEY).await;
    add_destination(&product.database, &source, "amperity", &json!({})).await;
    let (edge, edge_meter) = product.edge();
    let plain = Known::of(product, world.stored).caller;
    let with = CollectCaller {
        pipeline_key: source.live_key.clone(),
        origin: Some(source.origin.clone()),
        host: product.cluster.host_at(&source.collect_name),
        ..plain.clone()
    };
    keep(product, &source, edge, &with, world.stored).await?;
    let mut sides = Vec::new();
    for caller in [&plain, &with] {
        let flood = Flood::of(lanes(edge, caller, world.stored, 0).await?);
        sides.push(Side { meters: vec![edge_meter, product.core().1], flood });
    }
    let rounds = compare(sides).await?;
    let item = Item {
        name: "/v1/batch with delivery".to_owned(),
        floor: "the product's own edge and core, asked for a source without a destination",
        processes: vec![("edge", Some(1.15)), ("core", Some(1.15))],
    };
    report.add(&item, world.stored, &rounds);
    deliver(world, report, &sink, &source, &with).await
}

async fn deliver(
    world: &World,
    report: &mut Report,
    sink: &DeliverySim,
    source: &Customer,
    caller: &CollectCaller,
) -> Result<()> {
    let product = &world.today;
    // What was only to be kept is left behind.
    let head = "UPDATE delivery_cursors own SET position = head.seq, events = head.events, bytes = head.bytes \
        FROM event_heads head WHERE head.source_id = own.source_id";
    product.database.execute(head).await;
    let secrets = &product.cluster.secrets;
    let core = format!("http://{}", product.core().0);
    let environment = [
        ("DATABASE_URL", product.database.url.as_str()),
        ("DATAFLY_ENCRYPTION_KEY", &secrets.encryption_key),
        ("SERVICE_TOKEN", &secrets.internal_token),
        ("IDENTITY_URL", &core),
        ("OUTBOUND_ALLOW_CIDRS", "127.0.0.0/8"),
    ];
    let processor = Service::start(&of_build(None, "event-processor"), &environment, &["metrics"]).await?;
    let lanes = lanes(product.edge().0, caller, world.stored, DELIVERED).await?;
    let mut flood = Flood::counted(lanes, BATCHES);
    let events = 3 * flood.round().await?;
    arrive(sink, events).await?;
    let sample = sink.received().swap_remove(0);
    let mut floor = Poster::start(sink.addr, &sample.target, &sample.body)?;
    let meters = [floor.pid, processor.pid()].map(|pid| vec![Meter::Process(pid)]);
    let rounds = alternate(&meters, async |side| {
        sink.forget();
        if side == 0 {
            floor.post(events).await?;
        } else {
            ensure!(3 * flood.round().await? == events, "not all batches were answered");
        }
        arrive(sink, events).await?;
        Ok(events)
    })
    .await?;
    let item = Item {
        name: "deliver: an event to Amperity".to_owned(),
        floor: "a bare client posts the same bytes over as many connections, as fast as it can; `ours` sends what is accepted \
                meanwhile, at most 400 a second",
        processes: vec![("processor", Some(1.5))],
    };
    report.add(&item, world.stored, &rounds);
    let pause = format!("UPDATE destinations SET enabled = false WHERE source_id = '{}'", source.source_id);
    product.database.execute(&pause).await;
    Ok(())
}

async fn lanes(edge: SocketAddr, caller: &CollectCaller, stored: u64, first: u64) -> Result<Vec<BatchLane>> {
    let lane = |client| BatchLane { client, caller: caller.clone(), body: body(), stored, first };
    Ok(connections(edge).await?.into_iter().map(lane).collect())
}

/// Asks until the events of a source are kept.
async fn keep(
    product: &Product,
    source: &Customer,
    edge: SocketAddr,
    caller: &CollectCaller,
    stored: u64,
) -> Result<()> {
    let mut lanes = lanes(edge, caller, stored, DELIVERED / 2).await?;
    let began = Instant::now();
    let lane = &mut lanes[0];
    for number in 0.. {
        let answered = lane.ask(number).await;
        let kept = product.database.count("events", &format!("source_id = '{}'", source.source_id)).await;
        if answered.is_ok() && kept > 0 {
            break;
        }
        ensure!(began.elapsed() < PATIENCE, "no event is kept: {answered:?}");
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Waits until so many events have arrived.
async fn arrive(sink: &DeliverySim, events: u64) -> Result<()> {
    let began = Instant::now();
    loop {
        let arrived = sink.count();
        if arrived >= usize::try_from(events)? {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "{arrived} of {events} events have arrived");
        sleep(Duration::from_millis(5)).await;
    }
}
