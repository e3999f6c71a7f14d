//! `ResolveService`: resolves subjects, delivers vendor IDs, and makes link tokens.

use std::sync::Arc;

use proto::v1::{
    CreateLinkRequest, CreateLinkResponse, ErrorReason, ResolveRequest, ResolveResponse, VendorIdsRequest,
    VendorIdsResponse, resolve_service_server::ResolveService,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::caller;
use crate::{
    app::App,
    auth::pipeline_key::Purpose,
    clock,
    consent::Category,
    delivery::Brought,
    error::Error,
    identifiers::{self, Kind, Parsed},
    storage::lookup::IdentityName,
    vendor_ids::{deliverable::Question, read},
    vendors::{self, Vendor},
};

/// Most subjects, or identities, in one call.
const MAX_ITEMS: usize = 1000;
/// Most field names in one call; there are far fewer.
const MAX_FIELDS: usize = 200;
/// Most bytes of a field's name, as of a custom provider's field. Each is asked of Redis for each identity.
const MAX_FIELD_BYTES: usize = 64;
/// Most vendors whose match keys are asked for in one call.
const MAX_MATCH_KEYS: usize = 20;

/// The implementation of `ResolveService`.
pub struct Service {
    /// The core that it calls.
    pub app: Arc<App>,
}

#[tonic::async_trait]
impl ResolveService for Service {
    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<ResolveResponse>, Status> {
        let roles = caller::roles(&request);
        let ResolveRequest { caller, subjects, events, batch_context, events_left_out } =
            request.into_inner();
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
        let request = request.into_inner();
        let org = caller::organisation(&self.app, &request.org_id, "org_id").await?;
        let VendorIdsRequest { identities, fields, source_id, consent_category, match_keys, events, .. } =
            request;
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
        if source_id.is_none() && (consent_category.is_some() || !match_keys.is_empty() || !events.is_empty())
        {
            return Err(Error::invalid("source_id").into());
        }
        let now = clock::now();
        let Some(source_id) = source_id else {
            let mut found = read::find(&self.app.stores, org, &names, &fields, now).await?;
            for answer in &mut found {
                answer.allowed = !answer.canonical_id.is_empty();
            }
            return Ok(Response::new(VendorIdsResponse { identities: found }));
        };
        let id = Uuid::try_parse(&source_id).map_err(|_| Error::invalid("source_id"))?;
        let snapshot = self.app.settings.current().await?;
        let source = snapshot.source_of(org, id).ok_or_else(|| Error::invalid("source_id"))?;
        if !events.is_empty() && events.len() != names.len() {
            return Err(Error::invalid("events").into());
        }
        if match_keys.len() > MAX_MATCH_KEYS {
            return Err(Error::invalid("match_keys").into());
        }
        let vendors = match_keys.iter().map(|name| vendors::find_match_keys(name));
        let vendors: Option<Vec<&Vendor>> = vendors.collect();
        let category = consent_category
            .as_deref()
            .map(|name| Category::of_name(name).ok_or_else(|| Error::invalid("consent_category")));
        let question = Question {
            rule: &source.consent,
            need: category.transpose()?.map(Question::need_of),
            vendors: &vendors.ok_or_else(|| Error::refused(ErrorReason::VendorNotFound))?,
            now,
        };
        let mut wanted = fields.clone();
        if !fields.is_empty() {
            wanted.extend(question.fields().map(str::to_owned));
        }
        let mut found = read::find(&self.app.stores, org, &names, &wanted, now).await?;
        let mut events = events.into_iter();
        for answer in &mut found {
            let event = events.next();
            if answer.canonical_id.is_empty() {
                continue;
            }
            question.answer(event, answer);
            if !fields.is_empty() {
                answer.vendor_ids.retain(|field, _| fields.contains(field));
            }
        }
        Ok(Response::new(VendorIdsResponse { identities: found }))
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
