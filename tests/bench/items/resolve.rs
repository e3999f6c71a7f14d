//! `Resolve` for a known visitor with pending syncs asked for, and nothing due: the hot path.

use anyhow::{Result, ensure};
use harness::grpc::Authorized;
use proto::v1::{
    Caller, CollectCaller, ResolveRequest, Subject, caller::Kind,
    resolve_service_client::ResolveServiceClient,
};

use super::{GRPC, clients};
use crate::{
    cpu::Meter,
    floor::Shape,
    load::{Flood, Lane, alternate},
    report::{Item, Report},
    visitors::{anonymous_id, canonical_of, in_turn},
    world::World,
};

/// The visitors' requests.
#[derive(Clone)]
pub struct Known {
    /// Who asks, as the edge says it.
    pub caller: CollectCaller,
    /// How many visitors are stored.
    pub stored: u64,
}

/// One request in flight.
pub struct KnownLane {
    client: ResolveServiceClient<Authorized>,
    known: Known,
}

impl Known {
    /// Those of a world.
    pub fn of(world: &World) -> Self {
        let caller = CollectCaller {
            pipeline_key: world.customer.live_key.clone(),
            origin: Some(world.customer.origin.clone()),
            host: world.edge().0.to_string(),
            client_ip: Some("127.0.0.1".to_owned()),
            ..CollectCaller::default()
        };
        Self { caller, stored: world.stored }
    }

    /// Lanes that ask like this.
    pub fn flood(&self, clients: Vec<ResolveServiceClient<Authorized>>) -> Flood<KnownLane> {
        Flood::of(clients.into_iter().map(|client| KnownLane { client, known: self.clone() }).collect())
    }
}

impl Lane for KnownLane {
    async fn ask(&mut self, number: u64) -> Result<()> {
        let visitor = anonymous_id(in_turn(number, self.known.stored));
        let subject =
            Subject { anonymous_id: Some(visitor.clone()), want_pending_syncs: true, ..Subject::default() };
        let caller = Some(Caller { kind: Some(Kind::Collect(self.known.caller.clone())) });
        let answer =
            self.client.resolve(ResolveRequest { caller, subjects: vec![subject] }).await?.into_inner();
        let right = answer.resolutions.first().is_some_and(|resolution| {
            resolution.error.is_none()
                && !resolution.created
                && resolution.pending_syncs.is_empty()
                && resolution.cookies.len() == 1
                && resolution.anonymous_id == visitor
                && resolution.canonical_id == canonical_of(&visitor).to_string()
        });
        ensure!(right, "Resolve of {visitor} was answered {answer:?}");
        Ok(())
    }
}

/// Floor and product.
pub async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let (core, meter) = world.core();
    let (known, token) = (Known::of(world), &world.cluster.secrets.edge_token);
    let mut floor = known.flood(clients(world.floor_core.addr, token, GRPC)?);
    let mut product = known.flood(clients(core, token, GRPC)?);
    let [floor, product] = alternate(
        [&[Meter::Process(world.floor_core.pid), world.redis_meter], &[meter, world.redis_meter]],
        async |side| if side == 0 { floor.round().await } else { product.round().await },
    )
    .await?;
    let item = Item {
        name: "Resolve, known, nothing due".to_owned(),
        floor: "a bare tonic handler sends the same four commands in one pipeline over one multiplexed connection \
                a thread and answers with as much",
        processes: vec![("core", Some(1.25)), ("redis", Some(1.25))],
    };
    report.add(&item, world.stored, &floor, &product);
    Ok(())
}

/// The bare floor as one work-stealing runtime, against one single-threaded runtime a core.
pub async fn compare_shapes(world: &World, report: &mut Report) -> Result<()> {
    const WIDE: (usize, usize) = (8, 16);
    let known = Known::of(world);
    let (per_core, stealing) =
        (world.another_floor(Shape::PerCore).await?, world.another_floor(Shape::WorkStealing).await?);
    let mut floor = known.flood(clients(per_core.addr, "", WIDE)?);
    let mut product = known.flood(clients(stealing.addr, "", WIDE)?);
    let [floor, product] =
        alternate([&[Meter::Process(per_core.pid)], &[Meter::Process(stealing.pid)]], async |side| {
            if side == 0 { floor.round().await } else { product.round().await }
        })
        .await?;
    let item = Item {
        name: "(floors: work stealing)".to_owned(),
        floor: "no product here: under `floor` one single-threaded runtime a core, under `ours` the same handler on \
                one work-stealing runtime",
        processes: vec![("core", None)],
    };
    report.add(&item, world.stored, &floor, &product);
    Ok(())
}
