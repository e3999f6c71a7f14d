//! What an edge asks for now and then: the names of the vendors' cookies, before it forwards any, and whether a key is
//! good, before it reads the body of a sender that it does not know.

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
        Ok(Response::new(AuthenticateResponse::default()))
    }

    async fn check_origin(
        &self,
        _: Request<CheckOriginRequest>,
    ) -> Result<Response<CheckOriginResponse>, Status> {
        Err(Status::unimplemented("no floor"))
    }
}
