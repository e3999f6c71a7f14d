//! Calls to the identity core, which alone knows vendors and visitors.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use proto::{
    reason_of,
    v1::{
        CheckProviderRequest, CheckProviderResponse, DeleteRequest, DeleteResponse, DryRunProviderRequest,
        DryRunProviderResponse, ErrorReason, ExportRequest, ExportResponse, ListCollectedVendorsRequest,
        ListCollectedVendorsResponse, ListDestinationsRequest, ListDestinationsResponse,
        ListEnrichmentVendorsRequest, ListEnrichmentVendorsResponse, ListProfileProvidersRequest,
        ListProfileProvidersResponse, ListSyncVendorsRequest, ListSyncVendorsResponse, LookupRequest,
        LookupResponse, ProviderStatusRequest, ProviderStatusResponse, UnmergeRequest, UnmergeResponse,
        catalog_service_client::CatalogServiceClient,
        identity_admin_service_client::IdentityAdminServiceClient,
    },
};
use tokio::time::{sleep, timeout};
use tonic::{
    Code as Grpc, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::api::error::{ApiError, Code, Result};

/// Deadline of a call: sent to the core, and kept here as well. An erasure of somebody with many IDs takes
/// longest. Within a request's own deadline, so that it is the core that is said to have failed.
const CALL_DEADLINE: Duration = Duration::from_secs(4);
/// Deadline of a dry run, which may wait for a provider: its own timeout is at most 10 s.
const DRY_RUN_DEADLINE: Duration = Duration::from_secs(11);
/// Pause before the next try where a core has not heard of a new organisation yet: cores look every 300 ms.
const UNKNOWN_ORG_RETRY_DELAY: Duration = Duration::from_millis(200);
/// Most tries of one call.
const MAX_TRIES: u32 = 6;

/// Client of the core, whichever instance answers. Clones share connections.
#[derive(Clone)]
pub struct CoreClient {
    channels: Arc<[Channel]>,
    next: Arc<AtomicUsize>,
    token: MetadataValue<Ascii>,
}

impl CoreClient {
    /// Connects to `cores` on first use. `token` is the whole `authorization` value.
    pub fn new(cores: &[Endpoint], token: MetadataValue<Ascii>) -> Self {
        Self { channels: cores.iter().map(Endpoint::connect_lazy).collect(), next: Arc::default(), token }
    }

    /// Makes a call. All methods that management calls may be repeated, so one that a core could not be
    /// reached for is made at the next.
    async fn call<M: Clone, R, F>(
        &self,
        rpc: &'static str,
        message: M,
        send: impl Fn(Channel, Request<M>) -> F,
    ) -> Result<R>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let deadline = if rpc == "dry_run_provider" { DRY_RUN_DEADLINE } else { CALL_DEADLINE };
        let attempts = async {
            let mut tries = 1;
            loop {
                match send(self.channel()?, self.request(message.clone(), deadline)).await {
                    Err(status) if tries == 1 && status.code() == Grpc::Unavailable => {}
                    // It was made a moment ago, and that core has not heard of it yet.
                    Err(status) if tries < MAX_TRIES && is_reason(&status, ErrorReason::OrgNotFound) => {
                        sleep(UNKNOWN_ORG_RETRY_DELAY).await;
                    }
                    answer => return answer,
                }
                tries += 1;
            }
        };
        let answer = timeout(deadline, attempts)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("the core did not answer in time")));
        answer.map(Response::into_inner).map_err(|status| refused(rpc, &status))
    }

    fn channel(&self) -> Result<Channel, Status> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.channels.len().max(1);
        self.channels.get(turn).cloned().ok_or_else(|| Status::unavailable("no core is configured"))
    }

    fn request<M>(&self, message: M, deadline: Duration) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(deadline);
        request.metadata_mut().insert("authorization", self.token.clone());
        request
    }
}

proto::rpc_methods! {
    CoreClient() -> ApiError;
    /// Tells who somebody is.
    lookup, IdentityAdminServiceClient(LookupRequest) -> LookupResponse;
    /// Gives all that is stored about somebody.
    export, IdentityAdminServiceClient(ExportRequest) -> ExportResponse;
    /// Erases somebody, in all stores.
    delete, IdentityAdminServiceClient(DeleteRequest) -> DeleteResponse;
    /// Takes a merge apart again.
    unmerge, IdentityAdminServiceClient(UnmergeRequest) -> UnmergeResponse;
    /// Lists the vendors of gateway sync.
    list_sync_vendors, CatalogServiceClient(ListSyncVendorsRequest) -> ListSyncVendorsResponse;
    /// Lists the vendors of which IDs are collected without asking them.
    list_collected_vendors, CatalogServiceClient(ListCollectedVendorsRequest) -> ListCollectedVendorsResponse;
    /// Lists the vendors of enrichment.
    list_enrichment_vendors, CatalogServiceClient(ListEnrichmentVendorsRequest) -> ListEnrichmentVendorsResponse;
    /// Lists the providers of profiles.
    list_profile_providers, CatalogServiceClient(ListProfileProvidersRequest) -> ListProfileProvidersResponse;
    /// Lists the destinations of events.
    list_destinations, CatalogServiceClient(ListDestinationsRequest) -> ListDestinationsResponse;
    /// Tells what is wrong with the settings of a provider.
    check_provider, CatalogServiceClient(CheckProviderRequest) -> CheckProviderResponse;
    /// Shows what a provider would be asked, or asks it.
    dry_run_provider, CatalogServiceClient(DryRunProviderRequest) -> DryRunProviderResponse;
    /// Tells the state of a provider.
    provider_status, CatalogServiceClient(ProviderStatusRequest) -> ProviderStatusResponse;
}

fn is_reason(status: &Status, reason: ErrorReason) -> bool {
    reason_of(status).is_some_and(|row| row.reason == reason)
}

/// Turns a refusal of the core into ours. Refusals that are no fault of the caller are logged and counted.
fn refused(rpc: &'static str, status: &Status) -> ApiError {
    let row = reason_of(status);
    match row.map(|row| (row.reason, row.http)) {
        Some((ErrorReason::InvalidServiceToken | ErrorReason::RoleNotAllowed, _)) => {
            tracing::error!(rpc, "the core refuses SERVICE_TOKEN");
        }
        Some((ErrorReason::OrgNotFound, _)) => tracing::warn!(rpc, "the core does not know the organisation"),
        // Nobody of that name.
        Some((_, StatusCode::NOT_FOUND)) => return Code::NotFound.into(),
        Some((_, StatusCode::BAD_REQUEST)) => return Code::InvalidParameter.into(),
        Some((ErrorReason::Overloaded, _)) => return Code::Overloaded.into(),
        _ => tracing::warn!(rpc, code = ?status.code(), said = status.message(), "the core failed"),
    }
    metrics::counter!("datafly_core_failures_total", "rpc" => rpc).increment(1);
    Code::Unavailable.into()
}
