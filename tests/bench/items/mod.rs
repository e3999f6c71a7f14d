//! The work items, one a file: what is asked, how the answer is checked, and what it is compared with.

pub mod batch;
pub mod creation;
pub mod resolve;
pub mod sync;
pub mod vendor_ids;

use std::net::SocketAddr;

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
