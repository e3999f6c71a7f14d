//! Authenticating a request to a collect host, from memory.

use std::sync::Arc;

use metrics::counter;
use proto::v1::{CollectCaller, ErrorReason};
use serve::Authority;
use time::OffsetDateTime;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::signature::{self, Check, SignedAt};
use crate::{
    error::{Error, Result},
    settings::{CollectHost, Environment, PipelineKey, Snapshot, Source},
};

/// Longest pipeline key that is looked at, in bytes.
const MAX_KEY_BYTES: usize = 128;

/// A request that may proceed.
#[derive(Debug)]
pub struct Authenticated {
    /// ID of the key.
    pub key: Uuid,
    /// The source that its key opens.
    pub source: Arc<Source>,
    /// The environment, live or test, that it is for.
    pub environment: Environment,
    /// The organisation whose data it reaches.
    pub org: Uuid,
    /// The time of signing of a customer's server, known by its signature; none for a browser or an app.
    pub signed_at: Option<SignedAt>,
    /// The source's collect host that it was sent to; of a signed call by another host the source's first, if it has
    /// one.
    pub host: Option<Arc<CollectHost>>,
    /// The place that it takes in its organisation's limit on calls; held while it is worked on.
    pub place: OwnedSemaphorePermit,
}

/// A request's purpose, which says what may be done without a signature where the source requires one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Send events, for which nothing stands in for the signature.
    Send,
    /// Have a link token made, which is a page's of the source, known by its Origin, or a server's: anybody may call
    /// without an Origin, and a token for another's identity takes whoever follows its link there.
    Link,
    /// Begin a sync. The browser asks with an image, which can carry no signature, so that a source that
    /// requires signatures would have no syncs at all. Nothing is said about anybody by it: a visitor whom no
    /// signed call has made known is unknown at the callback, consent is what a signed call has stored, and
    /// what comes back is bound to a state that we sealed. As everywhere, people who know an anonymous ID can
    /// have their own browsers synced for it.
    Sync,
    /// Send events whose body has not been read yet, so that there is nothing to check a signature against.
    Announce,
}

/// A request whose body has not been read yet, and may be.
#[derive(Debug)]
pub struct Announced {
    /// The source that its key opens.
    pub source: Arc<Source>,
    /// The environment, live or test, that it is for.
    pub environment: Environment,
    /// The organisation whose data it reaches.
    pub org: Uuid,
}

/// Checks what can be checked of a request before its body, as [`authenticate`] does: the key, and of who does not sign
/// the host and the Origin. It costs the key nothing.
pub fn announce(snapshot: &Snapshot, caller: &CollectCaller, now: OffsetDateTime) -> Result<Announced> {
    match admit(snapshot, caller, Purpose::Announce, now) {
        Ok((key, org, _)) => Ok(Announced { source: key.source.clone(), environment: key.environment, org }),
        Err(error) => {
            count(Some(&error));
            Err(error)
        }
    }
}

/// Checks the key, then the signature if there is one or the source requires it, else that the host is one of the
/// source's, and the Origin if there is one; then whether the organisation has a place for the request, and the key's
/// rate enough for its events. Each event costs one, and a request costs at least `subjects`.
pub fn authenticate(
    snapshot: &Snapshot,
    caller: &CollectCaller,
    purpose: Purpose,
    subjects: usize,
    now: OffsetDateTime,
) -> Result<Authenticated> {
    let result = check(snapshot, caller, purpose, subjects, now);
    count(result.as_ref().err());
    result
}

fn count(refused: Option<&Error>) {
    match refused {
        None => counter!("datafly_key_checks_total", "outcome" => "ok"),
        Some(Error::Refused { reason: ErrorReason::OriginNotAllowed, .. }) => {
            counter!("datafly_key_checks_total", "outcome" => "origin")
        }
        Some(Error::Refused { reason: ErrorReason::HostNotAllowed, .. }) => {
            counter!("datafly_key_checks_total", "outcome" => "host")
        }
        Some(Error::Refused { reason: ErrorReason::InvalidSignature, .. }) => {
            counter!("datafly_key_checks_total", "outcome" => "signature")
        }
        Some(Error::Refused { reason: ErrorReason::SignatureExpired, .. }) => {
            counter!("datafly_key_checks_total", "outcome" => "signature_expired")
        }
        Some(Error::Refused { reason: ErrorReason::Overloaded, .. }) => {
            counter!("datafly_key_checks_total", "outcome" => "overloaded")
        }
        Some(Error::RateLimited { .. }) => counter!("datafly_key_checks_total", "outcome" => "rate"),
        Some(_) => counter!("datafly_key_checks_total", "outcome" => "key"),
    }
    .increment(1);
}

/// Finds the caller's key, the organisation whose data it reaches, and the source's collect host that was called.
fn admit<'a>(
    snapshot: &'a Snapshot,
    caller: &CollectCaller,
    purpose: Purpose,
    now: OffsetDateTime,
) -> Result<(&'a PipelineKey, Uuid, Option<&'a Arc<CollectHost>>)> {
    let invalid_key = || Error::refused(ErrorReason::InvalidPipelineKey);
    if caller.pipeline_key.len() > MAX_KEY_BYTES {
        return Err(invalid_key());
    }
    // Missing, malformed, unknown and revoked keys take the same path: a look-up in memory.
    let key = snapshot.key(&caller.pipeline_key).ok_or_else(invalid_key)?;
    let org = key.source.data_org(key.environment).ok_or_else(invalid_key)?;
    let host = Authority::parse(&caller.host).and_then(|host| key.source.collect_host(&host));
    if let Some(header) = &caller.signature {
        let body = caller.signed_body.as_deref().unwrap_or_default();
        let timestamp = caller.timestamp.as_deref();
        let is_stamped = timestamp.is_some() || !key.source.require_timestamp;
        // A body that has not come yet is not judged.
        let checked = match purpose {
            Purpose::Announce => Check::Verified,
            _ => signature::check(&key.source.secrets, header, timestamp, body, now),
        };
        match checked {
            Check::Verified if is_stamped => {}
            Check::Expired => return Err(Error::refused(ErrorReason::SignatureExpired)),
            Check::Verified | Check::Refused => return Err(Error::refused(ErrorReason::InvalidSignature)),
        }
    } else if key.source.require_signature && purpose != Purpose::Sync {
        return Err(Error::refused(ErrorReason::InvalidSignature));
    } else if host.is_none() {
        // A key is public. Obeyed at a host of another's, it would reach the cookies of that one's visitors.
        if let Some(host) = key.source.refused_host.note(&caller.host, now) {
            tracing::warn!(source = %key.source.id, host, "called by a host that is no collect host of the source");
        }
        return Err(Error::refused(ErrorReason::HostNotAllowed));
    } else if !caller
        .origin
        .as_deref()
        .map_or(purpose != Purpose::Link, |header| key.source.origins.iter().any(|origin| origin.is(header)))
    {
        return Err(Error::refused(ErrorReason::OriginNotAllowed));
    }
    Ok((key, org, host))
}

fn check(
    snapshot: &Snapshot,
    caller: &CollectCaller,
    purpose: Purpose,
    subjects: usize,
    now: OffsetDateTime,
) -> Result<Authenticated> {
    let (key, org, host) = admit(snapshot, caller, purpose, now)?;
    // The place first: what finds none must not have cost its events.
    let place = key.calls.take().ok_or_else(|| Error::refused(ErrorReason::Overloaded))?;
    key.last_use.mark(now.date());
    let cost = subjects.max(usize::try_from(caller.events).unwrap_or(usize::MAX));
    key.rate.take(cost).map_err(|delay| Error::RateLimited { delay })?;
    let signed_at = caller.signature.as_ref().map(|_| SignedAt::of_header(caller.timestamp.as_deref()));
    Ok(Authenticated {
        key: key.id,
        source: key.source.clone(),
        environment: key.environment,
        org,
        signed_at,
        host: host.or_else(|| key.source.collect_hosts.first()).cloned(),
        place,
    })
}

/// True where a page of `origin` may call `host`: some source that collects there lists it, and takes calls
/// without a signature.
pub fn origin_allowed(snapshot: &Snapshot, host: &str, origin: &str) -> bool {
    let lists = |source: &Source| source.origins.iter().any(|own| own.is(origin));
    let on_host = Authority::parse(host).map_or(&[][..], |host| snapshot.on_host(&host));
    on_host.iter().any(|source| !source.require_signature && lists(source))
}
