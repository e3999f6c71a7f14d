//! The routes against a core that answers as it is told, over real sockets.

mod events;
mod fake_core;
mod refusals;
mod visits;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    body::{Body, to_bytes},
    extract::ConnectInfo,
};
use http::{HeaderMap, Request, StatusCode};
use proto::v1::{
    auth_service_server::AuthServiceServer, resolve_service_server::ResolveServiceServer,
    sync_service_server::SyncServiceServer,
};
use serde_json::Value;
use serve::{Exempt, Lifecycle, Workers};
use tonic::service::Routes;
use tower::ServiceExt;

use self::fake_core::FakeCore;
use super::*;

const ORIGIN: &str = "https://shop.example";
const KEY: (&str, &str) = ("authorization", "Bearer dk_live_x");

/// Edge before a fake core.
async fn start() -> (Router, FakeCore) {
    let (fake, addr) = start_core().await;
    (edge(&[addr]), fake)
}

/// Fake core, with its address.
async fn start_core() -> (FakeCore, SocketAddr) {
    let fake = FakeCore::default();
    let listener = serve::bind("LISTEN_ADDR", ([127, 0, 0, 1], 0).into()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let routes = Routes::new(ResolveServiceServer::new(fake.clone()))
        .add_service(AuthServiceServer::new(fake.clone()))
        .add_service(SyncServiceServer::new(fake.clone()));
    tokio::spawn(serve::serve(
        listener,
        "grpc",
        Exempt::Nobody,
        Workers::here(routes.into_axum_router()),
        Lifecycle::new(),
    ));
    (fake, addr)
}

fn client(cores: &[SocketAddr]) -> CoreClient {
    let urls: Vec<_> = cores.iter().map(|addr| format!("http://{addr}").parse().unwrap()).collect();
    CoreClient::new(&urls, "Bearer token".parse().unwrap())
}

fn edge(cores: &[SocketAddr]) -> Router {
    app(Edge {
        core: client(cores),
        patient_core: client(cores),
        proxies: Arc::default(),
        bodies: Bodies::default(),
        throttle: Arc::default(),
        vendor_cookies: VendorCookies::default(),
        without_delivery: crate::without_delivery::WithoutDelivery::default(),
    })
}

struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn send(app: &Router, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Got {
    let mut request = Request::builder().method(method).uri(target).header("host", "collect.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let peer = ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 1)));
    let request = request.extension(peer).body(Body::from(body.to_owned())).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Got {
        status: parts.status,
        headers: parts.headers,
        body: to_bytes(body, 1 << 20).await.unwrap().to_vec(),
    }
}
