//! Paths of the API: one file an area, each handler one request.

pub mod audit_log;
pub mod auth;
pub mod catalog;
pub mod crypto;
pub mod csp;
pub mod custom_providers;
pub mod dead_letters;
pub mod destinations;
mod docs;
mod dry_run;
pub mod enrichment;
pub mod generated_ids;
pub mod identities;
pub mod identity_sources;
pub mod keys;
pub mod live_events;
pub mod me;
mod named;
pub mod pipelines;
pub mod profile_providers;
mod provider_status;
pub mod replays;
pub mod secrets;
pub mod server_secret;
pub mod sources;
pub mod users;

use std::any::Any;

use axum::{
    Router,
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, header};
use serve::Lifecycle;
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};
use utoipa::{Modify, OpenApi, openapi::OpenApi as Api};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        document::{Document, Shared},
        error::{ApiError, Code},
    },
    auth::middleware::check,
    state::Management,
};

/// Routes under `/v1/admin`, with their document.
fn admin() -> (Router<Management>, Api) {
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(auth::log_in))
        .routes(routes!(auth::refresh))
        .routes(routes!(auth::log_out))
        .routes(routes!(me::read))
        .routes(routes!(me::change_password))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::read, users::update_one, users::remove))
        .routes(routes!(users::set_password))
        .routes(routes!(sources::list, sources::create))
        .routes(routes!(sources::read, sources::update, sources::remove))
        .routes(routes!(keys::list, keys::issue))
        .routes(routes!(keys::revoke))
        .routes(routes!(server_secret::read, server_secret::rotate, server_secret::remove))
        .routes(routes!(server_secret::reveal))
        .routes(routes!(pipelines::list))
        .routes(routes!(pipelines::read, pipelines::update))
        .routes(routes!(csp::hosts))
        .routes(routes!(identity_sources::list))
        .routes(routes!(identity_sources::read, identity_sources::set, identity_sources::remove))
        .routes(routes!(generated_ids::list))
        .routes(routes!(generated_ids::read, generated_ids::set, generated_ids::remove))
        .routes(routes!(catalog::sync_vendors))
        .routes(routes!(catalog::enrichment_vendors))
        .routes(routes!(catalog::generated_ids))
        .routes(routes!(catalog::profile_providers))
        .routes(routes!(catalog::destinations))
        .routes(routes!(enrichment::list, custom_providers::whole::set_all))
        .routes(routes!(enrichment::read, enrichment::set, enrichment::remove))
        .routes(routes!(enrichment::status))
        .routes(routes!(enrichment::dry_run))
        .routes(routes!(custom_providers::list))
        .routes(routes!(custom_providers::read, custom_providers::set, custom_providers::remove))
        .routes(routes!(custom_providers::status))
        .routes(routes!(custom_providers::dry_run))
        .routes(routes!(profile_providers::read, profile_providers::set, profile_providers::remove))
        .routes(routes!(profile_providers::status))
        .routes(routes!(profile_providers::dry_run))
        .routes(routes!(destinations::list))
        .routes(routes!(destinations::read, destinations::set, destinations::remove))
        .routes(routes!(destinations::status::read))
        .routes(routes!(destinations::status::pause))
        .routes(routes!(destinations::status::resume))
        .routes(routes!(destinations::dry_run))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::retry))
        .routes(routes!(dead_letters::remove))
        .routes(routes!(replays::list, replays::begin))
        .routes(routes!(replays::cancel))
        .routes(routes!(live_events::list))
        .routes(routes!(secrets::list))
        .routes(routes!(secrets::read, secrets::set, secrets::remove))
        .routes(routes!(crypto::progress, crypto::start))
        .routes(routes!(crypto::health))
        .routes(routes!(identities::look_up))
        .routes(routes!(identities::erase))
        .routes(routes!(identities::export))
        .routes(routes!(identities::unmerge))
        .routes(routes!(audit_log::list))
        .split_for_parts();
    Shared.modify(&mut document);
    (router, document)
}

/// The API's document, as JSON that reads well.
#[expect(clippy::expect_used, reason = "the document is texts, numbers and lists, which JSON has")]
pub fn document() -> String {
    let (_, document) = admin();
    document.to_pretty_json().expect("the document is JSON")
}

/// The API, its document, health, and the answers for what is no route.
pub fn app(state: Management, lifecycle: Lifecycle) -> Router {
    let (admin, document) = admin();
    admin
        .route_layer(from_fn_with_state(state.auth.clone(), check))
        .with_state(state)
        .merge(docs::router(document))
        .merge(serve::metrics::health(lifecycle))
        .fallback(async || ApiError::with_message(Code::NotFound, "There is nothing at this path."))
        .method_not_allowed_fallback(async || ApiError::from(Code::MethodNotAllowed))
        .layer(CatchPanicLayer::custom(panicked))
        // What is answered is of one caller, and what it is is known.
        .layer(header(header::CACHE_CONTROL, "no-store"))
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(from_fn(|request, next: Next| serve::metrics::record(request, |request| next.run(request))))
}

fn header(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

fn panicked(_: Box<dyn Any + Send>) -> Response {
    // The panic hook has logged it.
    ApiError::from(Code::Internal).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::permission;

    #[test]
    fn the_document_is_the_one_on_record() {
        let recorded = include_str!("../../openapi.json");
        let told = "the API has changed: look at the difference after \
            `cargo run -p management -- openapi > management/openapi.json`";
        assert!(recorded.trim() == document().trim(), "{told}");
    }

    #[test]
    fn every_route_has_a_permission_and_every_permission_a_route() {
        let document: serde_json::Value = serde_json::from_str(&document()).unwrap();
        let mut routes = 0;
        for (path, operations) in document["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
                let method = method.to_uppercase();
                assert!(permission::needed(&method, path).is_some(), "{method} {path} has no row");
                routes += 1;
            }
        }
        assert_eq!(permission::rows(), routes, "a row is of no route");
    }
}
