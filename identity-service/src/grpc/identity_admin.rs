//! `IdentityAdminService`: looks up, exports, erases and un-merges people.

use std::sync::Arc;

use proto::v1::{
    DeleteRequest, DeleteResponse, ExportRequest, ExportResponse, IdentityRef, LookupRequest, LookupResponse,
    UnmergeRequest, UnmergeResponse, identity_admin_service_server::IdentityAdminService,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::caller;
use crate::{
    app::App,
    clock,
    error::{Error, Result},
    storage::lookup::IdentityName,
};

/// The implementation of `IdentityAdminService`.
pub struct Service {
    /// The core that it calls.
    pub app: Arc<App>,
}

impl Service {
    async fn named(&self, org_id: &str, identity: Option<IdentityRef>) -> Result<(Uuid, IdentityName)> {
        let org = caller::organisation(&self.app, org_id, "org_id").await?;
        let name = IdentityName::parse(identity, || "identity".to_owned())?;
        // What is done to a person is done to all of them.
        if name.has_beside() {
            return Err(Error::invalid("identity.browser"));
        }
        Ok((org, name))
    }
}

#[tonic::async_trait]
impl IdentityAdminService for Service {
    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        let LookupRequest { org_id, identity } = request.into_inner();
        let (org, name) = self.named(&org_id, identity).await?;
        let stored = self.app.identity_admin.find(org, &name).await?;
        Ok(Response::new(LookupResponse { person: Some(stored.person(clock::now())) }))
    }

    async fn export(&self, request: Request<ExportRequest>) -> Result<Response<ExportResponse>, Status> {
        let ExportRequest { org_id, identity } = request.into_inner();
        let (org, name) = self.named(&org_id, identity).await?;
        let stored = self.app.identity_admin.find(org, &name).await?;
        let kept = self.app.identity_admin.events_of(org, &stored).await?;
        Ok(Response::new(ExportResponse { document: Some(stored.document(&kept)) }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        let DeleteRequest { org_id, identity } = request.into_inner();
        let (org, name) = self.named(&org_id, identity).await?;
        self.app.identity_admin.erase(org, name, clock::now()).await?;
        Ok(Response::new(DeleteResponse {}))
    }

    async fn unmerge(&self, request: Request<UnmergeRequest>) -> Result<Response<UnmergeResponse>, Status> {
        let UnmergeRequest { org_id, merge_id } = request.into_inner();
        let org = caller::organisation(&self.app, &org_id, "org_id").await?;
        let merge = Uuid::try_parse(&merge_id).map_err(|_| Error::invalid("merge_id"))?;
        let canonical = self.app.identity_admin.unmerge(org, merge, clock::now()).await?;
        Ok(Response::new(UnmergeResponse { canonical_id: canonical.to_string() }))
    }
}
