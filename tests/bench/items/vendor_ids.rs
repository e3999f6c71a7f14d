//! `VendorIds` for many identities a call: delivery.

use anyhow::{Result, ensure};
use harness::grpc::Authorized;
use proto::v1::{
    IdentityRef, VendorIdsRequest, identity_ref::Id, resolve_service_client::ResolveServiceClient,
};

use super::{GRPC, clients};
use crate::{
    cpu::Meter,
    load::{Flood, Lane, Side, compare},
    report::{Item, Report},
    visitors::{anonymous_id, canonical, in_turn, known_vendors},
    world::{Product, World},
};

/// Kind of ID that names an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Anonymous IDs, as events carry them.
    AnonymousId,
    /// Canonical IDs, as `Resolve` answers them.
    CanonicalId,
}

struct DeliveryLane {
    client: ResolveServiceClient<Authorized>,
    org: String,
    stored: u64,
    identities: u64,
    by: By,
    /// Vendor IDs that each identity has; none where the answer is the floor's.
    vendors: Option<usize>,
}

impl Lane for DeliveryLane {
    async fn ask(&mut self, number: u64) -> Result<()> {
        let visitor = |at: u64| in_turn(number * self.identities + at, self.stored);
        let reference = |visitor: u64| match self.by {
            By::AnonymousId => Id::AnonymousId(anonymous_id(visitor)),
            By::CanonicalId => Id::CanonicalId(canonical(visitor).to_string()),
        };
        let request = VendorIdsRequest {
            org_id: self.org.clone(),
            identities: (0..self.identities)
                .map(|at| IdentityRef { id: Some(reference(visitor(at))), ..IdentityRef::default() })
                .collect(),
            ..VendorIdsRequest::default()
        };
        let answer = self.client.vendor_ids(request).await?.into_inner().identities;
        ensure!(answer.len() as u64 == self.identities, "{} of {} answers", answer.len(), self.identities);
        for (at, answer) in (0..).zip(&answer) {
            let right = match self.vendors {
                Some(vendors) => {
                    answer.vendor_ids.len() == vendors
                        && answer.consent.is_some()
                        && answer.canonical_id == canonical(visitor(at)).to_string()
                }
                None => answer.canonical_id.contains(&canonical(visitor(at)).to_string()),
            };
            ensure!(right, "VendorIds of visitor {} was answered {answer:?}", visitor(at));
        }
        Ok(())
    }
}

/// Compares floor and product for one number of identities a call.
pub async fn measure(world: &World, report: &mut Report, identities: u64, by: By) -> Result<()> {
    let side = |core, meter, stores: &Product, vendors| {
        let lane = |client| DeliveryLane {
            client,
            org: stores.customer.org_id.to_string(),
            stored: world.stored,
            identities,
            by,
            vendors,
        };
        // Of large calls fewer are in flight.
        let in_flight = match identities {
            ..100 => GRPC,
            100..1000 => (GRPC.0, 4),
            1000.. => (GRPC.0, 1),
        };
        let clients = clients(core, &stores.cluster.secrets.internal_token, in_flight)?;
        let flood = Flood::of(clients.into_iter().map(lane).collect());
        anyhow::Ok(Side { meters: vec![meter, stores.redis_meter], flood })
    };
    let floor = &world.floor_core;
    let mut sides = vec![side(floor.addr, Meter::Process(floor.pid), &world.today, None)?];
    for product in world.products() {
        let (core, meter) = product.core();
        sides.push(side(core, meter, product, Some(known_vendors().len()))?);
    }
    let rounds = compare(sides).await?;
    let (name, floor_does) = match by {
        By::AnonymousId => (
            format!("VendorIds × {identities}"),
            "the same pipelines, by anonymous ID: canonical IDs and consent, then vendor IDs; answered unparsed",
        ),
        By::CanonicalId => (
            format!("VendorIds × {identities}, by canonical ID"),
            "the same pipeline of vendor IDs, answered unparsed",
        ),
    };
    let target = (identities == 1000).then_some(1.5);
    let item = Item { name, floor: floor_does, processes: vec![("core", target), ("redis", None)] };
    report.add(&item, world.stored, &rounds);
    Ok(())
}
