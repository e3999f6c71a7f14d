//! The edge's floor: bare axum handlers that read the same, make one bare gRPC call, and answer as much.

mod batch;

use anyhow::Result;
use axum::{
    Router,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use clap::Args;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use proto::v1::{
    BeginSyncRequest, Caller, CollectCaller, StoreSyncResultRequest, SyncOutcome,
    begin_sync_response::Outcome, caller::Kind, sync_service_client::SyncServiceClient,
};
use tokio::net::TcpStream;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use super::{
    Shape,
    runtime::{self, Server},
};

/// Command line of the edge's floor.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Shape of its threads: see [`Shape`].
    #[arg(long)]
    shape: Shape,
    /// URL of the core's floor, `http://…`.
    #[arg(long)]
    core: String,
}

/// Serves batches and syncs until the process is killed.
pub fn run(arguments: Arguments) -> Result<()> {
    let Arguments { shape, core } = arguments;
    runtime::run(shape, move || connect(core.clone()))
}

#[derive(Clone)]
struct Edge(Router);

/// Opens the one channel to the core's floor that a runtime has.
async fn connect(core: String) -> Result<Edge> {
    let channel = Endpoint::from_shared(core)?.tcp_nodelay(true).connect().await?;
    let routes = Router::new()
        .route("/v1/batch", post(batch::batch))
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

/// Stands for whatever is not as it should be; the load sees the status and stops.
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
