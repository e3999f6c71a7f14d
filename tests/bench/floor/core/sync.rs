//! The redirect and the callback.

use bb8_redis::redis::Pipeline;
use identity_service::storage::redis::keys;
use proto::v1::{
    BeginSyncRequest, BeginSyncResponse, ExplainRequest, ExplainResponse, PendingSyncsRequest,
    PendingSyncsResponse, StoreSyncResultRequest, StoreSyncResultResponse, SyncOutcome, SyncRedirect,
    begin_sync_response::Outcome, sync_service_server::SyncService,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Connection, Core, failed, text};
use crate::visitors::canonical_of;

/// The one row of a redirect.
pub(super) const ATTEMPT: &str = "INSERT INTO sync_attempts \
        (org_id, canonical_id, vendor, outcome, attempts, unanswered_since, next_at, anonymous_id) \
    VALUES ($1, $2, $3, 'attempted', 1, now(), now() + interval '10 minutes', $4) \
    ON CONFLICT (org_id, canonical_id, vendor, anonymous_id) DO UPDATE SET outcome = excluded.outcome, \
        attempts = sync_attempts.attempts + 1, next_at = excluded.next_at";

/// A callback's transaction as one statement: the browser's identity, the state used up, the ID stored.
pub(super) const STORE: &str = "WITH found AS (\
        SELECT canonical_id FROM links WHERE org_id = $1 AND kind = 0 AND value = $2), \
    used AS (\
        INSERT INTO used_states (org_id, anonymous_id, vendor, issued_at) VALUES ($1, $2, $3, clock_timestamp()) \
        ON CONFLICT (org_id, anonymous_id, vendor) DO UPDATE SET issued_at = excluded.issued_at \
        WHERE used_states.issued_at < excluded.issued_at RETURNING 1) \
    INSERT INTO vendor_ids (org_id, canonical_id, field, value, source, collected_at, expires_at, owner) \
    SELECT $1, canonical_id, $4, $5, 'sync', now(), now() + interval '90 days', $2 FROM found, used \
    ON CONFLICT (org_id, canonical_id, field, owner_kind, owner) DO UPDATE SET value = excluded.value, \
        source = excluded.source, collected_at = excluded.collected_at, expires_at = excluded.expires_at";

#[tonic::async_trait]
impl SyncService for Core {
    async fn begin_sync(
        &self,
        request: Request<BeginSyncRequest>,
    ) -> Result<Response<BeginSyncResponse>, Status> {
        let BeginSyncRequest { vendor, anonymous_id, .. } = request.into_inner();
        let mut pipe = Pipeline::with_capacity(2);
        let anonymous_id = self.get_canonical(&mut pipe, anonymous_id);
        pipe.get(keys::consent(self.org, &anonymous_id).name);
        let canonical = text(self.ask(&pipe).await?.swap_remove(0));
        let Connection { client, attempt, .. } = self.connection();
        let canonical: Uuid = canonical.parse().unwrap_or_default();
        let stored = client.execute(attempt, &[&self.org, &canonical, &vendor, &anonymous_id]).await;
        stored.map_err(|error| failed(&error))?;
        // As long as a real one, with the anonymous ID in the state's place.
        let location = format!(
            "http://127.0.0.1:40000/{vendor}/user/?tid=pinterest-0123456789ab&redirect=http%3A%2F%2F127.0.0.1%3A40000\
             %2Fv1%2Fsync%2F{vendor}%2Fcallback%3Fstate%3D{anonymous_id:.<172}"
        );
        let redirect = SyncRedirect { location, state_cookie: None };
        Ok(Response::new(BeginSyncResponse { outcome: Some(Outcome::Redirect(redirect)) }))
    }

    async fn store_sync_result(
        &self,
        request: Request<StoreSyncResultRequest>,
    ) -> Result<Response<StoreSyncResultResponse>, Status> {
        let StoreSyncResultRequest { vendor, raw_query, .. } = request.into_inner();
        let parameter =
            |name: &str| raw_query.split('&').find_map(|pair| pair.strip_prefix(name)).unwrap_or("");
        let anonymous_id = parameter("state=").trim_end_matches('.');
        let (field, uid) = ("pin_unauth", parameter("uid="));
        let Connection { client, store, .. } = self.connection();
        let stored = client.execute(store, &[&self.org, &anonymous_id, &vendor, &field, &uid]).await;
        if stored.map_err(|error| failed(&error))? != 1 {
            return Ok(Response::new(StoreSyncResultResponse { outcome: SyncOutcome::BadState.into() }));
        }
        let entry = format!(
            "{{\"value\":\"{uid}\",\"source\":\"sync\",\"collected_at\":\"2026-11-21T10:00:00.123456Z\",\
             \"expires_at\":\"2027-02-19T10:00:00.123456Z\"}}"
        );
        let mut pipe = Pipeline::with_capacity(1);
        pipe.hset(keys::vendor_ids(self.org, canonical_of(anonymous_id)).name, field, entry);
        self.ask(&pipe).await?;
        Ok(Response::new(StoreSyncResultResponse { outcome: SyncOutcome::Stored.into() }))
    }

    async fn pending_syncs(
        &self,
        _: Request<PendingSyncsRequest>,
    ) -> Result<Response<PendingSyncsResponse>, Status> {
        Err(Status::unimplemented("no floor"))
    }

    async fn explain(&self, _: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        Err(Status::unimplemented("no floor"))
    }
}
