//! The step from a `Caller` message to the tenant it speaks for.

use proto::v1::{Caller, ErrorReason, caller::Kind};
use serve::proxies::network;
use time::OffsetDateTime;
use tonic::Request;
use uuid::Uuid;

use crate::{
    app::App,
    auth::Tenant,
    auth::{
        pipeline_key::{self, Authenticated, Purpose},
        service_token::Roles,
    },
    error::{Error, Result},
    settings::Environment,
};

/// Returns the roles that the guard found.
pub fn roles<T>(request: &Request<T>) -> Roles {
    request.extensions().get().copied().unwrap_or_default()
}

/// Finds the tenant that `caller` speaks for: by its key, or by name where the service's role allows that. A
/// key pays for at least `subjects` events.
pub async fn tenant(
    app: &App,
    caller: Option<Caller>,
    roles: Roles,
    purpose: Purpose,
    subjects: usize,
    now: OffsetDateTime,
) -> Result<Tenant> {
    match caller.and_then(|caller| caller.kind) {
        None => Err(Error::invalid("caller")),
        Some(Kind::OrgId(org)) => {
            if !roles.internal {
                return Err(Error::refused(ErrorReason::RoleNotAllowed));
            }
            let org = organisation(app, &org, "caller.org_id").await?;
            Ok(Tenant {
                org,
                source: None,
                browser: false,
                verified: true,
                environment: Environment::Live,
                client_ip: None,
                network: None,
                user_agent: None,
                signed_at: None,
                own_origins: app.settings.current().await?.own_origins(org),
                host: None,
                place: None,
            })
        }
        Some(Kind::Collect(collect)) => {
            let snapshot = app.settings.current().await?;
            let known = pipeline_key::authenticate(&snapshot, &collect, purpose, subjects, now)?;
            let client_ip = collect.client_ip.filter(|_| known.signed_at.is_none());
            Ok(Tenant {
                org: known.org,
                source: Some(known.source),
                browser: known.signed_at.is_none(),
                verified: known.signed_at.is_some(),
                user_agent: collect.user_agent,
                environment: known.environment,
                network: client_ip.as_ref().and_then(|address| address.parse().ok()).map(network),
                client_ip,
                signed_at: known.signed_at,
                own_origins: snapshot.own_origins(known.org),
                host: known.host,
                place: Some(known.place),
            })
        }
    }
}

/// Authenticates a collect caller against the current settings; its key pays for at least `subjects` events.
pub async fn authenticate(
    app: &App,
    caller: &proto::v1::CollectCaller,
    purpose: Purpose,
    subjects: usize,
    now: OffsetDateTime,
) -> Result<Authenticated> {
    let snapshot = app.settings.current().await?;
    pipeline_key::authenticate(&snapshot, caller, purpose, subjects, now)
}

/// Reads an organisation that a service names in `field`; one that does not exist is refused as
/// ORG_NOT_FOUND.
pub async fn organisation(app: &App, id: &str, field: &str) -> Result<Uuid> {
    let org = Uuid::try_parse(id).map_err(|_| Error::invalid(field))?;
    if app.settings.current().await?.has_org(org) {
        Ok(org)
    } else {
        Err(Error::refused(ErrorReason::OrgNotFound))
    }
}
