//! The edge's floor: bare axum handlers that read the same, make one bare gRPC call, and answer as much.

use std::borrow::Cow;

use anyhow::Result;
use axum::{
    Router,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use clap::Args;
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use proto::v1::{
    BeginSyncRequest, Caller, CollectCaller, ConsentSignals, ResolveRequest, StoreSyncResultRequest, Subject,
    SyncOutcome, begin_sync_response::Outcome, caller::Kind, resolve_service_client::ResolveServiceClient,
    sync_service_client::SyncServiceClient,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use super::{
    Shape,
    runtime::{self, Server},
};

/// What the edge's floor is told.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Threads.
    #[arg(long)]
    shape: Shape,
    /// The core's floor, `http://…`.
    #[arg(long)]
    core: String,
}

/// Serves until killed.
pub fn run(arguments: Arguments) -> Result<()> {
    let Arguments { shape, core } = arguments;
    runtime::run(shape, move || connect(core.clone()))
}

#[derive(Clone)]
struct Edge(Router);

/// One channel a runtime.
async fn connect(core: String) -> Result<Edge> {
    let channel = Endpoint::from_shared(core)?.tcp_nodelay(true).connect().await?;
    let routes = Router::new()
        .route("/v1/batch", post(batch))
        .route("/v1/sync/pinterest", get(begin))
        .route("/v1/sync/pinterest/callback", get(callback));
    Ok(Edge(routes.with_state(channel)))
}

impl Server for Edge {
    async fn serve(self, stream: TcpStream) {
        let service = TowerToHyperService::new(self.0);
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }
}

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

async fn batch(State(channel): State<Channel>, request: Request) -> Result<Response, Failed> {
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
    let request = ResolveRequest { caller: Some(caller(&parts.headers, key)), subjects: vec![subject] };
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

async fn begin(
    State(channel): State<Channel>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let query = query.ok_or(Failed)?;
    let one =
        |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)).unwrap_or_default().to_owned();
    let request = BeginSyncRequest {
        caller: Some(caller(&headers, one("pipeline_key="))),
        vendor: "pinterest".to_owned(),
        anonymous_id: one("aid="),
        referer: text(&headers, header::REFERER),
        ..BeginSyncRequest::default()
    };
    let answer = SyncServiceClient::new(channel).begin_sync(request).await?.into_inner();
    let Some(Outcome::Redirect(redirect)) = answer.outcome else { return Err(Failed) };
    let location = HeaderValue::try_from(redirect.location).map_err(|_| Failed)?;
    Ok((StatusCode::FOUND, [(header::LOCATION, location)]).into_response())
}

async fn callback(
    State(channel): State<Channel>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let request = StoreSyncResultRequest {
        vendor: "pinterest".to_owned(),
        raw_query: query.ok_or(Failed)?,
        host: text(&headers, header::HOST).unwrap_or_default(),
        ..StoreSyncResultRequest::default()
    };
    let answer = SyncServiceClient::new(channel).store_sync_result(request).await?.into_inner();
    if answer.outcome() != SyncOutcome::Stored {
        return Err(Failed);
    }
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("image/gif"))], [0_u8; 43].as_slice())
        .into_response())
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn caller(headers: &HeaderMap, pipeline_key: String) -> Caller {
    let collect = CollectCaller {
        pipeline_key,
        origin: text(headers, header::ORIGIN),
        host: text(headers, header::HOST).unwrap_or_default(),
        ..CollectCaller::default()
    };
    Caller { kind: Some(Kind::Collect(collect)) }
}

/// Anything that is not as it should be; the load sees the status and stops.
struct Failed;

impl From<Status> for Failed {
    fn from(_: Status) -> Self {
        Self
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}
