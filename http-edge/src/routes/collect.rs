//! `POST /v1/batch`, `/v1/t`, `/v1/p`, `/v1/i`: events in, one call to the core, an answer per event.

use std::{borrow::Cow, collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{ConnectInfo, Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, header, request::Parts};
use proto::v1::{
    AuthenticateRequest, CollectCaller, CollectedEvent, ErrorReason, Resolution, ResolveRequest, Subject,
};
use serde::{Deserialize, de::IgnoredAny};
use serve::discard;
use tracing::error;

use super::{
    Edge,
    answer::{Answer, Pending, Rejected},
    cors,
    document::{Batch, EventBody},
    no_store, set_cookies, warnings,
};
use crate::{
    caller,
    cookies::{self, BrowserCookies},
    core_client::Trace,
    error::ApiError,
    event::{self, Event},
    subjects,
    throttle::Sender,
    vendor_cookies::{Names, VendorCookies},
};

/// Answers `{"batch":[…]}` with 200, and the errors of single events by their index.
#[utoipa::path(post, path = "/v1/batch", request_body = Batch, responses((status = 200, body = Answer)))]
pub async fn batch(
    State(edge): State<Arc<Edge>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    collect(&edge, peer, request, event::split, |answer| Json(answer).into_response()).await
}

/// Answers a body that is one event: the event's error is the answer's.
#[utoipa::path(post, path = "/v1/t", request_body = EventBody, responses((status = 200, body = Answer)))]
pub async fn single(
    State(edge): State<Arc<Edge>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    collect(&edge, peer, request, event::single, |mut answer| match answer.errors.pop() {
        Some(rejected) => rejected.error.into_response(),
        None => Json(answer).into_response(),
    })
    .await
}

/// Time after which events that could not be kept may be sent again.
const EVENTS_DELAY: Duration = Duration::from_secs(2);

type Split = fn(&[u8]) -> Result<event::Body<'_>, ErrorReason>;
type Write = fn(Answer) -> Response;

async fn collect(edge: &Edge, peer: SocketAddr, request: Request, split: Split, write: Write) -> Response {
    let (parts, body) = request.into_parts();
    let (caller, mut sender) = match edge.sender(&parts, peer) {
        Ok(known) => known,
        Err(error) => return error.into_response(),
    };
    let signed = caller.signature.is_some();
    // Before the body: what is refused here must cost next to nothing.
    let result = match edge.admit(&parts, &caller, &mut sender).await {
        // Boxed, as each layer around would be moved with the room for it.
        Ok(()) => Box::pin(take(edge, &parts, body, caller, &mut sender, split, write)).await,
        Err(error) => {
            discard(&parts.headers, body).await;
            Err(error)
        }
    };
    match result {
        Ok(response) => response,
        Err(error) if signed => error.into_response(),
        Err(error) => Box::pin(cors::readable(edge, &parts, peer, &sender, error)).await,
    }
}

async fn take(
    edge: &Edge,
    parts: &Parts,
    body: Body,
    mut caller: CollectCaller,
    sender: &mut Sender,
    split: Split,
    write: Write,
) -> Result<Response, ApiError> {
    let signed = caller.signature.is_some();
    let mut body = edge.bodies.read(&parts.headers, body, sender.holder(), sender.signs()).await?;
    let split = split(body.content())?;
    let count = split.events.len();
    sender.admit(count)?;
    caller.events = u32::try_from(count).unwrap_or(u32::MAX);
    let has_cookie = !signed && !cookies::anonymous_ids(&parts.headers).is_empty();
    let wants_syncs = split.wants_syncs;
    let key = sender.holder().key;
    let leaves_out = edge.without_delivery.contains(key);
    let context = split.context.filter(|_| !leaves_out).map(|context| context.get().as_bytes().to_vec());
    let (mut events, mut errors) = parse(split, event::Sender { signs: signed, has_cookie });
    let wants_syncs =
        wants_syncs.unwrap_or_else(|| events.first().is_some_and(|(_, _, event)| !event.no_syncs));
    let wants_syncs = wants_syncs && may_sync(&parts.headers);
    let mut warnings = warnings::of_events(&mut events);

    let kind = kind_of_path(parts.uri.path());
    let raw: Vec<Cow<'_, str>> =
        if leaves_out { Vec::new() } else { events.iter().map(|(_, raw, _)| with_kind(raw, kind)).collect() };
    let groups = subjects::collapse(events);
    let brought = Brought {
        events: subjects::events(&groups, &raw),
        batch_context: context.unwrap_or_default(),
        left_out: leaves_out,
    };
    let origin = caller.origin.clone().filter(|_| !signed);
    let vendor_cookies = vendor_cookies(edge, &parts.headers, signed).await;
    let vendor_cookies =
        vendor_cookies.inspect_err(|error| edge.throttle.learn(sender, count, Some(error)))?;
    let browser_cookies = (!signed).then(|| BrowserCookies::read(&parts.headers, &vendor_cookies));
    let subjects = subjects::subjects(&groups, &parts.headers, browser_cookies.as_ref(), wants_syncs);
    let groups: Vec<_> = groups.into_iter().map(|group| (group.indices, group.consent_of)).collect();
    caller.signed_body = signed.then(|| std::mem::take(&mut body.sent));
    let answered = call(edge, &caller::trace(&parts.headers), caller, subjects, brought).await;
    edge.throttle.learn(sender, count, answered.as_ref().err());
    let Answered { resolutions, keeps_events, events_error } = answered?;
    if let Some(keeps_events) = keeps_events {
        edge.without_delivery.learn(key, leaves_out, keeps_events);
    }
    let (mut anonymous_id, mut pending_syncs, mut jar) = (None, Vec::new(), BTreeMap::new());
    for ((indices, consent_of), resolution) in groups.into_iter().zip(resolutions) {
        if let Some((error, retry)) = rejection(&resolution) {
            errors.extend(indices.into_iter().map(|index| Rejected { index, error: error.clone(), retry }));
        } else {
            warnings::add(&mut warnings, &resolution, &indices, consent_of);
            anonymous_id = Some(resolution.anonymous_id).filter(|id| !id.is_empty()).or(anonymous_id);
            pending_syncs = resolution.pending_syncs;
            jar.extend(resolution.cookies.into_iter().map(|cookie| (cookie.name.clone(), cookie)));
        }
    }
    errors.sort_unstable_by_key(|rejected| rejected.index);
    let accepted = count.saturating_sub(errors.len());
    measure(accepted, &errors, events_error.as_ref());

    // Cookies are set all the same: a first visitor would be somebody new with each try.
    let mut response = if let Some(error) = events_error {
        error.into_response()
    } else {
        write(Answer {
            success: true,
            accepted,
            warnings: warnings::of_taken(warnings, |index| {
                errors.binary_search_by_key(&index, |error| error.index).is_ok()
            }),
            errors,
            anonymous_id,
            pending_syncs: pending_syncs.into_iter().map(Pending::from).collect(),
        })
    };
    no_store(&mut response);
    if let Some(origin) = origin {
        cors::allow_origin(&mut response, &origin);
    }
    if !signed {
        // First, as a browser may take both for one.
        let with_domain = jar.get(cookies::DFID).filter(|cookie| cookie.domain.is_some());
        let stale = with_domain.filter(|_| cookies::has_several_ids(&parts.headers));
        set_cookies(&mut response, stale.map(cookies::end_host_only).as_ref());
        set_cookies(&mut response, jar.values());
    }
    Ok(response)
}

/// The kind of an event that says none, by where it was sent; none where it is a track.
fn kind_of_path(path: &str) -> Option<&'static str> {
    match path.rsplit('/').next() {
        Some("p") => Some("page"),
        Some("i") => Some("identify"),
        _ => None,
    }
}

/// An event as it was sent, with its kind where it says none itself.
fn with_kind<'a>(raw: &'a str, kind: Option<&'static str>) -> Cow<'a, str> {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type")]
        kind: Option<IgnoredAny>,
    }
    let Some(kind) = kind else { return Cow::Borrowed(raw) };
    let says_none = serde_json::from_str::<Kind>(raw).is_ok_and(|own| own.kind.is_none());
    match raw.trim_end().strip_suffix('}') {
        // At the end, where it counts before a null of that name.
        Some(open) if says_none => {
            let comma = if open.trim_end().ends_with('{') { "" } else { "," };
            Cow::Owned(format!(r#"{open}{comma}"type":"{kind}"}}"#))
        }
        _ => Cow::Borrowed(raw),
    }
}

/// Names of the vendors' cookies, where the request may have some.
async fn vendor_cookies(edge: &Edge, headers: &HeaderMap, signed: bool) -> Result<Names, ApiError> {
    if signed || !headers.contains_key(header::COOKIE) {
        return Ok(VendorCookies::none());
    }
    Ok(edge.vendor_cookies.names(&edge.core).await?)
}

/// True where somebody can act on a sync: not of a page that was only fetched ahead, nor of `sendBeacon`, whose answer
/// no script can read.
fn may_sync(headers: &HeaderMap) -> bool {
    let is_beacon = headers.get("sec-fetch-mode").is_some_and(|mode| mode == "no-cors");
    !is_beacon && !caller::is_speculative(headers)
}

/// Parses events into those that are valid, with their indices and as they were sent, and the errors of the others.
/// What is wrong with the batch's own context is told of the first of them.
fn parse(body: event::Body<'_>, sender: event::Sender) -> (Vec<(usize, &str, Event<'_>)>, Vec<Rejected>) {
    let (mut events, mut errors) = (Vec::with_capacity(body.events.len()), Vec::new());
    let mut shared = body.shared;
    for (index, raw) in body.events.into_iter().enumerate() {
        match Event::parse(raw, sender) {
            Ok(mut event) => {
                if let Some(shared) = &mut shared {
                    event.fill(shared);
                    event.left_out.append(&mut shared.left_out);
                }
                events.push((index, raw.get(), event));
            }
            Err(error) => errors.push(Rejected { index, error: error.into(), retry: false }),
        }
    }
    (events, errors)
}

/// The events of a request, for the core to keep.
struct Brought {
    events: Vec<CollectedEvent>,
    batch_context: Vec<u8>,
    left_out: bool,
}

/// The core's answer to a request.
#[derive(Default)]
struct Answered {
    resolutions: Vec<Resolution>,
    /// True where events are to be sent along; none where the core was not asked.
    keeps_events: Option<bool>,
    /// The reason for which no event is kept, though they are to be.
    events_error: Option<ApiError>,
}

/// Makes the one call of a request. Where no event is valid the caller must be known all the same.
async fn call(
    edge: &Edge,
    trace: &Trace,
    caller: CollectCaller,
    subjects: Vec<Subject>,
    brought: Brought,
) -> Result<Answered, ApiError> {
    if subjects.is_empty() {
        let request = AuthenticateRequest { caller: Some(caller), before_body: false };
        Box::pin(edge.core.authenticate(trace, request)).await?;
        return Ok(Answered::default());
    }
    let asked = subjects.len();
    let Brought { events, batch_context, left_out } = brought;
    let caller = Some(caller::message(caller));
    let request = ResolveRequest { caller, subjects, events, batch_context, events_left_out: left_out };
    let answer = edge.core.resolve(trace, request).await?;
    let answered = answer.resolutions.len();
    if answered == asked {
        let events_error = answer.events_error.map(|error| ApiError::after(error.reason(), EVENTS_DELAY));
        return Ok(Answered {
            resolutions: answer.resolutions,
            keeps_events: Some(answer.keeps_events),
            events_error,
        });
    }
    error!(asked, answered, "the core's answer does not match");
    Err(ErrorReason::Unavailable.into())
}

/// Error of a subject, and true where the subject may pass later.
fn rejection(resolution: &Resolution) -> Option<(ApiError, bool)> {
    let error = resolution.error.as_ref()?;
    let message = Some(error.message.clone()).filter(|message| !message.is_empty());
    Some((ApiError::new(error.reason(), message), error.retry))
}

fn measure(accepted: usize, errors: &[Rejected], not_kept: Option<&ApiError>) {
    let count = |outcome, by| metrics::counter!("datafly_events_total", "outcome" => outcome).increment(by);
    count(not_kept.map_or("accepted", ApiError::code), u64::try_from(accepted).unwrap_or_default());
    for rejected in errors {
        count(rejected.error.code(), 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_what_an_event_is_that_does_not() {
        let kind = |path, raw: &str| with_kind(raw, kind_of_path(path)).into_owned();
        assert_eq!(kind("/v1/i", r#"{"userId":"u"}"#), r#"{"userId":"u","type":"identify"}"#);
        assert_eq!(kind("/v1/p", "{ }"), r#"{ "type":"page"}"#);
        assert_eq!(kind("/v1/p", r#"{"type":null}"#), r#"{"type":null,"type":"page"}"#);
        for (path, same) in [("/v1/i", r#"{"type":"track"}"#), ("/v1/t", "{}"), ("/v1/batch", "{}")] {
            assert_eq!(kind(path, same), same);
        }
    }
}
