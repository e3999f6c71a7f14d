//! The API's paths: one file an area, each handler one request.

pub mod auth;
pub mod me;
pub mod sources;
pub mod users;

use std::any::Any;

use axum::{
    Router,
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use serve::Lifecycle;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::{Modify, OpenApi, openapi::OpenApi as Api};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        caller,
        document::{Document, Shared},
        error::{ApiError, Code},
    },
    state::Management,
};

/// Everything under `/v1/admin`, with its document.
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
        .split_for_parts();
    Shared.modify(&mut document);
    (router, document)
}

/// The API, its document, health, and the answers for what is no route.
pub fn app(state: Management, lifecycle: Lifecycle) -> Router {
    let (admin, document) = admin();
    let document = axum::Json(document);
    admin
        .route_layer(from_fn_with_state(state.clone(), caller::check))
        .with_state(state)
        .route("/openapi.json", get(async move || document.clone()))
        .merge(serve::metrics::health(lifecycle))
        .fallback(async || ApiError::with_message(Code::NotFound, "There is nothing at this path."))
        .method_not_allowed_fallback(async || ApiError::from(Code::MethodNotAllowed))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(|request, next: Next| serve::metrics::record(request, |request| next.run(request))))
}

fn panicked(_: Box<dyn Any + Send>) -> Response {
    // The panic hook has logged it.
    ApiError::from(Code::Internal).into_response()
}
