//! The work items, one a file: what is asked, how the answer is checked, and what it is compared with.

pub mod batch;
pub mod creation;
pub mod graph;
pub mod resolve;
pub mod sync;
pub mod vendor_ids;

use std::net::SocketAddr;

use crate::{cpu::Meter, http::Client, world::World};
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

/// The edges that are compared: the floor's, the product's, and the product's over the floor's core; each with the
/// CPU of itself and of the core behind it.
pub fn edges(world: &World) -> [(SocketAddr, [Meter; 2]); 3] {
    let ((edge, edge_meter), (_, core_meter)) = (world.edge(), world.core());
    let floor_core = Meter::Process(world.floor_core.pid);
    [
        (world.floor_edge.addr, [Meter::Process(world.floor_edge.pid), floor_core]),
        (edge, [edge_meter, core_meter]),
        (world.lone_edge.addr("http"), [Meter::Process(world.lone_edge.pid()), floor_core]),
    ]
}
