//! Calls to the core with a service token, and without.

use std::net::SocketAddr;

use anyhow::Result;
use axum::{
    body::Body,
    http::{Request as HttpRequest, Response},
};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proto::v1::{
    auth_service_client::AuthServiceClient, catalog_service_client::CatalogServiceClient,
    identity_admin_service_client::IdentityAdminServiceClient, profile_service_client::ProfileServiceClient,
    resolve_service_client::ResolveServiceClient, sync_service_client::SyncServiceClient,
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::world::World;

/// A channel whose calls carry the token.
pub type Authorized = InterceptedService<Channel, Bearer>;

/// Puts `authorization: Bearer …` on each call; without a token it puts nothing.
#[derive(Debug, Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// The core as one caller sees it.
#[derive(Debug, Clone)]
pub struct Api {
    /// The channel whose calls carry no token.
    pub channel: Channel,
    bearer: Bearer,
}

impl Api {
    /// A caller with that token, or with none.
    pub fn new(core: SocketAddr, token: Option<&str>) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{core}"))?.connect_lazy();
        let token = token.map(|token| format!("Bearer {token}").parse()).transpose()?;
        Ok(Self { channel, bearer: Bearer(token) })
    }

    /// The channel with the token.
    pub fn authorized(&self) -> Authorized {
        InterceptedService::new(self.channel.clone(), self.bearer.clone())
    }

    /// A client of `ResolveService` with the token.
    pub fn resolve(&self) -> ResolveServiceClient<Authorized> {
        ResolveServiceClient::new(self.authorized())
    }

    /// A client of `SyncService` with the token.
    pub fn sync(&self) -> SyncServiceClient<Authorized> {
        SyncServiceClient::new(self.authorized())
    }

    /// A client of `AuthService` with the token.
    pub fn auth(&self) -> AuthServiceClient<Authorized> {
        AuthServiceClient::new(self.authorized())
    }

    /// A client of `CatalogService` with the token.
    pub fn catalog(&self) -> CatalogServiceClient<Authorized> {
        CatalogServiceClient::new(self.authorized())
    }

    /// A client of `ProfileService` with the token.
    pub fn profile(&self) -> ProfileServiceClient<Authorized> {
        ProfileServiceClient::new(self.authorized())
    }

    /// A client of `IdentityAdminService` with the token.
    pub fn people(&self) -> IdentityAdminServiceClient<Authorized> {
        IdentityAdminServiceClient::new(self.authorized())
    }

    /// The services that reflection lists.
    pub async fn list_services(&self) -> Result<Vec<String>, Status> {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new(self.authorized());
        let mut answers =
            client.server_reflection_info(tonic::codegen::tokio_stream::once(request)).await?.into_inner();
        let answer = answers.message().await?.ok_or_else(|| Status::internal("reflection ended early"))?;
        match answer.message_response {
            Some(MessageResponse::ListServicesResponse(list)) => {
                Ok(list.service.into_iter().map(|service| service.name).collect())
            }
            other => Err(Status::internal(format!("reflection answered {other:?}"))),
        }
    }
}

/// Sends bytes as the message of a method of `ResolveService`. `flag` is the frame's first byte, where 1 says
/// that the message is compressed; `timeout` is the value of `grpc-timeout`.
pub async fn raw(world: &World, method: &str, flag: u8, message: &[u8], timeout: &str) -> Response<Incoming> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let core = world.cluster.cores[0].addr("grpc");
    let stream = TokioIo::new(tokio::net::TcpStream::connect(core).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let request = HttpRequest::post(format!("http://{core}/datafly.identity.v1.ResolveService/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", timeout)
        .header("authorization", format!("Bearer {}", world.cluster.secrets.operator_token))
        .body(Body::from([&[flag][..], &length, message].concat()))
        .unwrap();
    sender.send_request(request).await.unwrap()
}
