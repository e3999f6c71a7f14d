//! `SyncService`.

use std::sync::Arc;

use proto::{
    Reason,
    v1::{
        BeginSyncRequest, BeginSyncResponse, ErrorReason, ExplainRequest, ExplainResponse,
        PendingSyncsRequest, PendingSyncsResponse, StoreSyncResultRequest, StoreSyncResultResponse,
        caller::Kind, sync_service_server::SyncService,
    },
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::caller;
use crate::{
    clock,
    core::Core,
    error::Error,
    identifiers,
    resolve::{
        consent,
        lookup::{self, Wanted},
    },
    sync::{begin, pending, store},
};

/// The service.
pub struct Service {
    /// What it calls.
    pub core: Arc<Core>,
}

#[tonic::async_trait]
impl SyncService for Service {
    async fn pending_syncs(
        &self,
        request: Request<PendingSyncsRequest>,
    ) -> Result<Response<PendingSyncsResponse>, Status> {
        let roles = caller::roles(&request);
        let PendingSyncsRequest { caller, identity, pipeline_id } = request.into_inner();
        let now = clock::now();
        let tenant = caller::tenant(&self.core, caller, roles, now).await?;
        let source = match (tenant.source, pipeline_id) {
            (Some(source), _) => source,
            (None, None) => return Err(Error::invalid("pipeline_id").into()),
            (None, Some(id)) => {
                let id = Uuid::try_parse(&id).map_err(|_| Error::invalid("pipeline_id"))?;
                let snapshot = self.core.settings.current().await?;
                let source = snapshot
                    .pipeline(id)
                    .filter(|source| tenant.org == source.org || Some(tenant.org) == source.test_org);
                source.cloned().ok_or_else(|| Error::refused(ErrorReason::PipelineNotFound))?
            }
        };
        let unknown = || Error::refused(ErrorReason::IdentityNotFound);
        let (canonical, consent) = match Wanted::parse(identity, "identity")? {
            Wanted::Nobody => return Err(unknown().into()),
            Wanted::Identifier(id) if id.kind == identifiers::Kind::AnonymousId => {
                let (canonical, consent) = lookup::with_consent(&self.core, tenant.org, &id).await?;
                (canonical.ok_or_else(unknown)?, consent)
            }
            // Consent is a browser's; for a person the newest one counts.
            wanted => {
                let canonical = lookup::root(&self.core, tenant.org, &wanted).await?.ok_or_else(unknown)?;
                (canonical, consent::newest(&self.core, tenant.org, canonical).await?)
            }
        };
        let view = pending::view(&self.core, tenant.org, canonical, now).await?;
        let pending_syncs = pending::list(&pending::due(&source, &view, &consent, now));
        Ok(Response::new(PendingSyncsResponse { pending_syncs }))
    }

    async fn begin_sync(
        &self,
        request: Request<BeginSyncRequest>,
    ) -> Result<Response<BeginSyncResponse>, Status> {
        let request = request.into_inner();
        let Some(Kind::Collect(collect)) = request.caller.and_then(|caller| caller.kind) else {
            return Err(Error::invalid("caller.collect").into());
        };
        let now = clock::now();
        let known = caller::authenticate(&self.core, &collect, now).await?;
        let request = begin::Request {
            vendor: request.vendor,
            anonymous_id: request.anonymous_id,
            cookie_anonymous_id: request.cookie_anonymous_id,
            referer: request.referer,
            sec_gpc: request.sec_gpc,
            host: collect.host,
        };
        Ok(Response::new(begin::begin(&self.core, &known, &request, now).await?))
    }

    async fn store_sync_result(
        &self,
        request: Request<StoreSyncResultRequest>,
    ) -> Result<Response<StoreSyncResultResponse>, Status> {
        let outcome = store::store(&self.core, request.get_ref(), clock::now()).await;
        Ok(Response::new(StoreSyncResultResponse { outcome: outcome.into() }))
    }

    async fn explain(&self, _: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        Err(Reason::of(ErrorReason::NotImplemented).status(None))
    }
}
