//! Services whose time has not come: they are part of the contract, and answer UNIMPLEMENTED.

use proto::{
    Reason,
    v1::{
        BatchProfileRequest, BatchProfileResponse, CheckProviderRequest, CheckProviderResponse,
        DryRunProviderRequest, DryRunProviderResponse, EnrichRequest, EnrichResponse, ErrorReason,
        ListEnrichmentVendorsRequest, ListEnrichmentVendorsResponse, ListSyncVendorsRequest,
        ListSyncVendorsResponse, ProfileRequest, ProfileResponse, ProviderStatusRequest,
        ProviderStatusResponse, catalog_service_server::CatalogService, enrich_service_server::EnrichService,
        profile_service_server::ProfileService,
    },
};
use tonic::{Request, Response, Status};

/// Answers UNIMPLEMENTED with the reason NOT_IMPLEMENTED.
pub struct Later;

macro_rules! later {
    ($trait:ident { $($method:ident($request:ty) -> $response:ty;)* }) => {
        #[tonic::async_trait]
        impl $trait for Later {
            $(async fn $method(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Reason::of(ErrorReason::NotImplemented).status(None))
            })*
        }
    };
}

later!(EnrichService { enrich(EnrichRequest) -> EnrichResponse; });
later!(ProfileService {
    profile(ProfileRequest) -> ProfileResponse;
    batch_profile(BatchProfileRequest) -> BatchProfileResponse;
});
later!(CatalogService {
    list_sync_vendors(ListSyncVendorsRequest) -> ListSyncVendorsResponse;
    list_enrichment_vendors(ListEnrichmentVendorsRequest) -> ListEnrichmentVendorsResponse;
    check_provider(CheckProviderRequest) -> CheckProviderResponse;
    dry_run_provider(DryRunProviderRequest) -> DryRunProviderResponse;
    provider_status(ProviderStatusRequest) -> ProviderStatusResponse;
});
