//! `GET /v1/sync/{vendor}/callback`: hands on what the vendor sent back. The browser gets its image whatever
//! comes of it; reasons are the core's to count and log. An address returns from no more syncs than it may begin.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, Path, Request, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, header, request::Parts};
use proto::v1::StoreSyncResultRequest;

use super::{Edge, is_head, no_store};
use crate::{caller, cookies, throttle::Counted};

/// Longest query that is handed on, in bytes (`StoreSyncResultRequest.raw_query`).
const MAX_QUERY_BYTES: usize = 8 * 1024;

/// Image of one transparent pixel, 43 bytes.
#[rustfmt::skip]
const GIF: [u8; 43] = [
    b'G', b'I', b'F', b'8', b'9', b'a', 1, 0, 1, 0, 0x80, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff,
    0x21, 0xf9, 4, 1, 0, 0, 0, 0, 0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 1, 0, 0x3b,
];

/// Hands the vendor's answer on, and answers with the pixel in any case.
#[utoipa::path(get, path = "/v1/sync/{vendor}/callback",
    params(
        ("vendor" = String, Path, description = "Name of the vendor."),
        ("state" = Option<String>, Query, description = "The sealed state of the sync, which a cookie may hold too."),
    ),
    responses((status = 200, content_type = "image/gif",
        description = "The transparent pixel, whatever came of it; the ID is in the vendor's own parameter.")))]
pub async fn store(
    State(edge): State<Arc<Edge>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    vendor: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let image = (HeaderName::from_static("content-type"), HeaderValue::from_static("image/gif"));
    let nosniff = (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let mut response = ([image, nosniff], GIF).into_response();
    no_store(&mut response);
    let Some(Path(vendor)) = vendor.ok().filter(|Path(name)| proto::is_vendor_name(name)) else {
        // A name that is none must not reach a cookie's name.
        return response;
    };
    if is_head(&parts.method) {
        return response;
    }
    let client = edge.proxies.client(peer.ip(), &parts.headers);
    let subscriber = edge.proxies.subscriber(client);
    if edge.throttle.charge(subscriber, Counted::Callback).is_err() {
        return response;
    }
    let host = caller::host(&parts, peer, &edge.proxies);
    let state_cookie = cookies::state(&parts.headers, &vendor);
    if let Some(cleared) = state_cookie.as_ref().and_then(|_| cookies::clear_state(&vendor, &host)) {
        response.headers_mut().append(header::SET_COOKIE, cleared);
    }
    if let Some(mut message) = message(&parts, vendor, host, state_cookie) {
        message.client_ip = subscriber.map(|_| client.address.to_string());
        // The failure is logged and counted where it is noticed.
        let _ = edge.core.store_sync_result(&caller::trace(&parts.headers), message).await;
    }
    response
}

fn message(
    parts: &Parts,
    vendor: String,
    host: String,
    state_cookie: Option<String>,
) -> Option<StoreSyncResultRequest> {
    let raw_query = parts.uri.query().unwrap_or_default();
    (raw_query.len() <= MAX_QUERY_BYTES).then(|| StoreSyncResultRequest {
        vendor,
        raw_query: raw_query.to_owned(),
        state_cookie,
        host,
        cookie_anonymous_id: visitor(parts),
        sec_gpc: caller::sec_gpc(&parts.headers),
        referer: caller::referer(&parts.headers),
        client_ip: None,
        user_agent: caller::user_agent(&parts.headers),
    })
}

/// The browser's `_dfid`; none where it sends several, of which only the state says which is meant.
fn visitor(parts: &Parts) -> Option<String> {
    let mut ids = cookies::anonymous_ids(&parts.headers).into_iter();
    ids.next().filter(|_| ids.next().is_none())
}
