//! `IdentityAdminService`.

use std::sync::Arc;

use proto::v1::{
    DeleteRequest, DeleteResponse, ExportRequest, ExportResponse, IdentityRef, LookupRequest, LookupResponse,
    UnmergeRequest, UnmergeResponse, identity_admin_service_server::IdentityAdminService,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::caller;
use crate::{
    app::Core,
    clock,
    error::{Error, Result},
    identity_admin::{document, erase, lookup, unmerge},
    storage::lookup::Wanted,
};

/// The service.
pub struct Service {
    /// What it calls.
    pub core: Arc<Core>,
}

impl Service {
    async fn wanted(&self, org_id: &str, identity: Option<IdentityRef>) -> Result<(Uuid, Wanted)> {
        let org = caller::organisation(&self.core, org_id, "org_id").await?;
        Ok((org, Wanted::parse(identity, || "identity".to_owned())?))
    }
}

#[tonic::async_trait]
impl IdentityAdminService for Service {
    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        let LookupRequest { org_id, identity } = request.into_inner();
        let (org, wanted) = self.wanted(&org_id, identity).await?;
        let stored = lookup::find(&self.core, org, &wanted).await?;
        Ok(Response::new(LookupResponse { person: Some(lookup::person(&stored, clock::now())) }))
    }

    async fn export(&self, request: Request<ExportRequest>) -> Result<Response<ExportResponse>, Status> {
        let ExportRequest { org_id, identity } = request.into_inner();
        let (org, wanted) = self.wanted(&org_id, identity).await?;
        let stored = lookup::find(&self.core, org, &wanted).await?;
        Ok(Response::new(ExportResponse { document: Some(document::document(&stored)) }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        let DeleteRequest { org_id, identity } = request.into_inner();
        let (org, wanted) = self.wanted(&org_id, identity).await?;
        erase::erase(&self.core, org, wanted, clock::now()).await?;
        Ok(Response::new(DeleteResponse {}))
    }

    async fn unmerge(&self, request: Request<UnmergeRequest>) -> Result<Response<UnmergeResponse>, Status> {
        let UnmergeRequest { org_id, merge_id } = request.into_inner();
        let org = caller::organisation(&self.core, &org_id, "org_id").await?;
        let merge = Uuid::try_parse(&merge_id).map_err(|_| Error::invalid("merge_id"))?;
        let canonical = unmerge::unmerge(&self.core, org, merge, clock::now()).await?;
        Ok(Response::new(UnmergeResponse { canonical_id: canonical.to_string() }))
    }
}
