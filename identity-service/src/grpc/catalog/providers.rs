//! Providers of customers, for whoever sets them up: what is wrong with their settings, what they would be asked, and
//! how they are.

use std::sync::Arc;

use egress::target::Reach;
use proto::v1::{
    BreakerState, CheckProviderRequest, CheckProviderResponse, DryRunProviderRequest, DryRunProviderResponse,
    ErrorReason, FieldProblem, ProviderError, ProviderKind, ProviderStatusRequest, ProviderStatusResponse,
};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Service, destinations};
use crate::{
    clock, enrich,
    error::{Error, Result},
    grpc::{
        caller,
        enrich::{read_event, variables},
        profile,
    },
    profile::{
        Visitor, amperity,
        plan::{AMPERITY, STATE},
    },
    providers::{
        Status,
        dry_run::{Depth, DryRun, Shown},
        exchange,
        gates::State,
        validation::{Problem, Problems},
    },
    settings::{self, Snapshot, Source, StoredProvider},
    storage::postgres::provider_states::ProviderName,
    vendors,
};

impl Service {
    /// Finds what is wrong with settings, and what they need.
    pub(super) async fn check(&self, request: CheckProviderRequest) -> Result<CheckProviderResponse> {
        let kind = request.kind();
        let org = caller::organisation(&self.app, &request.org_id, "org_id").await?;
        let settings = request.settings.ok_or_else(|| Error::invalid("settings"))?;
        let settings = Value::Object(proto::json::object(settings));
        let snapshot = self.app.settings.current().await?;
        let problems = self.problems(&snapshot, org, kind, &request.name, &settings)?.into_list();
        let told =
            |problem: Problem| FieldProblem { field: problem.field, message: problem.message.into_owned() };
        let vendor = vendors::find_enrichment(&request.name).filter(|_| kind == ProviderKind::Enrichment);
        Ok(CheckProviderResponse {
            problems: problems.into_iter().map(told).collect(),
            credentials: vendor
                .map_or_else(Vec::new, |vendor| enrich::config::credentials(vendor, &settings)),
        })
    }

    fn problems(
        &self,
        snapshot: &Snapshot,
        org: Uuid,
        kind: ProviderKind,
        name: &str,
        settings: &Value,
    ) -> Result<Problems> {
        // The organisation's own: another could claim a vendor's host, and so have nobody call it.
        let is_ours = |host: &_| snapshot.on_host(host).iter().any(|source| source.org == org);
        let reach = Reach { allowed: self.app.enrichment.tools.egress.openings(), is_ours: &is_ours };
        let mut problems = Problems::default();
        match kind {
            ProviderKind::Unspecified => return Err(Error::invalid("kind")),
            ProviderKind::Enrichment => {
                let vendor = vendors::find_enrichment(name).ok_or_else(unknown)?;
                enrich::config::check(vendor, settings, &reach, &mut problems);
            }
            ProviderKind::Custom => enrich::custom::check(name, settings, &reach, &mut problems),
            ProviderKind::Profile if name == AMPERITY => {
                amperity::check(settings, &reach, &mut problems);
            }
            ProviderKind::Profile => return Err(unknown()),
            ProviderKind::Destination => destinations::check(name, settings, &reach, &mut problems)?,
        }
        Ok(problems)
    }

    /// Tries a provider, as it is stored or with the settings of the request.
    pub(super) async fn dry_run(&self, request: DryRunProviderRequest) -> Result<DryRunProviderResponse> {
        let (began, now, kind) = (Instant::now(), clock::now(), request.kind());
        if kind == ProviderKind::Destination {
            let snapshot = self.app.settings.newest().await?;
            let org = caller::organisation(&self.app, &request.org_id, "org_id").await?;
            let settings = request.settings.clone().map(proto::json::object).unwrap_or_default();
            let own = settings.get("destination").ok_or_else(|| Error::invalid("settings.destination"))?;
            let problems = self.problems(&snapshot, org, kind, &request.name, own)?.into_list();
            if let Some(problem) = problems.first() {
                return Err(Error::invalid(format!("settings.destination.{}", problem.field)));
            }
            return self.dry_run_destination(request, org).await;
        }
        let DryRunProviderRequest { org_id, name, settings, subject, answer, source_id, event, send, .. } =
            request;
        let kind_stored = match kind {
            ProviderKind::Unspecified | ProviderKind::Destination => return Err(Error::invalid("kind")),
            ProviderKind::Enrichment => settings::ProviderKind::Vendor,
            ProviderKind::Custom => settings::ProviderKind::Custom,
            ProviderKind::Profile if name == AMPERITY => settings::ProviderKind::Profile,
            ProviderKind::Profile => return Err(unknown()),
        };
        let snapshot = self.app.settings.newest().await?;
        let org = caller::organisation(&self.app, &org_id, "org_id").await?;
        let source = source_id.map(|id| source_of(&snapshot, org, &id)).transpose()?;
        let subject = subject.ok_or_else(|| Error::invalid("subject"))?;
        let event = event.map(|event| read_event(&event)).transpose()?;
        let provider = match settings {
            // Credentials go with what was saved and checked, and nowhere else.
            Some(_) if send => return Err(Error::invalid("send")),
            Some(settings) => {
                let settings = Value::Object(proto::json::object(settings));
                let problems = self.problems(&snapshot, org, kind, &name, &settings)?.into_list();
                if let Some(problem) = problems.first() {
                    let field = format!("settings.{}", problem.field);
                    return Err(Error::invalid(field.trim_end_matches('.')));
                }
                Arc::new(StoredProvider {
                    id: Uuid::nil(),
                    name: name.clone(),
                    kind: kind_stored,
                    settings,
                    credentials: None,
                    version: OffsetDateTime::UNIX_EPOCH,
                })
            }
            None => {
                let source = source.ok_or_else(|| Error::invalid("source_id"))?;
                let stored = match kind_stored {
                    settings::ProviderKind::Profile => source.profile_provider(&name),
                    kind => source.provider(&name).filter(|stored| stored.kind == kind),
                };
                stored.ok_or_else(unknown)?.clone()
            }
        };
        let state = if kind == ProviderKind::Profile { STATE.to_owned() } else { name };
        let depth = match (answer, source) {
            (Some(_), _) if send => return Err(Error::invalid("answer")),
            (Some(answer), _) => Depth::Read(answer),
            (None, Some(source)) if send => {
                Depth::Send(ProviderName { org: source.org, source: source.id, provider: state })
            }
            (None, _) => Depth::Show,
        };
        let run = DryRun {
            org,
            provider,
            rule: source.map(|source| source.consent.clone()),
            variables: variables(&subject, event, true),
            subject,
            depth,
            began,
            now,
        };
        if kind == ProviderKind::Profile {
            let source = source.ok_or_else(|| Error::invalid("source_id"))?;
            return Ok(shown(self.dry_run_profile(source, run).await?));
        }
        let owner = source.map_or(org, |source| source.org);
        Ok(shown(self.app.enrichment.dry_run(&self.app.stores, owner, run).await?))
    }

    /// Tries the first look-up that is made for a visitor.
    async fn dry_run_profile(&self, source: &Source, run: DryRun) -> Result<Shown> {
        let Some(plan) = profile::linked(&self.app, source, run.provider.clone()).await? else {
            return Ok(Shown::nothing("not_configured"));
        };
        let carried = Visitor::described(run.subject.clone(), None).carried;
        let tools = &self.app.enrichment.tools;
        run.run(tools, &self.app.stores, plan.need, |variables| plan.first(variables, &carried)).await
    }

    /// Tells how a provider is.
    pub(super) async fn status(&self, request: ProviderStatusRequest) -> Result<ProviderStatusResponse> {
        let (kind, now) = (request.kind(), clock::now());
        let snapshot = self.app.settings.newest().await?;
        let org = caller::organisation(&self.app, &request.org_id, "org_id").await?;
        let source = source_of(&snapshot, org, &request.source_id)?;
        let stored = |kind| source.provider(&request.name).filter(|stored| stored.kind == kind);
        let stored = match kind {
            ProviderKind::Unspecified | ProviderKind::Destination => return Err(Error::invalid("kind")),
            // One that was disabled has a past.
            ProviderKind::Enrichment => {
                vendors::find_enrichment(&request.name).ok_or_else(unknown)?;
                stored(settings::ProviderKind::Vendor)
            }
            ProviderKind::Custom => Some(stored(settings::ProviderKind::Custom).ok_or_else(unknown)?),
            ProviderKind::Profile if request.name == AMPERITY => source.profile_provider(AMPERITY),
            ProviderKind::Profile => return Err(unknown()),
        };
        let provider = if kind == ProviderKind::Profile { STATE.to_owned() } else { request.name.clone() };
        let name = ProviderName { org: source.org, source: source.id, provider };
        let stored = stored.map(AsRef::as_ref);
        Ok(told(self.app.enrichment.tools.status(&name, stored, now).await?))
    }
}

fn unknown() -> Error {
    Error::refused(ErrorReason::VendorNotFound)
}

/// Finds a source that `org` configured, or has the data of test keys of.
fn source_of<'a>(snapshot: &'a Snapshot, org: Uuid, id: &str) -> Result<&'a Arc<Source>> {
    let source = Uuid::try_parse(id).ok().and_then(|id| snapshot.source_of(org, id));
    source.ok_or_else(|| Error::invalid("source_id"))
}

fn shown(Shown { request, id, reason, status }: Shown) -> DryRunProviderResponse {
    let mut response = DryRunProviderResponse {
        id,
        reason: reason.to_owned(),
        status: status.map(u32::from),
        ..DryRunProviderResponse::default()
    };
    if let Some(request) = request {
        let headers = exchange::for_people(&request.headers);
        response.headers = headers.map(|(name, value)| (name.to_string(), value.to_owned())).collect();
        response.method = request.method.to_string();
        response.url = request.url.into();
        response.body = String::from_utf8_lossy(&request.body.unwrap_or_default()).into_owned();
    }
    response
}

fn told(status: Status) -> ProviderStatusResponse {
    let Status { backoff_until, refused_at, calls, breaker } = status;
    let breaker = match breaker {
        State::Closed => BreakerState::Closed,
        State::Open => BreakerState::Open,
        State::HalfOpen => BreakerState::HalfOpen,
    };
    let last_error = calls.last_error.zip(calls.last_error_at).map(|(reason, at)| ProviderError {
        reason,
        status: calls.last_status.and_then(|status| status.try_into().ok()),
        at: Some(clock::timestamp(at)),
    });
    ProviderStatusResponse {
        backoff_until: backoff_until.map(clock::timestamp),
        credentials_refused: refused_at.is_some(),
        last_success_at: calls.last_success_at.map(clock::timestamp),
        credentials_refused_at: refused_at.map(clock::timestamp),
        last_error,
        breaker: breaker.into(),
    }
}
