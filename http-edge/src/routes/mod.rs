//! Paths and methods of the edge. A route translates to one call and back.

mod answer;
mod callback;
mod collect;
mod cors;
mod document;
mod enrich;
mod link;
mod profile;
mod sync;
mod warnings;

use std::{net::SocketAddr, panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::FutureExt;
use http::{HeaderValue, Method, header, request::Parts};
use proto::v1::{AuthenticateRequest, CollectCaller, Cookie, ErrorReason};
use serde::Serialize;
use serve::{TrustedProxies, discard};
use tracing::error;
use utoipa::{Modify, OpenApi, openapi::OpenApi as Api};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    body::Bodies,
    caller, cookies,
    core_client::CoreClient,
    error::ApiError,
    query::Query,
    throttle::{Sender, Throttle},
    vendor_cookies::VendorCookies,
    without_delivery::WithoutDelivery,
};

/// State that every route works with.
pub struct Edge {
    /// Client of the core.
    pub core: CoreClient,
    /// Client of the core for calls that wait for others, over connections of its own.
    pub patient_core: CoreClient,
    /// Proxies whose `X-Forwarded-*` counts.
    pub proxies: Arc<TrustedProxies>,
    /// Memory that bodies share.
    pub bodies: Bodies,
    /// Refusals that need not go as far as the core.
    pub throttle: Arc<Throttle>,
    /// Names of the cookies that the core reads.
    pub vendor_cookies: VendorCookies,
    /// Keys whose events need not be sent along.
    pub without_delivery: WithoutDelivery,
}

impl Edge {
    /// Caller and sender of a request that has a body.
    fn sender(&self, parts: &Parts, peer: SocketAddr) -> Result<(CollectCaller, Sender), ApiError> {
        let query = Query::parse(parts.uri.query())?;
        let (caller, subscriber) = caller::collect(parts, peer, &self.proxies, query.one("pipeline_key")?)?;
        let sender = self.throttle.sender(&caller, subscriber);
        Ok((caller, sender))
    }

    /// Lets a sender in whose body has not been looked at: the core is asked for a key that it has not let in lately, so
    /// that nobody without one takes memory.
    async fn admit(
        &self,
        parts: &Parts,
        caller: &CollectCaller,
        sender: &mut Sender,
    ) -> Result<(), ApiError> {
        if !sender.is_known() {
            self.throttle.charge_unknown(sender)?;
            let request = AuthenticateRequest { caller: Some(caller.clone()), before_body: true };
            let trace = caller::trace(&parts.headers);
            let answer = Box::pin(self.core.authenticate(&trace, request)).await;
            let answer = answer.map_err(ApiError::from);
            self.throttle.learn_key(sender, answer.as_ref().err());
            answer?;
        }
        sender.admit(1)
    }
}

/// Answers a request that has no events with what `make` comes to, for nobody to keep and for the page to read.
/// What is refused before the body is looked at costs next to nothing.
async fn answer_json<T: Serialize>(
    edge: &Edge,
    peer: SocketAddr,
    request: Request,
    make: impl AsyncFnOnce(&Parts, Body, CollectCaller, &mut Sender) -> Result<T, ApiError>,
) -> Response {
    let (parts, body) = request.into_parts();
    let (caller, mut sender) = match edge.sender(&parts, peer) {
        Ok(known) => known,
        Err(error) => {
            discard(&parts.headers, body).await;
            return error.into_response();
        }
    };
    let signed = caller.signature.is_some();
    let origin = caller.origin.clone().filter(|_| !signed);
    let made = match edge.admit(&parts, &caller, &mut sender).await {
        Ok(()) => make(&parts, body, caller, &mut sender).await,
        Err(error) => {
            discard(&parts.headers, body).await;
            Err(error)
        }
    };
    match made {
        Ok(answer) => {
            let mut response = Json(answer).into_response();
            no_store(&mut response);
            if let Some(origin) = origin {
                cors::allow_origin(&mut response, &origin);
            }
            response
        }
        Err(error) if signed => error.into_response(),
        Err(error) => cors::readable(edge, &parts, peer, &sender, error).await,
    }
}

/// Routes under `/v1`, with their document.
fn collecting() -> (Router<Arc<Edge>>, Api) {
    let (mut router, mut document) = OpenApiRouter::with_openapi(document::Document::openapi())
        .routes(routes!(collect::batch))
        .routes(routes!(collect::single))
        .routes(routes!(sync::begin))
        .routes(routes!(callback::store))
        .routes(routes!(link::create))
        .routes(routes!(profile::read, enrich::create))
        .split_for_parts();
    document::Shared.modify(&mut document);
    for path in document::SINGLE_PATHS {
        router = router.route(path, post(collect::single));
    }
    (router, document)
}

/// The API's document, as JSON that reads well.
pub fn document() -> String {
    document::text(&collecting().1)
}

/// Router of all paths, with the answers for what is no route.
pub fn app(edge: Edge) -> Router {
    let edge = Arc::new(edge);
    let (router, document) = collecting();
    router
        .merge(document::router(&document))
        .fallback(async || ApiError::from(ErrorReason::NotFound))
        .method_not_allowed_fallback(async || ApiError::from(ErrorReason::MethodNotAllowed))
        .layer(from_fn_with_state(edge.clone(), around))
        .with_state(edge)
}

/// Wraps every route in one layer, as each more would cost a visitor's request allocations: measurement,
/// panics turned into INTERNAL, and preflights.
async fn around(
    State(edge): State<Arc<Edge>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let answer = async |request| {
        // What requests share is behind locks and atomics, which a panic does not leave half-written.
        let answer = AssertUnwindSafe(answer(&edge, peer, request, next));
        // The panic hook has logged it.
        answer.catch_unwind().await.unwrap_or_else(|_| ApiError::from(ErrorReason::Internal).into_response())
    };
    serve::metrics::record(request, answer).await
}

/// Answers what no route has to know of: navigations and preflights.
async fn answer(edge: &Edge, peer: SocketAddr, request: Request, next: Next) -> Response {
    // A form of another site's is sent with our cookies' own site as the page, and so with neither preflight nor CORS.
    let mode = request.headers().get("sec-fetch-mode");
    if request.method() == Method::POST && mode.is_some_and(|mode| mode == "navigate") {
        return ApiError::from(ErrorReason::NavigationRefused).into_response();
    }
    cors::answer_preflight(edge, peer, request, next).await
}

fn no_store(response: &mut Response) {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

fn set_cookies<'a>(response: &mut Response, jar: impl IntoIterator<Item = &'a Cookie>) {
    for cookie in jar {
        if let Some(value) = cookies::set_cookie(cookie) {
            response.headers_mut().append(header::SET_COOKIE, value);
        } else {
            error!(cookie = cookie.name, "the core's cookie can't be written");
        }
    }
}

fn is_head(method: &Method) -> bool {
    method == Method::HEAD
}

#[cfg(test)]
mod tests;
