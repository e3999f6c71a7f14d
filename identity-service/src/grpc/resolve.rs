//! `ResolveService`: resolves subjects, delivers vendor IDs, and makes link tokens.

use std::sync::Arc;

use proto::v1::{
    CreateLinkRequest, CreateLinkResponse, ErrorReason, ResolveRequest, ResolveResponse, VendorIdsRequest,
    VendorIdsResponse, resolve_service_server::ResolveService,
};
use tonic::{Request, Response, Status};

use super::caller;
use crate::{
    app::App,
    auth::pipeline_key::Purpose,
    clock,
    delivery::Brought,
    error::Error,
    identifiers::{self, Kind, Parsed},
    storage::lookup::IdentityName,
    vendor_ids::read,
};

/// Most subjects, or identities, in one call.
const MAX_ITEMS: usize = 1000;
/// Most field names in one call; there are far fewer.
const MAX_FIELDS: usize = 200;
/// Most bytes of a field's name, as of a custom provider's field. Each is asked of Redis for each identity.
const MAX_FIELD_BYTES: usize = 64;

/// The implementation of `ResolveService`.
pub struct Service {
    /// The core that it calls.
    pub app: Arc<App>,
}

#[tonic::async_trait]
impl ResolveService for Service {
    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<ResolveResponse>, Status> {
        let roles = caller::roles(&request);
        let ResolveRequest { caller, subjects, events, batch_context, events_left_out } = request.into_inner();
        if !(1..=MAX_ITEMS).contains(&subjects.len()) {
            return Err(Error::invalid("subjects").into());
        }
        let now = clock::now();
        let tenant = caller::tenant(&self.app, caller, roles, Purpose::Send, subjects.len(), now).await?;
        let brought = Brought::read(&tenant, &subjects, events, batch_context, events_left_out)?;
        let resolutions = self.app.resolver.resolve(&tenant, subjects, now).await?;
        let Some(brought) = brought else {
            return Ok(Response::new(ResolveResponse { resolutions, ..ResolveResponse::default() }));
        };
        // Boxed, as most sources keep none and each call would carry the room for this.
        let kept = Box::pin(self.app.keeper.keep(&tenant, brought, &resolutions, now)).await;
        Ok(Response::new(ResolveResponse {
            resolutions,
            events_kept: u32::try_from(kept.events).unwrap_or(u32::MAX),
            events_error: kept.error,
            keeps_events: true,
        }))
    }

    async fn vendor_ids(
        &self,
        request: Request<VendorIdsRequest>,
    ) -> Result<Response<VendorIdsResponse>, Status> {
        let VendorIdsRequest { org_id, identities, fields } = request.into_inner();
        let org = caller::organisation(&self.app, &org_id, "org_id").await?;
        if !(1..=MAX_ITEMS).contains(&identities.len()) {
            return Err(Error::invalid("identities").into());
        }
        if fields.len() > MAX_FIELDS || fields.iter().any(|field| field.len() > MAX_FIELD_BYTES) {
            return Err(Error::invalid("fields").into());
        }
        let names = identities
            .into_iter()
            .enumerate()
            .map(|(at, reference)| IdentityName::parse(Some(reference), || format!("identities[{at}]")))
            .collect::<Result<Vec<_>, _>>()?;
        let identities = read::find(&self.app.stores, org, &names, &fields, clock::now()).await?;
        Ok(Response::new(VendorIdsResponse { identities }))
    }

    async fn create_link(
        &self,
        request: Request<CreateLinkRequest>,
    ) -> Result<Response<CreateLinkResponse>, Status> {
        let roles = caller::roles(&request);
        let CreateLinkRequest { caller, cookie_anonymous_id } = request.into_inner();
        let now = clock::now();
        let tenant = caller::tenant(&self.app, caller, roles, Purpose::Link, 1, now).await?;
        let max_bytes = identifiers::MAX_BROWSER_BYTES;
        let Parsed::Ok(browser) = identifiers::parse(Kind::AnonymousId, &cookie_anonymous_id, max_bytes)
        else {
            return Err(Error::refused(ErrorReason::MissingIdentifier).into());
        };
        let token = self.app.resolver.link_tokens.seal(tenant.org, &browser.value, now);
        let link_token = token.ok_or_else(|| Error::refused(ErrorReason::Internal))?;
        Ok(Response::new(CreateLinkResponse { link_token }))
    }
}
