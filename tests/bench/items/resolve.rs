//! `Resolve` for a known visitor with pending syncs asked for, and nothing due: the hot path.

use anyhow::{Result, ensure};
use bb8_redis::redis::AsyncCommands;
use harness::{consent_strings, grpc::Authorized};
use identity_service::storage::redis::keys;
use proto::v1::{
    Caller, CollectCaller, ConsentSignals, ResolveRequest, Subject, caller::Kind,
    resolve_service_client::ResolveServiceClient,
};

use serde_json::json;

use super::{GRPC, clients};
use crate::{
    cpu::Meter,
    floor::{Floor, Shape},
    load::{Flood, Lane, Side, alternate, compare},
    redis::connect,
    report::{Item, Report},
    visitors::{BENCHED, CONSENT, anonymous_id, canonical, canonical_of, in_turn},
    world::{Product, World},
};

/// Visitors for whom everything is due, and requests of a round.
const DUE_VISITORS: u64 = 5_000;
/// Syncs that an answer offers at most, as the page's other requests matter more.
const MAX_OFFERS: usize = 5;
/// Visitors whose consent is a string.
const WITH_STRINGS: u64 = 20_000;

/// Requests for known visitors, and what their answers must hold.
#[derive(Clone)]
pub struct Known {
    /// Caller as the edge names it.
    pub caller: CollectCaller,
    /// Number of the first visitor.
    pub first: u64,
    /// Number of visitors that are stored from there on.
    pub stored: u64,
    /// Number of syncs that each visitor is to be offered.
    pub due: usize,
    /// Consent that each event brings, as it is stored; none where it brings none.
    pub consent: Option<String>,
}

/// Request in flight for a known visitor.
pub struct KnownLane {
    client: ResolveServiceClient<Authorized>,
    known: Known,
}

impl Known {
    /// Asks a product for its usual visitors, for whom nothing is due.
    pub fn of(product: &Product, stored: u64) -> Self {
        let caller = CollectCaller {
            pipeline_key: product.customer.live_key.clone(),
            origin: Some(product.customer.origin.clone()),
            host: product.edge().0.to_string(),
            client_ip: Some("127.0.0.1".to_owned()),
            ..CollectCaller::default()
        };
        Self { caller, first: 0, stored, due: 0, consent: None }
    }

    /// Lanes that ask like this.
    fn lanes(&self, clients: Vec<ResolveServiceClient<Authorized>>) -> Vec<KnownLane> {
        clients.into_iter().map(|client| KnownLane { client, known: self.clone() }).collect()
    }
}

impl Lane for KnownLane {
    async fn ask(&mut self, number: u64) -> Result<()> {
        let visitor = anonymous_id(self.known.first + in_turn(number, self.known.stored));
        let consent = self.known.consent.clone();
        let subject = Subject {
            anonymous_id: Some(visitor.clone()),
            consent: consent.map(|json| ConsentSignals { json: Some(json), sec_gpc: false }),
            want_pending_syncs: true,
            ..Subject::default()
        };
        let caller = Some(Caller { kind: Some(Kind::Collect(self.known.caller.clone())) });
        let answer = self
            .client
            .resolve(ResolveRequest { caller, subjects: vec![subject], ..ResolveRequest::default() })
            .await?
            .into_inner();
        let right = answer.resolutions.first().is_some_and(|resolution| {
            resolution.error.is_none()
                && !resolution.created
                && resolution.pending_syncs.len() == self.known.due
                && resolution.cookies.len() == 1
                && resolution.anonymous_id == visitor
                && resolution.canonical_id == canonical_of(&visitor).to_string()
        });
        ensure!(right, "Resolve of {visitor} was answered {answer:?}");
        Ok(())
    }
}

/// Compares floor and product where nothing is due.
pub async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let side = |core, meter, stores: &Product| {
        let clients = clients(core, &stores.cluster.secrets.edge_token, GRPC)?;
        let flood = Flood::of(Known::of(stores, world.stored).lanes(clients));
        anyhow::Ok(Side { meters: vec![meter, stores.redis_meter], flood })
    };
    let floor = &world.floor_core;
    let mut sides = vec![side(floor.addr, Meter::Process(floor.pid), &world.today)?];
    for product in world.products() {
        let (core, meter) = product.core();
        sides.push(side(core, meter, product)?);
    }
    let rounds = compare(sides).await?;
    let item = Item {
        name: "Resolve, known, nothing due".to_owned(),
        floor: "a bare tonic handler sends the same four commands in one pipeline over one multiplexed connection \
                a thread and answers with as much",
        processes: vec![("core", Some(1.25)), ("redis", Some(1.25))],
    };
    report.add(&item, world.stored, &rounds);
    Ok(())
}

/// Compares events that bring a consent string with those that bring a category, each as it is stored.
pub async fn measure_strings(world: &World, report: &mut Report) -> Result<()> {
    let tcf = consent_strings::days_old(consent_strings::MANY, 1);
    let strings = json!({"marketing": true, "tcf": tcf, "gdpr_applies": true}).to_string();
    let visitors = world.store_with(WITH_STRINGS, &strings).await?;
    let (core, meter) = world.today.core();
    let side = |known: Known| {
        let clients = clients(core, &world.today.cluster.secrets.edge_token, GRPC)?;
        anyhow::Ok(Side { meters: vec![meter], flood: Flood::of(known.lanes(clients)) })
    };
    let usual = Known::of(&world.today, world.stored);
    let plain = Known { stored: WITH_STRINGS.min(world.stored), consent: Some(CONSENT.to_owned()), ..usual };
    let with_strings =
        Known { first: visitors.start, stored: WITH_STRINGS, consent: Some(strings), ..plain.clone() };
    let rounds = compare(vec![side(plain)?, side(with_strings)?]).await?;
    let item = Item {
        name: "(consent strings)".to_owned(),
        floor: "no floor here: `floor` is the product's Resolve of a known visitor whose event brings a category, `ours` \
                the same where it brings a TCF string as well",
        processes: vec![("core", Some(1.03))],
    };
    report.add(&item, world.stored, &rounds);
    Ok(())
}

/// The same where every sync is due, and leases are taken: for information, as the floor takes none.
pub async fn measure_due(world: &World, report: &mut Report) -> Result<()> {
    let visitors = world.store_unsynced(DUE_VISITORS).await?;
    let due = BENCHED.len().min(MAX_OFFERS);
    let flood = |addr, stores: &Product, due| {
        let known =
            Known { first: visitors.start, stored: DUE_VISITORS, due, ..Known::of(stores, world.stored) };
        let clients = clients(addr, &stores.cluster.secrets.edge_token, GRPC)?;
        anyhow::Ok(Flood::counted(known.lanes(clients), DUE_VISITORS))
    };
    let mut floor = flood(world.floor_core.addr, &world.today, 0)?;
    let mut meters = vec![vec![Meter::Process(world.floor_core.pid)]];
    let mut products = Vec::new();
    for product in world.products() {
        let (core, meter) = product.core();
        let org = product.customer.org_id;
        let leases: Vec<String> =
            visitors.clone().map(|visitor| keys::offers(org, canonical(visitor))).collect();
        products.push((flood(core, product, due)?, connect(&product.redis.url()).await?, leases));
        meters.push(vec![meter]);
    }
    let rounds = alternate(&meters, async |side| {
        if side == 0 {
            return floor.round().await;
        }
        let (flood, redis, leases) = &mut products[side - 1];
        let () = redis.unlink(&*leases).await?;
        flood.round().await
    })
    .await?;
    let item = Item {
        name: "Resolve, known, syncs due".to_owned(),
        floor: "as where nothing is due: it takes no lease and offers nothing",
        processes: vec![("core", None)],
    };
    report.add(&item, world.stored, &rounds);
    Ok(())
}

/// The bare floor as one work-stealing runtime, against one single-threaded runtime a core.
pub async fn compare_shapes(world: &World, report: &mut Report) -> Result<()> {
    const WIDE: (usize, usize) = (8, 16);
    let known = Known::of(&world.today, world.stored);
    let side = |floor: &Floor| {
        let flood = Flood::of(known.lanes(clients(floor.addr, "", WIDE)?));
        anyhow::Ok(Side { meters: vec![Meter::Process(floor.pid)], flood })
    };
    let per_core = world.another_floor(Shape::PerCore).await?;
    let stealing = world.another_floor(Shape::WorkStealing).await?;
    let rounds = compare(vec![side(&per_core)?, side(&stealing)?]).await?;
    let item = Item {
        name: "(the floor as work stealing)".to_owned(),
        floor: "no product here: `floor` is the floor of Resolve as one single-threaded runtime a core, `ours` the \
                same as one work-stealing runtime, over 8 connections × 16 streams",
        processes: vec![("core", None)],
    };
    report.add(&item, world.stored, &rounds);
    Ok(())
}
