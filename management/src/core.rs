//! Calls to the identity core, which alone knows vendors and visitors.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use proto::{reason_of, v1::ErrorReason};
use tokio::time::timeout;
use tonic::{
    Code as Grpc, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::api::error::{ApiError, Code, Result};

/// Deadline of every call: sent to the core, and kept here as well. An erasure of somebody with many IDs takes longest.
const DEADLINE: Duration = Duration::from_secs(5);
/// For the TCP connection alone.
const CONNECT: Duration = Duration::from_millis(400);
/// Largest answer (design section 4).
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// A silent connection is asked for a sign of life, and given up after as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The core, whichever instance answers.
#[derive(Clone)]
pub struct Core {
    channels: Arc<[Channel]>,
    next: Arc<AtomicUsize>,
    token: MetadataValue<Ascii>,
}

impl Core {
    /// Connects to `cores` on first use. `token` is the whole `authorization` value.
    pub fn new(cores: &[Endpoint], token: MetadataValue<Ascii>) -> Self {
        let channel = |core: &Endpoint| {
            core.clone()
                .connect_timeout(CONNECT)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE)
                .keep_alive_while_idle(true)
                .connect_lazy()
        };
        Self { channels: cores.iter().map(channel).collect(), next: Arc::default(), token }
    }

    /// Makes one call with `send`, which is given a channel with room for the largest answer in mind. Every method that
    /// management calls may be repeated, so one that a core could not be reached for is made at the next.
    pub async fn call<M: Clone, R, F>(
        &self,
        rpc: &'static str,
        message: M,
        send: impl Fn(Channel, Request<M>) -> F,
    ) -> Result<R>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let attempts = async {
            match send(self.channel()?, self.request(message.clone())).await {
                Err(status) if status.code() == Grpc::Unavailable => {
                    send(self.channel()?, self.request(message)).await
                }
                answer => answer,
            }
        };
        let late = |_| Err(Status::deadline_exceeded("the core did not answer in time"));
        let answer = timeout(DEADLINE, attempts).await.unwrap_or_else(late);
        answer.map(Response::into_inner).map_err(|status| refused(rpc, &status))
    }

    fn channel(&self) -> Result<Channel, Status> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.channels.len().max(1);
        self.channels.get(turn).cloned().ok_or_else(|| Status::unavailable("no core is configured"))
    }

    fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(DEADLINE);
        request.metadata_mut().insert("authorization", self.token.clone());
        request
    }
}

/// One method an rpc: the same call each time, with another client.
macro_rules! rpcs {
    ($($(#[$doc:meta])* $name:ident, $client:ident($message:ident) -> $answer:ident;)*) => {
        use proto::v1::{$($message, $answer,)*};
        impl Core {$(
            $(#[$doc])*
            pub async fn $name(&self, message: $message) -> Result<$answer> {
                self.call(stringify!($name), message, |channel, request| async move {
                    $client::new(channel).max_decoding_message_size(MAX_ANSWER).$name(request).await
                })
                .await
            }
        )*}
    };
}

use proto::v1::{
    catalog_service_client::CatalogServiceClient, identity_admin_service_client::IdentityAdminServiceClient,
};

rpcs! {
    /// Who somebody is.
    lookup, IdentityAdminServiceClient(LookupRequest) -> LookupResponse;
    /// Everything stored about somebody.
    export, IdentityAdminServiceClient(ExportRequest) -> ExportResponse;
    /// Erases somebody.
    delete, IdentityAdminServiceClient(DeleteRequest) -> DeleteResponse;
    /// Takes a merge apart.
    unmerge, IdentityAdminServiceClient(UnmergeRequest) -> UnmergeResponse;
    /// Vendors of gateway sync.
    list_sync_vendors, CatalogServiceClient(ListSyncVendorsRequest) -> ListSyncVendorsResponse;
    /// Vendors of which IDs are collected without asking them.
    list_collected_vendors, CatalogServiceClient(ListCollectedVendorsRequest) -> ListCollectedVendorsResponse;
    /// Vendors of enrichment.
    list_enrichment_vendors, CatalogServiceClient(ListEnrichmentVendorsRequest) -> ListEnrichmentVendorsResponse;
    /// What is wrong with a provider's settings.
    check_provider, CatalogServiceClient(CheckProviderRequest) -> CheckProviderResponse;
}

/// What the core's refusal means here. What is no fault of the caller's is logged.
fn refused(rpc: &'static str, status: &Status) -> ApiError {
    let row = reason_of(status);
    match row.map(|row| (row.reason, row.http)) {
        Some((ErrorReason::InvalidServiceToken | ErrorReason::RoleNotAllowed, _)) => {
            tracing::error!(rpc, "the core refuses SERVICE_TOKEN");
        }
        // Nobody of that name; or of an organisation that was made a moment ago, of which the core has not heard yet.
        Some((_, StatusCode::NOT_FOUND)) => return Code::NotFound.into(),
        Some((_, StatusCode::BAD_REQUEST)) => return Code::InvalidParameter.into(),
        Some((ErrorReason::Overloaded, _)) => return Code::Overloaded.into(),
        _ => tracing::warn!(rpc, code = ?status.code(), said = status.message(), "the core failed"),
    }
    metrics::counter!("datafly_core_failures_total", "rpc" => rpc).increment(1);
    Code::Unavailable.into()
}
