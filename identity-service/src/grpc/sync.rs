//! `SyncService`: offers, begins, stores and explains syncs.

use std::{collections::BTreeSet, sync::Arc};

use proto::v1::{
    BeginSyncRequest, BeginSyncResponse, Caller, ErrorReason, ExplainRequest, ExplainResponse, IdentityRef,
    PendingSyncsRequest, PendingSyncsResponse, StoreSyncResultRequest, StoreSyncResultResponse, caller::Kind,
    sync_service_server::SyncService,
};
use serve::proxies::network;
use time::OffsetDateTime;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::caller;
use crate::{
    app::App,
    auth::{pipeline_key::Purpose, service_token::Roles},
    clock,
    error::{Error, Result},
    settings::Source,
    storage::{
        cache_entries::ConsentEntry,
        consents,
        lookup::{self, IdentityName},
        retry_lost,
    },
    sync::{
        self, explain,
        pending::{self, Asker},
        view,
    },
    vendor_ids::schedules,
};

/// The implementation of `SyncService`.
pub struct Service {
    /// The core that it calls.
    pub app: Arc<App>,
}

/// The facts that decide what is offered to one identity.
struct Schedule {
    source: Arc<Source>,
    consent: ConsentEntry,
    org: Uuid,
    canonical: Uuid,
    /// The browser for which it is asked; none for the person.
    browser: Option<String>,
    /// The browser's User-Agent, where it asks itself.
    user_agent: Option<String>,
    now: OffsetDateTime,
}

impl Schedule {
    fn asker<'a>(&'a self, app: &'a App) -> Asker<'a> {
        Asker {
            org: self.org,
            source: &self.source,
            consent: &self.consent,
            user_agent: self.user_agent.as_deref(),
            breakers: &app.sync.breakers,
            now: self.now,
        }
    }
}

impl Service {
    /// Finds the identity's schedule on the key's pipeline, or on the named one where the caller names an org.
    async fn schedule(
        &self,
        roles: Roles,
        caller: Option<Caller>,
        identity: Option<IdentityRef>,
        pipeline_id: Option<String>,
    ) -> Result<Schedule> {
        let now = clock::now();
        let tenant = caller::tenant(&self.app, caller, roles, Purpose::Send, 1, now).await?;
        let source = match (tenant.source, pipeline_id) {
            (Some(source), _) => source,
            (None, None) => return Err(Error::invalid("pipeline_id")),
            (None, Some(id)) => {
                let id = Uuid::try_parse(&id).map_err(|_| Error::invalid("pipeline_id"))?;
                let snapshot = self.app.settings.current().await?;
                let source = snapshot
                    .pipeline(id)
                    .filter(|source| tenant.org == source.org || Some(tenant.org) == source.test_org);
                source.cloned().ok_or_else(|| Error::refused(ErrorReason::PipelineNotFound))?
            }
        };
        let unknown = || Error::refused(ErrorReason::IdentityNotFound);
        let name = IdentityName::parse(identity, || "identity".to_owned())?;
        let (stores, org, browser) = (&self.app.stores, tenant.org, name.browser().map(str::to_owned));
        let canonical = lookup::root(stores, org, &name).await?.ok_or_else(unknown)?;
        // Consent is a browser's; for a person the newest one counts.
        let consent = match &browser {
            Some(browser) => consents::of(stores, org, browser, name.is_browser()).await?,
            None => consents::newest(stores, org, canonical).await?,
        };
        Ok(Schedule { source, consent, org, canonical, browser, user_agent: tenant.user_agent, now })
    }
}

#[tonic::async_trait]
impl SyncService for Service {
    async fn pending_syncs(
        &self,
        request: Request<PendingSyncsRequest>,
    ) -> Result<Response<PendingSyncsResponse>, Status> {
        let roles = caller::roles(&request);
        let PendingSyncsRequest { caller, identity, pipeline_id } = request.into_inner();
        let found = self.schedule(roles, caller, identity, pipeline_id).await?;
        let view =
            view::view(&self.app.stores, found.org, found.canonical, found.browser.as_deref(), found.now)
                .await?;
        let due = pending::due(&found.asker(&self.app), &view);
        Ok(Response::new(PendingSyncsResponse { pending_syncs: pending::list(&due) }))
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
        let known = caller::authenticate(&self.app, &collect, Purpose::Sync, 1, now).await?;
        let request = sync::Request {
            vendor: request.vendor,
            anonymous_id: request.anonymous_id,
            cookie_anonymous_id: request.cookie_anonymous_id,
            referer: request.referer,
            sec_gpc: request.sec_gpc,
            user_agent: collect.user_agent,
            network: collect.client_ip.as_deref().and_then(|address| address.parse().ok()).map(network),
        };
        Ok(Response::new(self.app.sync.begin(&known, &request, now).await?))
    }

    async fn store_sync_result(
        &self,
        request: Request<StoreSyncResultRequest>,
    ) -> Result<Response<StoreSyncResultResponse>, Status> {
        let outcome = self.app.sync.store(request.get_ref(), clock::now()).await;
        Ok(Response::new(StoreSyncResultResponse { outcome: outcome.into() }))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let roles = caller::roles(&request);
        let ExplainRequest { caller, identity, pipeline_id } = request.into_inner();
        let found = self.schedule(roles, caller, identity, pipeline_id).await?;
        // The truth, not what serves: an engineer asks because something looks odd.
        let (stores, asked) = (&self.app.stores, BTreeSet::from([found.canonical]));
        let mut loaded =
            retry_lost!({ view::load(&mut *stores.connection().await?, found.org, &asked).await })?;
        let (attempts, ties) = loaded.remove(&found.canonical).unwrap_or_default();
        let schedules = schedules::of(&attempts, &ties, found.browser.as_deref());
        let vendors = explain::explain(&found.asker(&self.app), &schedules);
        let unknown = found.consent.signals().unknown_names(&found.source.consent);
        let consent_not_understood = unknown.unwrap_or_default();
        Ok(Response::new(ExplainResponse { vendors, consent_not_understood }))
    }
}
