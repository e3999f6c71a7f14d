//! `GET /v1/sync/{vendor}`: sends the browser to the vendor, or tells it that there is nothing to do.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, Path, Request, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use proto::v1::{BeginSyncRequest, ErrorReason, SyncRedirect, begin_sync_response::Outcome};
use tracing::error;

use super::{Edge, is_head, no_store, set_cookies};
use crate::{caller, cookies, error::ApiError, query::Query, throttle::Counted};

/// Answers 302 to the vendor; 204 where nothing is to be sent, the host is not the source's, or the core can't say.
#[utoipa::path(get, path = "/v1/sync/{vendor}",
    params(
        ("vendor" = String, Path, description = "Name of the vendor, as pending_syncs has it."),
        ("aid" = String, Query, description = "The visitor's anonymous ID."),
        ("partner_id" = Option<String>, Query, description = "Whatever is sent, the configured one is used."),
    ),
    responses(
        (status = 302, description = "Sends the browser to the vendor.",
            headers(("Location" = String, description = "The vendor's endpoint."))),
        (status = 204, description = "There is nothing to do: no consent, not due, another visitor's image, a foreign \
            page, a speculative load, or the core can't say."),
        (status = 404, description = "There is no such vendor, or it is not enabled."),
    ))]
pub async fn begin(
    State(edge): State<Arc<Edge>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    vendor: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    if is_head(&parts.method) || caller::is_speculative(&parts.headers) {
        return Ok(nothing());
    }
    let Some(Path(vendor)) = vendor.ok().filter(|Path(name)| proto::is_vendor_name(name)) else {
        return Err(ErrorReason::VendorNotFound.into());
    };
    let query = Query::parse(parts.uri.query())?;
    let anonymous_id = query.one("aid")?.unwrap_or_default().to_owned();
    // Part of the documented call, but the configured one is used whatever is sent here.
    query.one("partner_id")?;
    let (caller, subscriber) = caller::collect(&parts, peer, &edge.proxies, query.one("pipeline_key")?)?;
    let mut sender = edge.throttle.sender(&caller, subscriber);
    edge.throttle.charge(subscriber, Counted::Sync)?;
    sender.admit(1)?;
    let message = BeginSyncRequest {
        caller: Some(caller::message(caller)),
        vendor,
        cookie_anonymous_id: visitor_of(&parts.headers, &anonymous_id),
        anonymous_id,
        referer: caller::referer(&parts.headers),
        sec_gpc: caller::sec_gpc(&parts.headers),
    };
    let answer = edge.core.begin_sync(&caller::trace(&parts.headers), message).await.map_err(ApiError::from);
    edge.throttle.learn(&mut sender, 1, answer.as_ref().err());
    let redirect = match answer {
        Ok(answer) => match answer.outcome {
            Some(Outcome::Redirect(redirect)) => redirect,
            Some(Outcome::Refusal(_)) | None => return Ok(nothing()),
        },
        Err(error) => {
            // The page goes on without this sync; it is offered again later.
            let is_away = error.status() == StatusCode::SERVICE_UNAVAILABLE;
            let is_stray = error.reason() == ErrorReason::HostNotAllowed;
            return if is_away || is_stray { Ok(nothing()) } else { Err(error) };
        }
    };
    Ok(send_on(redirect))
}

/// The browser's `_dfid`: of several the one that the image was made for, else the first.
fn visitor_of(headers: &HeaderMap, anonymous_id: &str) -> Option<String> {
    let ids = cookies::anonymous_ids(headers);
    let own = ids.iter().position(|id| id.trim() == anonymous_id.trim());
    ids.into_iter().nth(own.unwrap_or_default())
}

/// Answers 302 with the state cookie; 204 where the location can't stand in a header.
fn send_on(redirect: SyncRedirect) -> Response {
    let Ok(location) = HeaderValue::try_from(redirect.location) else {
        error!("the core's location can't be written");
        return nothing();
    };
    let mut response = nothing();
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location);
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("x-robots-tag", HeaderValue::from_static("noindex"));
    set_cookies(&mut response, &redirect.state_cookie);
    response
}

fn nothing() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    no_store(&mut response);
    response
}
