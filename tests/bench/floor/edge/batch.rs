//! `/v1/batch`: events into borrowed types.

use std::borrow::Cow;

use axum::{
    extract::{Request, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use proto::v1::{ConsentSignals, ResolveRequest, Subject, resolve_service_client::ResolveServiceClient};
use serde::Deserialize;
use serde_json::value::RawValue;
use tonic::transport::Channel;

use super::{Failed, caller, text};

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    batch: Vec<Event<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow)]
    anonymous_id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    _kind: Cow<'a, str>,
    #[serde(borrow, rename = "event")]
    _event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message_id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "timestamp")]
    _timestamp: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "properties")]
    _properties: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Context<'a>,
}

#[derive(Deserialize)]
struct Context<'a> {
    #[serde(borrow)]
    page: Option<Page<'a>>,
    #[serde(borrow)]
    consent: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    url: Option<Cow<'a, str>>,
}

/// Parses a batch, asks the core about its first event, and answers.
pub(super) async fn batch(State(channel): State<Channel>, request: Request) -> Result<Response, Failed> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Failed)?.to_bytes();
    let Batch { batch } = serde_json::from_slice(&body).map_err(|_| Failed)?;
    let accepted = batch.len();
    let event = batch.into_iter().next().ok_or(Failed)?;
    let subject = Subject {
        anonymous_id: Some(event.anonymous_id.into_owned()),
        page_url: event.context.page.and_then(|page| page.url).map(Cow::into_owned),
        consent: event
            .context
            .consent
            .map(|consent| ConsentSignals { json: Some(consent.get().to_owned()), sec_gpc: false }),
        want_pending_syncs: true,
        message_id: event.message_id.map(Cow::into_owned),
        ..Subject::default()
    };
    let key = text(&parts.headers, header::AUTHORIZATION).unwrap_or_default();
    let request = ResolveRequest {
        caller: Some(caller(&parts.headers, key)),
        subjects: vec![subject],
        ..ResolveRequest::default()
    };
    let answer = ResolveServiceClient::new(channel).resolve(request).await?.into_inner();
    let resolution = answer.resolutions.into_iter().next().ok_or(Failed)?;
    let body = format!(
        r#"{{"success":true,"accepted":{accepted},"errors":[],"anonymous_id":"{}","pending_syncs":[]}}"#,
        resolution.anonymous_id
    );
    let mut response = Bytes::from(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let cookie = resolution.cookies.into_iter().next().ok_or(Failed)?;
    let cookie = format!("_dfid={}; Max-Age={}; Path=/; HttpOnly", cookie.value, cookie.max_age_seconds);
    headers.insert(header::SET_COOKIE, HeaderValue::try_from(cookie).map_err(|_| Failed)?);
    Ok(response)
}
