//! The core's floor: bare tonic handlers that send the same commands and the fewest statements, and check nothing.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::Result;
use bb8_redis::redis::{Pipeline, RedisError, Value, aio::MultiplexedConnection};
use clap::Args;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use identity_service::{
    identifiers::{Identifier, Kind},
    storage::redis::keys,
    sync::view::View,
};
use proto::v1::{
    BeginSyncRequest, BeginSyncResponse, Cookie, CreateLinkRequest, CreateLinkResponse, ExplainRequest,
    ExplainResponse, IdentityVendorIds, PendingSyncsRequest, PendingSyncsResponse, Resolution,
    ResolveRequest, ResolveResponse, SameSite, StoreSyncResultRequest, StoreSyncResultResponse, SyncOutcome,
    SyncRedirect, VendorIdsRequest, VendorIdsResponse,
    begin_sync_response::Outcome,
    identity_ref::Id,
    resolve_service_server::{ResolveService, ResolveServiceServer},
    sync_service_server::{SyncService, SyncServiceServer},
};
use tokio::net::TcpStream;
use tokio_postgres::{Client, NoTls, Statement};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    Shape,
    runtime::{self, Server},
};
use crate::{redis::connect, visitors::canonical_of};

/// What the core's floor is told.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Threads.
    #[arg(long)]
    shape: Shape,
    /// Redis.
    #[arg(long)]
    redis: String,
    /// PostgreSQL.
    #[arg(long)]
    postgres: String,
    /// Whose data are served.
    #[arg(long)]
    org: Uuid,
}

/// PostgreSQL connections of one runtime.
const CONNECTIONS: usize = 8;

/// The one row of a redirect.
const ATTEMPT: &str = "INSERT INTO sync_attempts \
        (org_id, canonical_id, vendor, outcome, attempts, unanswered_since, next_at) \
    VALUES ($1, $2, $3, 'attempted', 1, now(), now() + interval '10 minutes') \
    ON CONFLICT (org_id, canonical_id, vendor) DO UPDATE SET outcome = excluded.outcome, \
        attempts = sync_attempts.attempts + 1, next_at = excluded.next_at";

/// A callback's transaction as one statement: the browser's identity, the state used up, the ID stored.
const STORE: &str = "WITH found AS (\
        SELECT canonical_id FROM links WHERE org_id = $1 AND kind = 0 AND value = $2), \
    used AS (\
        INSERT INTO used_states (org_id, anonymous_id, vendor, issued_at) VALUES ($1, $2, $3, clock_timestamp()) \
        ON CONFLICT (org_id, anonymous_id, vendor) DO UPDATE SET issued_at = excluded.issued_at \
        WHERE used_states.issued_at < excluded.issued_at RETURNING 1) \
    INSERT INTO vendor_ids (org_id, canonical_id, field, value, source, collected_at, expires_at) \
    SELECT $1, canonical_id, $4, $5, 'sync', now(), now() + interval '90 days' FROM found, used \
    ON CONFLICT (org_id, canonical_id, field) DO UPDATE SET value = excluded.value, source = excluded.source, \
        collected_at = excluded.collected_at, expires_at = excluded.expires_at";

/// Serves until killed.
pub fn run(arguments: Arguments) -> Result<()> {
    let shape = arguments.shape;
    runtime::run(shape, move || Core::connect(arguments.clone()))
}

#[derive(Clone)]
struct Core {
    org: Uuid,
    /// One multiplexed connection.
    redis: MultiplexedConnection,
    postgres: Arc<Vec<Connection>>,
    next: Arc<AtomicUsize>,
}

struct Connection {
    client: Client,
    attempt: Statement,
    store: Statement,
}

impl Core {
    async fn connect(arguments: Arguments) -> Result<Self> {
        let redis = connect(&arguments.redis).await?;
        let mut postgres = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let (client, connection) = tokio_postgres::connect(&arguments.postgres, NoTls).await?;
            tokio::spawn(connection);
            let (attempt, store) = (client.prepare(ATTEMPT).await?, client.prepare(STORE).await?);
            postgres.push(Connection { client, attempt, store });
        }
        Ok(Self { org: arguments.org, redis, postgres: Arc::new(postgres), next: Arc::default() })
    }

    async fn ask(&self, pipe: &Pipeline) -> Result<Vec<Value>, Status> {
        pipe.query_async(&mut self.redis.clone()).await.map_err(|error: RedisError| failed(&error))
    }

    fn connection(&self) -> &Connection {
        &self.postgres[self.next.fetch_add(1, Ordering::Relaxed) % CONNECTIONS]
    }

    fn get_canonical(&self, pipe: &mut Pipeline, anonymous_id: String) -> String {
        let id = Identifier { kind: Kind::AnonymousId, value: anonymous_id };
        pipe.get(keys::canonical(self.org, &id).name);
        id.value
    }
}

impl Server for Core {
    async fn serve(self, stream: TcpStream) {
        let resolve = ResolveServiceServer::new(self.clone());
        let sync = SyncServiceServer::new(self);
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let (mut resolve, mut sync) = (resolve.clone(), sync.clone());
            async move {
                use tonic::codegen::Service;
                if request.uri().path().starts_with("/datafly.identity.v1.ResolveService/") {
                    resolve.call(request).await
                } else {
                    sync.call(request).await
                }
            }
        });
        let builder = http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    }
}

#[tonic::async_trait]
impl ResolveService for Core {
    /// The commands of a known visitor whose canonical identity was guessed.
    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<ResolveResponse>, Status> {
        let subject = request.into_inner().subjects.pop().unwrap_or_default();
        let mut pipe = Pipeline::with_capacity(4);
        let anonymous_id = self.get_canonical(&mut pipe, subject.anonymous_id.unwrap_or_default());
        pipe.get(keys::consent(self.org, &anonymous_id).name);
        View::ask(&mut pipe, self.org, canonical_of(&anonymous_id));
        let mut answers = self.ask(&pipe).await?;
        let cookie = Cookie {
            name: "_dfid".to_owned(),
            value: anonymous_id.clone(),
            max_age_seconds: 400 * 24 * 60 * 60,
            path: "/".to_owned(),
            http_only: true,
            same_site: SameSite::Lax.into(),
            ..Cookie::default()
        };
        let resolution = Resolution {
            canonical_id: text(answers.swap_remove(0)),
            anonymous_id,
            cookies: vec![cookie],
            ..Resolution::default()
        };
        Ok(Response::new(ResolveResponse { resolutions: vec![resolution] }))
    }

    /// Everything Redis holds, as it holds it.
    async fn vendor_ids(
        &self,
        request: Request<VendorIdsRequest>,
    ) -> Result<Response<VendorIdsResponse>, Status> {
        let identities = request.into_inner().identities;
        let (mut pipe, mut consents) = (Pipeline::new(), Pipeline::new());
        let mut canonicals = Vec::with_capacity(identities.len());
        for identity in identities {
            match identity.id {
                Some(Id::AnonymousId(id)) => {
                    let id = self.get_canonical(&mut pipe, id);
                    consents.get(keys::consent(self.org, &id).name);
                }
                Some(Id::CanonicalId(id)) => canonicals.push(id),
                Some(Id::UserId(_)) | None => return Err(Status::unimplemented("no floor")),
            }
        }
        if canonicals.is_empty() {
            let (found, _consents) = tokio::try_join!(self.ask(&pipe), self.ask(&consents))?;
            canonicals.extend(found.into_iter().map(text));
        }
        let mut pipe = Pipeline::with_capacity(canonicals.len());
        for canonical in canonicals {
            pipe.hgetall(keys::vendor_ids(self.org, canonical.parse().unwrap_or_default()).name);
        }
        let raw = |answer| IdentityVendorIds { canonical_id: texts(answer), ..IdentityVendorIds::default() };
        let identities = self.ask(&pipe).await?.into_iter().map(raw).collect();
        Ok(Response::new(VendorIdsResponse { identities }))
    }

    async fn create_link(
        &self,
        _: Request<CreateLinkRequest>,
    ) -> Result<Response<CreateLinkResponse>, Status> {
        Err(Status::unimplemented("no floor"))
    }
}

#[tonic::async_trait]
impl SyncService for Core {
    async fn begin_sync(
        &self,
        request: Request<BeginSyncRequest>,
    ) -> Result<Response<BeginSyncResponse>, Status> {
        let BeginSyncRequest { vendor, anonymous_id, .. } = request.into_inner();
        let mut pipe = Pipeline::with_capacity(2);
        let anonymous_id = self.get_canonical(&mut pipe, anonymous_id);
        pipe.get(keys::consent(self.org, &anonymous_id).name);
        let canonical = text(self.ask(&pipe).await?.swap_remove(0));
        let Connection { client, attempt, .. } = self.connection();
        let canonical: Uuid = canonical.parse().unwrap_or_default();
        client.execute(attempt, &[&self.org, &canonical, &vendor]).await.map_err(|error| failed(&error))?;
        // As long as a real one, with the anonymous ID in the state's place.
        let location = format!(
            "http://127.0.0.1:40000/{vendor}/user/?tid=pinterest-0123456789ab&redirect=http%3A%2F%2F127.0.0.1%3A40000\
             %2Fv1%2Fsync%2F{vendor}%2Fcallback%3Fstate%3D{anonymous_id:.<172}"
        );
        let redirect = SyncRedirect { location, state_cookie: None };
        Ok(Response::new(BeginSyncResponse { outcome: Some(Outcome::Redirect(redirect)) }))
    }

    async fn store_sync_result(
        &self,
        request: Request<StoreSyncResultRequest>,
    ) -> Result<Response<StoreSyncResultResponse>, Status> {
        let StoreSyncResultRequest { vendor, raw_query, .. } = request.into_inner();
        let parameter =
            |name: &str| raw_query.split('&').find_map(|pair| pair.strip_prefix(name)).unwrap_or("");
        let anonymous_id = parameter("state=").trim_end_matches('.');
        let (field, uid) = ("pin_unauth", parameter("uid="));
        let Connection { client, store, .. } = self.connection();
        let stored = client.execute(store, &[&self.org, &anonymous_id, &vendor, &field, &uid]).await;
        if stored.map_err(|error| failed(&error))? != 1 {
            return Ok(Response::new(StoreSyncResultResponse { outcome: SyncOutcome::BadState.into() }));
        }
        let entry = format!(
            "{{\"value\":\"{uid}\",\"source\":\"sync\",\"collected_at\":\"2026-11-21T10:00:00.123456Z\",\
             \"expires_at\":\"2027-02-19T10:00:00.123456Z\"}}"
        );
        let mut pipe = Pipeline::with_capacity(1);
        pipe.hset(keys::vendor_ids(self.org, canonical_of(anonymous_id)).name, field, entry);
        self.ask(&pipe).await?;
        Ok(Response::new(StoreSyncResultResponse { outcome: SyncOutcome::Stored.into() }))
    }

    async fn pending_syncs(
        &self,
        _: Request<PendingSyncsRequest>,
    ) -> Result<Response<PendingSyncsResponse>, Status> {
        Err(Status::unimplemented("no floor"))
    }

    async fn explain(&self, _: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        Err(Status::unimplemented("no floor"))
    }
}

fn failed(error: &dyn std::error::Error) -> Status {
    Status::internal(error.to_string())
}

fn text(value: Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).unwrap_or_default(),
        _ => String::new(),
    }
}

/// The fields and values of a hash, one after the other.
fn texts(value: Value) -> String {
    let Value::Array(values) = value else { return String::new() };
    let mut all = String::with_capacity(1024);
    for value in values {
        if let Value::BulkString(bytes) = value {
            all.push_str(std::str::from_utf8(&bytes).unwrap_or_default());
        }
    }
    all
}
