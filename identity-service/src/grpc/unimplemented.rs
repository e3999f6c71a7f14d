//! Services whose time has not come: they are part of the contract, and answer UNIMPLEMENTED.

use proto::{
    Reason,
    v1::{
        BatchProfileRequest, BatchProfileResponse, ErrorReason, ProfileRequest, ProfileResponse,
        profile_service_server::ProfileService,
    },
};
use tonic::{Request, Response, Status};

/// Answers UNIMPLEMENTED with the reason NOT_IMPLEMENTED.
pub struct Unimplemented;

macro_rules! answers_unimplemented {
    ($trait:ident { $($method:ident($request:ty) -> $response:ty;)* }) => {
        #[tonic::async_trait]
        impl $trait for Unimplemented {
            $(async fn $method(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Reason::of(ErrorReason::NotImplemented).status(None))
            })*
        }
    };
}

answers_unimplemented!(ProfileService {
    profile(ProfileRequest) -> ProfileResponse;
    batch_profile(BatchProfileRequest) -> BatchProfileResponse;
});
