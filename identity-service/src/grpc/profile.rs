//! `ProfileService`: tells what customer data platforms know of visitors.

use std::sync::Arc;

use egress::target::Reach;
use proto::v1::{
    Audience, BatchProfileRequest, BatchProfileResponse, Caller, ErrorReason, ProfileRequest,
    ProfileResponse, ProfileSubject, profile_service_server::ProfileService,
};
use serde_json::Value;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{caller, enrich};
use crate::{
    app::App,
    auth::{pipeline_key::Purpose, service_token::Roles},
    clock,
    error::{Error, Result},
    profile::{
        Asking, Kept, Profile, ProfilePlan, Provided, Visitor,
        plan::{AMPERITY, STATE},
    },
    settings::{Source, StoredProvider},
    storage::postgres::provider_states::ProviderName,
};

/// Most visitors of one request.
const MAX_SUBJECTS: usize = 1000;
/// Name of the provider whose attributes come with the ID of an enrichment.
const ACXIOM: &str = "acxiom";
/// Name of that enrichment.
const ACXIOM_VENDOR: &str = "acxiom_realid";

/// The implementation of `ProfileService`.
pub struct Service {
    /// The core that it calls.
    pub app: Arc<App>,
}

#[tonic::async_trait]
impl ProfileService for Service {
    async fn profile(&self, request: Request<ProfileRequest>) -> Result<Response<ProfileResponse>, Status> {
        let roles = caller::roles(&request);
        let request = request.into_inner();
        let audience = request.audience();
        let ProfileRequest { caller, provider, subject, event, source_id, .. } = request;
        let subjects = vec![ProfileSubject { subject, event }];
        let asked = Asked { caller, provider, subjects, source_id, audience };
        let told = self.tell(asked, roles).await?.pop();
        Ok(Response::new(told.ok_or_else(|| Error::refused(ErrorReason::Internal))?))
    }

    async fn batch_profile(
        &self,
        request: Request<BatchProfileRequest>,
    ) -> Result<Response<BatchProfileResponse>, Status> {
        let roles = caller::roles(&request);
        let request = request.into_inner();
        let audience = request.audience();
        let BatchProfileRequest { caller, provider, subjects, source_id, .. } = request;
        if !(1..=MAX_SUBJECTS).contains(&subjects.len()) {
            return Err(Error::invalid("subjects").into());
        }
        let asked = Asked { caller, provider, subjects, source_id, audience };
        Ok(Response::new(BatchProfileResponse { profiles: self.tell(asked, roles).await? }))
    }
}

/// What is asked for.
struct Asked {
    caller: Option<Caller>,
    provider: String,
    subjects: Vec<ProfileSubject>,
    source_id: Option<String>,
    audience: Audience,
}

impl Service {
    async fn tell(&self, asked: Asked, roles: Roles) -> Result<Vec<ProfileResponse>> {
        let (began, now) = (Instant::now(), clock::now());
        let Asked { caller, provider, subjects, source_id, audience } = asked;
        let events = subjects.len();
        let tenant = caller::tenant(&self.app, caller, roles, Purpose::Send, events, now).await?;
        let is_server = match audience {
            Audience::Server if !tenant.browser => true,
            Audience::Browser => false,
            // A page is told what a page may see.
            Audience::Unspecified | Audience::Server => return Err(Error::invalid("audience")),
        };
        let source = enrich::source(&self.app, &tenant, source_id).await?;
        let mut visitors = Vec::with_capacity(events);
        for ProfileSubject { subject, event } in subjects {
            let subject = subject.ok_or_else(|| Error::invalid("subject"))?;
            visitors.push(if is_server {
                Visitor::described(subject, event.map(|event| Value::Object(proto::json::object(event))))
            } else {
                Visitor::of_page(subject)
            });
        }
        let Some(provided) = provided(&self.app, &source, &provider).await? else {
            let nothing =
                || ProfileResponse { reason: "not_configured".to_owned(), ..response(Profile::default()) };
            return Ok(visitors.iter().map(|_| nothing()).collect());
        };
        let asking = Asking { org: tenant.org, source, is_server, began, now };
        let told = self.app.profiles.read(&asking, &provided, visitors).await?;
        Ok(told.into_iter().map(response).collect())
    }
}

/// The provider of that name, as it is set up on `source`; none where it is not.
async fn provided(app: &App, source: &Source, name: &str) -> Result<Option<Provided>> {
    match name {
        AMPERITY => {
            let Some(stored) = source.profile_provider(AMPERITY) else { return Ok(None) };
            Ok(linked(app, source, stored.clone()).await?.map(|plan| Provided::Linked(Arc::new(plan))))
        }
        ACXIOM => {
            let Some(stored) = source.provider(ACXIOM_VENDOR) else { return Ok(None) };
            let plan = app.enrichment.plan(source.org, stored).await?;
            let kept =
                |plan| Provided::Kept(Arc::new(Kept { provider: stored.clone(), plan, label: ACXIOM }));
            Ok(plan.map(kept))
        }
        _ => Err(Error::refused(ErrorReason::VendorNotFound)),
    }
}

/// Reads the settings of a provider that is looked up at, within what may be called now.
pub async fn linked(app: &App, source: &Source, stored: Arc<StoredProvider>) -> Result<Option<ProfilePlan>> {
    let snapshot = app.settings.current().await?;
    let is_ours = |host: &_| snapshot.on_host(host).iter().any(|own| own.org == source.org);
    let reach = Reach { allowed: app.enrichment.tools.egress.openings(), is_ours: &is_ours };
    let name = ProviderName { org: source.org, source: source.id, provider: STATE.to_owned() };
    Ok(ProfilePlan::read(stored, name, &reach))
}

fn response(profile: Profile) -> ProfileResponse {
    let Profile { id, attributes, personalized, reason } = profile;
    ProfileResponse {
        attributes: Some(proto::json::document(attributes)),
        personalized: Some(proto::json::document(personalized)),
        id,
        reason: reason.to_owned(),
    }
}
