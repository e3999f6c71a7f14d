//! The core's floor: bare tonic handlers that send the same commands and the fewest statements, and check nothing.

mod auth;
mod resolve;
mod sync;

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use bb8_redis::redis::{Pipeline, RedisError, Value, aio::MultiplexedConnection};
use clap::Args;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use identity_service::{
    identifiers::{Identifier, Kind},
    storage::redis::keys,
};
use proto::v1::{
    auth_service_server::AuthServiceServer, resolve_service_server::ResolveServiceServer,
    sync_service_server::SyncServiceServer,
};
use tokio::net::TcpStream;
use tokio_postgres::{Client, NoTls, Statement};
use tonic::{Status, codegen::Service};
use uuid::Uuid;

use self::sync::{ATTEMPT, STORE};
use super::{
    Shape,
    runtime::{self, Server},
};
use crate::redis::connect;

/// Command line of the core's floor.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Shape of its threads: see [`Shape`].
    #[arg(long)]
    shape: Shape,
    /// URL of the Redis that the product fills.
    #[arg(long)]
    redis: String,
    /// URL of the PostgreSQL that the product fills.
    #[arg(long)]
    postgres: String,
    /// Organisation whose data are served.
    #[arg(long)]
    org: Uuid,
}

/// PostgreSQL connections of one runtime.
const CONNECTIONS: usize = 8;

/// Serves `Resolve`, delivery and syncs until the process is killed.
pub fn run(arguments: Arguments) -> Result<()> {
    let shape = arguments.shape;
    runtime::run(shape, move || Core::connect(arguments.clone()))
}

#[derive(Clone)]
struct Core {
    org: Uuid,
    /// Multiplexed connection that all requests of a runtime share.
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
        let auth = AuthServiceServer::new(self.clone());
        let sync = SyncServiceServer::new(self);
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let (mut resolve, mut auth, mut sync) = (resolve.clone(), auth.clone(), sync.clone());
            async move {
                if request.uri().path().starts_with("/datafly.identity.v1.ResolveService/") {
                    resolve.call(request).await
                } else if request.uri().path().starts_with("/datafly.identity.v1.AuthService/") {
                    auth.call(request).await
                } else {
                    sync.call(request).await
                }
            }
        });
        let builder = http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    }
}

fn failed(error: &dyn Error) -> Status {
    Status::internal(error.to_string())
}

fn text(value: Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).unwrap_or_default(),
        _ => String::new(),
    }
}
