//! Cross-origin calls: a preflight asks if pages of an origin may call this host, and carries no key.

use std::net::SocketAddr;

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use proto::v1::{CheckOriginRequest, ErrorReason};
use tonic::Status;

use super::Edge;
use crate::{caller, error::ApiError, throttle::Sender};

/// Headers that allow a page its call. Ten minutes: a removed domain stops working soon, and the answer depends on
/// nothing else.
const PREFLIGHT_HEADERS: [(HeaderName, &str); 2] =
    [(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"), (header::ACCESS_CONTROL_MAX_AGE, "600")];
/// Request headers that are allowed where a preflight asks for none, or for what can't be meant.
const REQUEST_HEADERS: &str = "authorization, content-type";
/// Most request headers that are allowed because they were asked for: tracing adds some to each call of a page.
const MAX_REQUEST_HEADERS: usize = 32;
/// Most bytes of their names together.
const MAX_REQUEST_HEADERS_BYTES: usize = 1024;

/// Answers every `OPTIONS` under `/v1/`, whatever the path.
pub async fn answer_preflight(edge: &Edge, peer: SocketAddr, request: Request, next: Next) -> Response {
    if request.method() != Method::OPTIONS || !request.uri().path().starts_with("/v1/") {
        return next.run(request).await;
    }
    let (parts, _) = request.into_parts();
    let host = caller::host(&parts, peer, &edge.proxies);
    // Boxed, as most requests are no preflight and each would carry the room for it.
    Box::pin(check(edge, &parts.headers, host)).await.unwrap_or_else(IntoResponse::into_response)
}

async fn check(edge: &Edge, headers: &HeaderMap, host: String) -> Result<Response, ApiError> {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let (Some(origin), None) = (origins.next().and_then(|origin| origin.to_str().ok()), origins.next())
    else {
        return Ok(response);
    };
    if is_allowed(edge, headers, host, origin).await? {
        allow_origin(&mut response, origin);
        for (name, value) in PREFLIGHT_HEADERS {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_HEADERS, request_headers(headers));
    }
    let vary = HeaderValue::from_static("Origin, Access-Control-Request-Headers");
    response.headers_mut().insert(header::VARY, vary);
    Ok(response)
}

/// The request headers that a preflight asks for, as it names them.
fn request_headers(headers: &HeaderMap) -> HeaderValue {
    let mut asked = headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let (Some(names), None) = (asked.next(), asked.next()) else {
        return HeaderValue::from_static(REQUEST_HEADERS);
    };
    let list = names.to_str().unwrap_or_default();
    let is_bounded =
        list.len() <= MAX_REQUEST_HEADERS_BYTES && list.split(',').count() <= MAX_REQUEST_HEADERS;
    let is_name = |name: &str| HeaderName::from_bytes(name.trim().as_bytes()).is_ok();
    if is_bounded && list.split(',').all(is_name) {
        names.clone()
    } else {
        HeaderValue::from_static(REQUEST_HEADERS)
    }
}

async fn is_allowed(edge: &Edge, headers: &HeaderMap, host: String, origin: &str) -> Result<bool, Status> {
    let request = CheckOriginRequest { host, origin: origin.to_owned() };
    Ok(edge.core.check_origin(&caller::trace(headers), request).await?.allowed)
}

/// Lets the page of `origin` read `response`.
pub fn allow_origin(response: &mut Response, origin: &str) {
    let Ok(origin) = HeaderValue::from_str(origin) else { return };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After"));
    vary_by_origin(response);
}

fn vary_by_origin(response: &mut Response) {
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Origin"));
}

/// Refuses a browser's call, readable by its page where that may call this host: without the headers a
/// browser shows its script no more than a failed fetch. A core that is busy is not asked; there, and where
/// it is away, what `sender` was allowed a moment ago is what counts.
pub async fn readable(
    edge: &Edge,
    parts: &Parts,
    peer: SocketAddr,
    sender: &Sender,
    error: ApiError,
) -> Response {
    let origin = parts.headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let (reason, status) = (error.reason(), error.status());
    let mut response = error.into_response();
    // Not the page's own key, or not its own host.
    let stray = matches!(reason, ErrorReason::OriginNotAllowed | ErrorReason::HostNotAllowed);
    let (Some(origin), false) = (origin, stray) else { return response };
    let busy = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let remembered = sender.is_known();
    let allowed = if busy {
        remembered
    } else {
        let host = caller::host(parts, peer, &edge.proxies);
        is_allowed(edge, &parts.headers, host, origin).await.unwrap_or(remembered)
    };
    if allowed {
        allow_origin(&mut response, origin);
    } else {
        vary_by_origin(&mut response);
    }
    response
}
