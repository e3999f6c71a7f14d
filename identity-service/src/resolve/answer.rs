//! The answer for one subject.

use metrics::counter;
use proto::{
    Reason,
    v1::{
        Cookie, ErrorReason, PendingSync, Refusal, RefusalReason, Resolution, ResolutionError, SameSite,
        Warning, WarningCode,
    },
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Resolver,
    facts::{Facts, KnownIdentity},
    subject::Person,
};
use crate::{
    auth::Tenant,
    consent::ConsentRule,
    error::{Error, Result},
    first_party_ids::visit::Given,
    graph::transaction::Outcome,
    settings::{CollectHost, Source},
    storage::{cache_entries::ConsentEntry, mark::Mark},
    sync::{
        pending::{self, Asker},
        view::{self, View},
    },
};

/// Life of `_dfid`: 400 days, the longest that browsers keep a cookie.
const DFID_SECONDS: i64 = 400 * 24 * 60 * 60;

/// Message about a signed call that names somebody who was erased and does not say when it was signed.
const UNSTAMPED: &str = "The person was erased, and this may have been sent before: it does not say when it was signed. \
    Sign with X-Datafly-Timestamp, or give the event its timestamp (RFC 3339).";

/// Plans syncs, and puts the answer together.
#[expect(clippy::too_many_arguments, reason = "the parts of a request that ends here")]
pub async fn of_person(
    resolver: &Resolver,
    tenant: &Tenant,
    person: &mut Person,
    outcome: Outcome,
    saved: bool,
    facts: &mut Facts,
    given: &mut Given,
    now: OffsetDateTime,
) -> Result<Resolution> {
    person.refusals.extend(outcome.refusals);
    count_refusals(&person.refusals);
    if !saved {
        return Err(Error::refused(ErrorReason::Unavailable));
    }
    // All of them: a link that could not be stored must not look as if it had been.
    if person.claims.ids().any(|id| facts.canonical(id).is_none()) {
        return Err(Error::refused(ErrorReason::Unavailable));
    }
    let known =
        facts.canonical(&person.claims.primary).ok_or_else(|| Error::refused(ErrorReason::Unavailable))?;
    let canonical = known.canonical;
    if let Some(anonymous_id) = person.claims.anonymous_id()
        && person.mark.is_some()
        && !facts.was_hinted(canonical)
    {
        resolver.hints.learn(tenant.org, anonymous_id, canonical);
    }
    let mut pending_syncs = Vec::new();
    if let (true, Some(source), Some(anonymous_id)) =
        (person.want_pending_syncs, &tenant.source, person.claims.anonymous_id())
    {
        let planned =
            plan_syncs(resolver, tenant, source, (anonymous_id, person.mark), known, facts, now).await;
        // The event has done its work; the next page will offer what this one can't.
        pending_syncs = planned.unwrap_or_else(|error| {
            serve::warn_on_change!(WARN, %error, "syncs can't be planned");
            Vec::new()
        });
    }
    let cookies = match (person.claims.anonymous_id(), tenant.browser) {
        (Some(anonymous_id), true) => {
            let mut cookies = Vec::new();
            if !outcome.keeps_cookie {
                cookies.push(dfid(anonymous_id, tenant.host.as_deref()));
            }
            if given.browser == anonymous_id {
                cookies.append(&mut given.cookies);
            }
            cookies
        }
        _ => Vec::new(),
    };
    let warnings = not_understood(resolver, tenant, person, facts);
    Ok(Resolution {
        canonical_id: canonical.to_string(),
        anonymous_id: person.claims.anonymous_id().unwrap_or_default().to_owned(),
        created: known.created,
        merged_from: outcome.merged.iter().map(Uuid::to_string).collect(),
        refusals: std::mem::take(&mut person.refusals),
        pending_syncs,
        cookies,
        warnings,
        error: None,
    })
}

/// The warning about a consent object that came and in which nothing is known.
fn not_understood(resolver: &Resolver, tenant: &Tenant, person: &Person, facts: &Facts) -> Vec<Warning> {
    let came = person.consent.as_ref().is_some_and(|new| new.json.is_some());
    let rule = tenant.source.as_ref().map_or(&ConsentRule::NONE, |source| &source.consent);
    let own;
    let signals = match person.claims.anonymous_id() {
        _ if !came => return Vec::new(),
        Some(browser) => facts.consent(browser),
        None => {
            own = person.own_signals();
            Some(&own)
        }
    };
    let is_understood = |signals: &ConsentEntry| {
        let reads = || signals.signals().unknown_names(rule).is_none();
        resolver.understood.are_understood(signals.text().unwrap_or_default(), rule, reads)
    };
    if signals.is_none_or(is_understood) {
        return Vec::new();
    }
    counter!("datafly_consent_not_understood_total").increment(1);
    vec![Warning { code: WarningCode::ConsentNotUnderstood.into(), member: "context.consent".to_owned() }]
}

async fn plan_syncs(
    resolver: &Resolver,
    tenant: &Tenant,
    source: &Source,
    (anonymous_id, mark): (&str, Option<Mark>),
    known: KnownIdentity,
    facts: &mut Facts,
    now: OffsetDateTime,
) -> Result<Vec<PendingSync>> {
    let org = tenant.org;
    let unavailable = || Error::refused(ErrorReason::Unavailable);
    facts.consent(anonymous_id).ok_or_else(unavailable)?;
    let view = match facts.take_syncs(known.canonical, mark) {
        Some(view) => view,
        None if known.created => View::default(),
        // Boxed, as most calls have read it ahead and each would carry the room for this.
        None => Box::pin(view::view(&resolver.stores, org, known.canonical, Some(anonymous_id), now)).await?,
    };
    let consent = facts.consent(anonymous_id).ok_or_else(unavailable)?;
    let asker = Asker {
        org,
        source,
        consent,
        user_agent: tenant.user_agent.as_deref(),
        breakers: &resolver.breakers,
        now,
    };
    let due = pending::due(&asker, &view);
    Ok(pending::offer(&resolver.stores, org, known.canonical, &view, &due, now).await)
}

fn dfid(anonymous_id: &str, host: Option<&CollectHost>) -> Cookie {
    Cookie {
        name: "_dfid".to_owned(),
        value: anonymous_id.to_owned(),
        max_age_seconds: DFID_SECONDS,
        domain: host.and_then(|host| host.cookie_domain.clone()),
        path: "/".to_owned(),
        secure: !host.is_some_and(|host| host.is_http),
        http_only: true,
        same_site: SameSite::Lax.into(),
    }
}

/// The answer for a subject that failed.
pub fn failed(error: &Error) -> Resolution {
    let reason = error.reason();
    let retry = matches!(
        reason,
        ErrorReason::Unavailable
            | ErrorReason::Overloaded
            | ErrorReason::RateLimited
            | ErrorReason::DeadlineExceeded
            | ErrorReason::Internal
    );
    let message = match error {
        Error::Refused { field: Some(field), .. } => {
            format!("{} Field: {field}.", Reason::of(reason).message)
        }
        Error::Unstamped => UNSTAMPED.to_owned(),
        _ => Reason::of(reason).message.to_owned(),
    };
    Resolution {
        error: Some(ResolutionError { reason: reason.into(), message, retry }),
        ..Resolution::default()
    }
}

/// Counts the outcome of a subject.
pub fn count(resolution: &Resolution) {
    // Labels that are literals cost no allocation.
    match resolution {
        Resolution { error: Some(_), .. } => counter!("datafly_resolves_total", "outcome" => "error"),
        Resolution { created: true, .. } => counter!("datafly_resolves_total", "outcome" => "created"),
        _ => counter!("datafly_resolves_total", "outcome" => "found"),
    }
    .increment(1);
}

fn count_refusals(refusals: &[Refusal]) {
    for refusal in refusals {
        let reason = match refusal.reason() {
            RefusalReason::DifferentUsers => "different_users",
            RefusalReason::TooManyLinks => "too_many_links",
            RefusalReason::InvalidProof => "invalid_proof",
            RefusalReason::Junk => "junk",
            RefusalReason::Outdated => "outdated",
            RefusalReason::Reset => "reset",
            RefusalReason::Unspecified => "unspecified",
        };
        counter!("datafly_link_refusals_total", "reason" => reason).increment(1);
    }
}
