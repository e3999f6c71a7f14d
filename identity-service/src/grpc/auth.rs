//! `AuthService`: authenticates requests to collect hosts, and says which pages may call.

use std::sync::Arc;

use proto::v1::{
    AuthenticateRequest, AuthenticateResponse, CheckOriginRequest, CheckOriginResponse, ConsentMode,
    Environment, VendorCookiesRequest, VendorCookiesResponse, auth_service_server::AuthService,
};
use tonic::{Request, Response, Status};

use super::caller;
use crate::{
    app::App,
    auth::pipeline_key::{self, Announced, Authenticated, Purpose},
    clock, consent,
    error::Error,
    settings, vendors,
};

/// The implementation of `AuthService`.
pub struct Service {
    /// The core that it calls.
    pub app: Arc<App>,
}

#[tonic::async_trait]
impl AuthService for Service {
    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        let AuthenticateRequest { caller, before_body } = request.into_inner();
        let collect = caller.ok_or_else(|| Error::invalid("caller"))?;
        let now = clock::now();
        let (known, signed) = if before_body {
            let snapshot = self.app.settings.current().await?;
            (pipeline_key::announce(&snapshot, &collect, now)?, false)
        } else {
            let known = caller::authenticate(&self.app, &collect, Purpose::Send, 1, now).await?;
            let Authenticated { source, environment, org, signed_at, .. } = known;
            (Announced { source, environment, org }, signed_at.is_some())
        };
        let environment = match known.environment {
            settings::Environment::Live => Environment::Live,
            settings::Environment::Test => Environment::Test,
        };
        let consent_mode = match known.source.consent.mode {
            consent::ConsentMode::Explicit => ConsentMode::Explicit,
            consent::ConsentMode::Implicit => ConsentMode::Implicit,
        };
        Ok(Response::new(AuthenticateResponse {
            org_id: known.org.to_string(),
            source_id: known.source.id.to_string(),
            pipeline_id: known.source.pipeline.to_string(),
            environment: environment.into(),
            consent_mode: consent_mode.into(),
            signed,
        }))
    }

    async fn check_origin(
        &self,
        request: Request<CheckOriginRequest>,
    ) -> Result<Response<CheckOriginResponse>, Status> {
        let CheckOriginRequest { host, origin } = request.into_inner();
        let snapshot = self.app.settings.current().await?;
        let allowed = pipeline_key::origin_allowed(&snapshot, &host, &origin);
        Ok(Response::new(CheckOriginResponse { allowed }))
    }

    async fn vendor_cookies(
        &self,
        _: Request<VendorCookiesRequest>,
    ) -> Result<Response<VendorCookiesResponse>, Status> {
        let names = vendors::generated_ids().map(|record| record.cookie.to_owned()).collect();
        Ok(Response::new(VendorCookiesResponse { names }))
    }
}
