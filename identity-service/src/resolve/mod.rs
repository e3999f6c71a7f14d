//! Resolving browsers and users to canonical identities.

pub mod canonical_hints;
pub mod consent;
pub mod consent_writer;
pub mod contacts;
pub mod facts;
mod identify;
pub mod known_pairs;
pub mod link_token;
pub mod subject;
mod withdrawal;

use std::{cell::OnceCell, sync::Arc};

use metrics::counter;
use proto::{
    Reason,
    v1::{
        Cookie, ErrorReason, PendingSync, Refusal, RefusalReason, Resolution, ResolutionError, SameSite,
        Subject,
    },
};
use time::{Duration, OffsetDateTime};
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use self::{
    facts::{Known, Read},
    subject::Person,
};
use crate::{
    app::Core,
    error::{Error, Result},
    first_party_ids::{self, visit::Given},
    settings::{CollectHost, Source},
    storage::postgres::{erased, proofs::Digest},
    sync::{
        pending,
        view::{self, View},
    },
};

/// For whom subjects are resolved.
#[derive(Debug)]
pub struct Tenant {
    /// The organisation whose data is meant.
    pub org: Uuid,
    /// The source, where a key named it. Pending syncs need one.
    pub source: Option<Arc<Source>>,
    /// A visitor's browser: gets cookies, an anonymous ID where it has none, and short identifiers only.
    pub browser: bool,
    /// Identifiers are vouched for: a signed call, or an internal service.
    pub verified: bool,
    /// When a signed call was signed, where it says so.
    pub signed_at: Option<OffsetDateTime>,
    /// The collect host that was called.
    pub host: Option<CollectHost>,
    /// What a key's call takes of its organisation's share, for as long as it lasts.
    pub place: Option<OwnedSemaphorePermit>,
}

/// `_dfid` lives for 400 days, the longest that browsers keep a cookie.
const DFID_SECONDS: i64 = 400 * 24 * 60 * 60;

/// Resolves `subjects` in order. One that fails carries its error; the others count.
pub async fn resolve(
    core: &Core,
    tenant: &Tenant,
    subjects: Vec<Subject>,
    now: OffsetDateTime,
) -> Result<Vec<Resolution>> {
    let mut people = parse(core, tenant, subjects, now);
    let named: Vec<&Person> = people.iter().filter_map(|person| person.as_ref().ok()).collect();
    let mut read = facts::first(core, tenant, &named).await;
    refuse_erased(core, tenant, &mut people, &read, now).await?;

    let named: Vec<&Person> = people.iter().filter_map(|person| person.as_ref().ok()).collect();
    let mut outcomes = identify::all(core, tenant, &named, &mut read, now).await.into_iter();
    consent::read_rest(core, tenant.org, &named, &mut read).await;
    let unsaved = consent::replace(core, tenant.org, &named, &mut read, now).await;

    let contacts = contacts::new(core, tenant, &named, &read, now);
    let (mut given, ()) = tokio::join!(
        first_party_ids::visit::collect(core, tenant, &named, &mut read, &unsaved, now),
        contacts::store(core, tenant.org, contacts, now),
    );

    let mut resolutions = Vec::with_capacity(people.len());
    for person in people {
        let resolution = match person {
            Ok(mut person) => {
                let outcome = outcomes.next().unwrap_or_default();
                person.refusals.extend(outcome.refusals);
                count_refusals(&person.refusals);
                if person.anonymous_id().is_some_and(|id| unsaved.contains(id)) {
                    Err(Error::refused(ErrorReason::Unavailable))
                } else {
                    finish(core, tenant, person, outcome.merged, &mut read, &mut given, now).await
                }
            }
            Err(error) => Err(error),
        };
        // Labels that are literals cost no allocation.
        match &resolution {
            Ok(resolution) if resolution.created => {
                counter!("datafly_resolves_total", "outcome" => "created")
            }
            Ok(_) => counter!("datafly_resolves_total", "outcome" => "found"),
            Err(_) => counter!("datafly_resolves_total", "outcome" => "error"),
        }
        .increment(1);
        resolutions.push(resolution.unwrap_or_else(|error| failed(&error)));
    }
    Ok(resolutions)
}

fn count_refusals(refusals: &[Refusal]) {
    for refusal in refusals {
        let reason = match refusal.reason() {
            RefusalReason::DifferentUsers => "different_users",
            RefusalReason::TooManyLinks => "too_many_links",
            RefusalReason::InvalidProof => "invalid_proof",
            RefusalReason::Junk => "junk",
            RefusalReason::Unspecified => "unspecified",
        };
        counter!("datafly_link_refusals_total", "reason" => reason).increment(1);
    }
}

/// A signed call is mostly here within that. Whoever was erased can't be known again sooner, by fresh events.
const ON_TIME: Duration = Duration::seconds(5);

/// Refuses what was signed before somebody in it was erased: it would bring back what is gone. That can only be so
/// where somebody in it is unknown, or it comes late.
async fn refuse_erased(
    core: &Core,
    tenant: &Tenant,
    people: &mut [Result<Person>],
    read: &Read,
    now: OffsetDateTime,
) -> Result<()> {
    let Some(signed_at) = tenant.signed_at else { return Ok(()) };
    let is_late = now - signed_at > ON_TIME;
    let digests = |person: &Person| -> Vec<Digest> {
        person.ids().flat_map(|id| core.tombstones.digests(tenant.org, id)).collect()
    };
    let unknown = |person: &Person| person.ids().any(|id| read.canonical(id).is_none());
    let suspects = people.iter().flatten().filter(|person| is_late || unknown(person));
    let asked: Vec<Digest> = suspects.flat_map(digests).collect();
    if asked.is_empty() {
        return Ok(());
    }
    let find = async { erased::find(&mut *core.stores.connection().await?, tenant.org, &asked).await };
    let found = match find.await {
        Ok(found) => found,
        // While nothing can be stored, nothing is brought back either.
        Err(_) if !people.iter().flatten().any(unknown) => return Ok(()),
        Err(error) => return Err(error),
    };
    for person in people {
        if let Ok(known) = person
            && digests(known).iter().any(|digest| found.get(digest).is_some_and(|at| *at >= signed_at))
        {
            *person = Err(Error::refused(ErrorReason::Erased));
        }
    }
    Ok(())
}

/// Browsers without an ID share one that is made for the request.
fn parse(core: &Core, tenant: &Tenant, subjects: Vec<Subject>, now: OffsetDateTime) -> Vec<Result<Person>> {
    let minted = OnceCell::new();
    let mint = || tenant.browser.then(|| minted.get_or_init(|| Uuid::new_v4().to_string()).clone());
    let tokens = &core.link_tokens;
    let parsed = subjects.into_iter().map(|subject| Person::parse(subject, tenant, tokens, now, mint));
    let mut people: Vec<Result<Person>> = parsed.collect();
    // A request comes from one browser, whatever IDs its events name: cookies are for the one that counts in the end.
    let last = people.iter().rev().flatten().find_map(Person::browser).cloned();
    for person in people.iter_mut().flatten().filter(|person| person.browser() != last.as_ref()) {
        person.brought.leave_cookies();
    }
    people
}

/// Plans syncs, and puts the answer together.
async fn finish(
    core: &Core,
    tenant: &Tenant,
    person: Person,
    merged: Vec<Uuid>,
    read: &mut Read,
    given: &mut Given,
    now: OffsetDateTime,
) -> Result<Resolution> {
    // All of them: a link that could not be stored must not look as if it had been.
    if person.ids().any(|id| read.canonical(id).is_none()) {
        return Err(Error::refused(ErrorReason::Unavailable));
    }
    let known = read.canonical(&person.primary).ok_or_else(|| Error::refused(ErrorReason::Unavailable))?;
    let canonical = known.canonical;
    if let Some(anonymous_id) = person.anonymous_id()
        && person.is_read_ahead()
        && !read.was_guessed(canonical)
    {
        core.guesses.learn(tenant.org, anonymous_id, canonical);
    }
    let mut pending_syncs = Vec::new();
    if let (true, Some(source), Some(anonymous_id)) =
        (person.want_pending_syncs, &tenant.source, person.anonymous_id())
    {
        let planned = plan_syncs(core, tenant.org, source, anonymous_id, known, read, now).await;
        // The event has done its work; the next page will offer what this one can't.
        pending_syncs = planned.unwrap_or_else(|error| {
            serve::failing!(WARN, %error, "syncs can't be planned");
            Vec::new()
        });
    }
    let cookies = match (person.anonymous_id(), tenant.browser) {
        (Some(anonymous_id), true) => {
            let mut cookies = vec![dfid(anonymous_id, tenant.host.as_ref())];
            if given.browser == anonymous_id {
                cookies.append(&mut given.cookies);
            }
            cookies
        }
        _ => Vec::new(),
    };
    Ok(Resolution {
        canonical_id: canonical.to_string(),
        anonymous_id: person.anonymous_id().unwrap_or_default().to_owned(),
        created: known.created,
        merged_from: merged.iter().map(Uuid::to_string).collect(),
        refusals: person.refusals,
        pending_syncs,
        cookies,
        error: None,
    })
}

async fn plan_syncs(
    core: &Core,
    org: Uuid,
    source: &Source,
    anonymous_id: &str,
    known: Known,
    read: &mut Read,
    now: OffsetDateTime,
) -> Result<Vec<PendingSync>> {
    let stored = read.consent(anonymous_id).cloned();
    let stored = stored.ok_or_else(|| Error::refused(ErrorReason::Unavailable))?;
    let view = match read.take_syncs(known.canonical) {
        Some(view) => view,
        None if known.created => View::default(),
        None => view::view(core, org, known.canonical, now).await?,
    };
    let due = pending::due(source, &view, &stored, now);
    Ok(pending::offer(core, org, known.canonical, &due, now).await)
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

fn failed(error: &Error) -> Resolution {
    let reason = error.reason();
    let retry = matches!(
        reason,
        ErrorReason::Unavailable
            | ErrorReason::Overloaded
            | ErrorReason::DeadlineExceeded
            | ErrorReason::Internal
    );
    let message = match error {
        Error::Refused { field: Some(field), .. } => {
            format!("{} Field: {field}.", Reason::of(reason).message)
        }
        _ => Reason::of(reason).message.to_owned(),
    };
    Resolution {
        error: Some(ResolutionError { reason: reason.into(), message, retry }),
        ..Resolution::default()
    }
}
