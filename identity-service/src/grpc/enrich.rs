//! `EnrichService`: asks a provider for an ID of one visitor.

use std::sync::Arc;

use proto::v1::{
    Caller, DeviceId, EnrichRequest, EnrichResponse, EnrichStatus, ErrorReason, Subject, caller::Kind,
    enrich_service_server::EnrichService,
};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::caller;
use crate::{
    app::App,
    auth::{Tenant, pipeline_key::Purpose},
    clock,
    enrich::{Asked, Outcome},
    error::{Error, Result},
    identifiers::{self, Kind as IdKind, MAX_BYTES, Parsed},
    providers::{Person, variables::Variables},
    settings::Source,
    storage::{cache_entries, consents},
};

/// Longest event, in bytes as JSON: 8 KiB.
const MAX_EVENT_BYTES: usize = 8 * 1024;
/// Parts of an event that templates may name.
const EVENT_PARTS: [&str; 3] = ["properties", "traits", "context"];

/// The implementation of `EnrichService`.
pub struct Service {
    /// The core that it calls.
    pub app: Arc<App>,
}

#[tonic::async_trait]
impl EnrichService for Service {
    async fn enrich(&self, request: Request<EnrichRequest>) -> Result<Response<EnrichResponse>, Status> {
        let (began, now) = (Instant::now(), clock::now());
        let roles = caller::roles(&request);
        let EnrichRequest { caller, vendor, subject, event, source_id } = request.into_inner();
        let subject = subject.ok_or_else(|| Error::invalid("subject"))?;
        let event = event.map(|event| read_event(&event)).transpose()?;
        let client_ip = client_ip(caller.as_ref());
        let tenant = caller::tenant(&self.app, caller, roles, Purpose::Send, 1, now).await?;
        let source = source(&self.app, &tenant, source_id).await?;
        let unknown = || Error::refused(ErrorReason::VendorNotFound);
        let provider = source.provider(&vendor).ok_or_else(unknown)?.clone();
        let mut variables = variables(&subject, event, tenant.verified);
        variables.set("user_agent", tenant.user_agent.clone());
        variables.set("client_ip", client_ip.filter(|_| tenant.browser));
        let sec_gpc = subject.consent.as_ref().is_some_and(|consent| consent.sec_gpc);
        let person = resolve(&self.app, &tenant, subject, sec_gpc, now).await?;
        let asked = Asked { source, provider, person, variables, sec_gpc, began, now };
        let outcome = self.app.enrichment.enrich(asked).await;
        Ok(Response::new(response(vendor, outcome)))
    }
}

/// The address of the visitor, where a browser calls.
fn client_ip(caller: Option<&Caller>) -> Option<String> {
    match caller?.kind.as_ref()? {
        Kind::Collect(collect) => collect.client_ip.clone(),
        Kind::OrgId(_) => None,
    }
}

/// The source whose provider is asked: the key's, or the one that a service names beside its organisation.
pub async fn source(app: &App, tenant: &Tenant, id: Option<String>) -> Result<Arc<Source>> {
    if let Some(source) = &tenant.source {
        return Ok(source.clone());
    }
    let id = id.and_then(|id| Uuid::try_parse(&id).ok()).ok_or_else(|| Error::invalid("source_id"))?;
    let snapshot = app.settings.current().await?;
    snapshot.source_of(tenant.org, id).cloned().ok_or_else(|| Error::invalid("source_id"))
}

/// Reads the page's event: the parts that templates may name.
pub fn read_event(text: &str) -> Result<Value> {
    let bad = || Error::invalid("event");
    if text.len() > MAX_EVENT_BYTES {
        return Err(bad());
    }
    let mut object: Map<String, Value> = serde_json::from_str(text).map_err(|_| bad())?;
    object.retain(|name, _| EVENT_PARTS.contains(&name.as_str()));
    Ok(Value::Object(object))
}

/// The variables that a subject and its event bring. A device counts where the caller vouches for it.
pub fn variables(subject: &Subject, event: Option<Value>, is_vouched: bool) -> Variables {
    let mut variables = Variables::of_event(event);
    variables.set("page_url", subject.page_url.clone());
    if let Some((id, kind)) = subject.device_id.clone().filter(|_| is_vouched).and_then(device) {
        variables.set("device_id", Some(id));
        variables.set("device_type", Some(kind));
    }
    variables
}

/// Reads a device's advertising ID, in lower case, with its kind; none where the device has switched it off.
fn device(DeviceId { value, r#type }: DeviceId) -> Option<(String, String)> {
    let id = Uuid::try_parse(value.trim()).ok().filter(|id| !id.is_nil())?;
    ["idfa", "gaid"].contains(&r#type.as_str()).then(|| (id.hyphenated().to_string(), r#type))
}

/// Resolves the subject as an event would, and tells who is asked about.
pub async fn resolve(
    app: &App,
    tenant: &Tenant,
    mut subject: Subject,
    sec_gpc: bool,
    now: OffsetDateTime,
) -> Result<Person> {
    subject.want_pending_syncs = false;
    let own_signals = subject.consent.clone();
    let user_id = subject.user_id.clone();
    let resolution = app.resolver.resolve(tenant, vec![subject], now).await?.pop();
    let resolution = resolution.ok_or_else(|| Error::refused(ErrorReason::Internal))?;
    if let Some(error) = resolution.error {
        return Err(Error::refused(error.reason()));
    }
    let missing = || Error::refused(ErrorReason::MissingIdentifier);
    let canonical = Uuid::try_parse(&resolution.canonical_id).map_err(|_| missing())?;
    let named = |kind, text: &str| match identifiers::parse(kind, text, MAX_BYTES) {
        Parsed::Ok(id) => Some(id),
        Parsed::Absent | Parsed::Junk | Parsed::Invalid => None,
    };
    let browser = named(IdKind::AnonymousId, &resolution.anonymous_id);
    let owner = browser.clone().or_else(|| named(IdKind::UserId, &user_id?)).ok_or_else(missing)?;
    let consent = match &browser {
        Some(browser) => consents::of(&app.stores, tenant.org, &browser.value, true).await?.with_gpc(sec_gpc),
        None => match own_signals.and_then(|signals| signals.json) {
            Some(json) => cache_entries::consent_of_call(Some(json), sec_gpc),
            None => consents::newest(&app.stores, tenant.org, canonical).await?.with_gpc(sec_gpc),
        },
    };
    Ok(Person {
        org: tenant.org,
        canonical,
        owner,
        consent,
        is_browser: tenant.browser,
        is_vouched: tenant.verified,
    })
}

fn response(vendor: String, outcome: Outcome) -> EnrichResponse {
    let mut response = EnrichResponse { vendor, ..EnrichResponse::default() };
    let (status, found) = match outcome {
        Outcome::Resolved(id, until) => (EnrichStatus::Resolved, Some((id, until))),
        Outcome::Cached(id, until) => (EnrichStatus::Cached, Some((id, until))),
        Outcome::Skipped { reason, expires_at, retry_after } => {
            reason.clone_into(&mut response.reason);
            response.expires_at = expires_at.map(clock::timestamp);
            response.retry_after = retry_after.and_then(|pause| pause.try_into().ok());
            (EnrichStatus::Skipped, None)
        }
    };
    response.set_status(status);
    if let Some((id, until)) = found {
        response.id = Some(id);
        response.expires_at = Some(clock::timestamp(until));
    }
    response
}
