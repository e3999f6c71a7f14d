//! The work items, one a file: what is asked, how the answer is checked, and what it is compared with.

pub mod batch;
pub mod creation;
pub mod delivery;
pub mod graph;
pub mod resolve;
pub mod sync;
pub mod vendor_ids;

use std::net::SocketAddr;

use crate::{
    cpu::Meter,
    http::Client,
    world::{Product, World},
};
use anyhow::Result;
use harness::grpc::{Api, Authorized};
use proto::v1::resolve_service_client::ResolveServiceClient;

/// gRPC connections and requests in flight on each.
pub const GRPC: (usize, usize) = (4, 16);
/// HTTP/1.1 connections, each with one request in flight.
pub const HTTP: usize = 32;

/// A client for each request in flight, `streams` to a connection.
pub fn clients(
    core: SocketAddr,
    token: &str,
    (connections, streams): (usize, usize),
) -> Result<Vec<ResolveServiceClient<Authorized>>> {
    let mut clients = Vec::with_capacity(connections * streams);
    for _ in 0..connections {
        let client = Api::new(core, Some(token))?.resolve();
        clients.extend(std::iter::repeat_n(client, streams));
    }
    Ok(clients)
}

/// Connections to an edge, each with one request in flight.
pub async fn connections(edge: SocketAddr) -> Result<Vec<Client>> {
    let mut connections = Vec::with_capacity(HTTP);
    for _ in 0..HTTP {
        connections.push(Client::connect(edge).await?);
    }
    Ok(connections)
}

/// An edge that is compared.
pub struct Edge<'a> {
    /// Address that it listens on.
    pub addr: SocketAddr,
    /// CPU of itself and of the core behind it.
    pub meters: [Meter; 2],
    /// Product whose stores the core behind it uses.
    pub stores: &'a Product,
}

/// The edges that are compared: the floor's, each product's, and each product's over the floor's core.
pub fn edges(world: &World) -> Vec<Edge<'_>> {
    let (today, floor_core) = (&world.today, Meter::Process(world.floor_core.pid));
    let over_floor = |addr, pid| Edge { addr, meters: [Meter::Process(pid), floor_core], stores: today };
    let mut edges = vec![over_floor(world.floor_edge.addr, world.floor_edge.pid)];
    for product in world.products() {
        let ((addr, edge), (_, core)) = (product.edge(), product.core());
        edges.push(Edge { addr, meters: [edge, core], stores: product });
    }
    edges.extend(world.lone_edges.iter().map(|edge| over_floor(edge.addr("http"), edge.pid())));
    edges
}
