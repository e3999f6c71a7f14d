//! The gRPC surface: one file a service. Each translates messages and calls the feature.

mod auth;
mod caller;
mod catalog;
mod deadline;
mod enrich;
mod guard;
mod health;
mod identity_admin;
mod methods;
mod profile;
mod resolve;
mod sync;

use std::{convert::Infallible, sync::Arc};

use axum::{body::Body, response::Response};
use futures_util::FutureExt;
use http::Request;
use proto::v1::{
    auth_service_server::AuthServiceServer,
    catalog_service_server::CatalogServiceServer,
    enrich_service_server::EnrichServiceServer,
    identity_admin_service_server::IdentityAdminServiceServer,
    profile_service_server::ProfileServiceServer,
    resolve_service_server::{self, ResolveServiceServer},
    sync_service_server::{self, SyncServiceServer},
};
use serve::{ReceivedBody, Serve};
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::Service;

pub use self::health::watch;
use crate::{app::App, auth::service_token::ServiceTokens};

/// Builds the whole service: those of the package, reflection, and health, behind the guard and within
/// deadlines.
pub fn service<H: Health>(
    app: Arc<App>,
    tokens: ServiceTokens,
    health: HealthServer<H>,
) -> Result<impl Serve + use<H>, tonic_reflection::server::Error> {
    macro_rules! bounded {
        ($server:ident, $service:expr) => {
            $server::new($service)
                .max_decoding_message_size(proto::MAX_REQUEST_BYTES)
                .max_encoding_message_size(proto::MAX_ANSWER_BYTES)
        };
    }
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let resolve = bounded!(ResolveServiceServer, resolve::Service { app: app.clone() });
    let sync = bounded!(SyncServiceServer, sync::Service { app: app.clone() });
    let others = Routes::new(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(bounded!(AuthServiceServer, auth::Service { app: app.clone() }))
        .add_service(bounded!(EnrichServiceServer, enrich::Service { app: app.clone() }))
        .add_service(bounded!(ProfileServiceServer, profile::Service { app: app.clone() }))
        .add_service(bounded!(CatalogServiceServer, catalog::Service { app: app.clone() }))
        .add_service(bounded!(IdentityAdminServiceServer, identity_admin::Service { app }));
    let described = [
        proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    let others = others.prepare().into_axum_router();
    // A router's look-up takes several allocations, so what visitors wait for goes past it.
    let calls = move |request: Request<ReceivedBody>| {
        let path = request.uri().path().strip_prefix('/').unwrap_or_default();
        if path.starts_with(resolve_service_server::SERVICE_NAME) {
            direct(resolve.clone().call(request)).left_future()
        } else if path.starts_with(sync_service_server::SERVICE_NAME) {
            direct(sync.clone().call(request)).left_future()
        } else {
            others.clone().call(request).right_future()
        }
    };
    Ok(guard::guarded(calls, tokens, &described))
}

/// Answers for a service that is called without a router.
async fn direct(
    called: impl Future<Output = Result<Response<tonic::body::Body>, Infallible>>,
) -> Result<Response<Body>, Infallible> {
    Ok(called.await?.map(Body::new))
}
