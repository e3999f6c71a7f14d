//! The names of the vendors' cookies, which an edge asks for before it forwards any.

use identity_service::vendors;
use proto::v1::{
    AuthenticateRequest, AuthenticateResponse, CheckOriginRequest, CheckOriginResponse, VendorCookiesRequest,
    VendorCookiesResponse, auth_service_server::AuthService,
};
use tonic::{Request, Response, Status};

use super::Core;

#[tonic::async_trait]
impl AuthService for Core {
    async fn vendor_cookies(
        &self,
        _: Request<VendorCookiesRequest>,
    ) -> Result<Response<VendorCookiesResponse>, Status> {
        let names = vendors::generated_ids().map(|record| record.cookie.to_owned()).collect();
        Ok(Response::new(VendorCookiesResponse { names }))
    }

    async fn authenticate(
        &self,
        _: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        Err(Status::unimplemented("no floor"))
    }

    async fn check_origin(
        &self,
        _: Request<CheckOriginRequest>,
    ) -> Result<Response<CheckOriginResponse>, Status> {
        Err(Status::unimplemented("no floor"))
    }
}
