//! The events of one request on their way into the log.

use std::sync::Arc;

use event_log::{Incoming, LogKeys, NewEvent, NotAnEvent, Place, PostgresLog};
use migrations::sealed::SealKeys;
use prost::Message;
use proto::{
    Reason,
    event::Envelope,
    v1::{CollectedEvent, ErrorReason, Resolution, ResolutionError, Subject},
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{backlog::Backlog, writer::LogWriter};
use crate::{
    auth::Tenant,
    clock,
    error::{Error, Result},
    identifiers::{self, Kind, Parsed},
    settings::{Environment, Source},
    storage::Stores,
};

/// Version of the envelope.
const SCHEMA: u32 = 1;
/// Most events of one request.
const MAX_EVENTS: usize = 1000;
/// Most bytes that the context of a request comes to, as each event is kept with it.
const MAX_CONTEXTS_BYTES: usize = 2 * 1024 * 1024;

/// Keeps events for delivery.
pub struct Keeper {
    keys: LogKeys,
    writer: LogWriter,
    /// The sources of which too much waits.
    pub backlog: Backlog,
}

/// The events that a request brings.
pub struct Brought {
    events: Vec<BroughtEvent>,
    batch_context: Vec<u8>,
    left_out: bool,
}

struct BroughtEvent {
    subject: usize,
    json: Vec<u8>,
    message_id: Option<String>,
    /// The subject's user ID, where it is one.
    user_id: Option<String>,
    sec_gpc: bool,
}

/// What became of the events of a request.
#[derive(Default)]
pub struct Kept {
    /// Number of events that are durable.
    pub events: usize,
    /// The reason for which none is, though some should be.
    pub error: Option<ResolutionError>,
}

impl Brought {
    /// Reads the events of a request to a source that keeps them; what is not to be kept is not looked at.
    pub fn read(
        tenant: &Tenant,
        subjects: &[Subject],
        events: Vec<CollectedEvent>,
        batch_context: Vec<u8>,
        left_out: bool,
    ) -> Result<Option<Self>> {
        if !tenant.source.as_ref().is_some_and(|source| source.keeps_events) {
            return Ok(None);
        }
        if events.len() > MAX_EVENTS {
            return Err(Error::invalid("events"));
        }
        if events.len().saturating_mul(batch_context.len()) > MAX_CONTEXTS_BYTES {
            return Err(Error::refused(ErrorReason::EventTooLarge));
        }
        if !batch_context.is_empty() {
            Incoming::read(&batch_context).map_err(|_| Error::invalid("batch_context"))?;
        }
        let read = |(at, CollectedEvent { subject, json }): (usize, CollectedEvent)| {
            let place = usize::try_from(subject).unwrap_or(usize::MAX);
            let own = subjects.get(place).ok_or_else(|| Error::invalid(format!("events[{at}].subject")))?;
            let message_id = match Incoming::read(&json) {
                Ok(event) => event.message_id.map(std::borrow::Cow::into_owned),
                Err(NotAnEvent::TooLarge) => return Err(Error::refused(ErrorReason::EventTooLarge)),
                Err(NotAnEvent::NoObject) => return Err(Error::invalid(format!("events[{at}].json"))),
            };
            let user_id = own.user_id.as_deref().and_then(|text| user_id(tenant, text));
            let sec_gpc = own.consent.as_ref().is_some_and(|consent| consent.sec_gpc);
            Ok(BroughtEvent { subject: place, json, message_id, user_id, sec_gpc })
        };
        let events = events.into_iter().enumerate().map(read).collect::<Result<_>>()?;
        Ok(Some(Self { events, batch_context, left_out }))
    }
}

/// A user ID as it counts; none for a placeholder, of everybody's or the source's own, and for what is none.
fn user_id(tenant: &Tenant, text: &str) -> Option<String> {
    let Parsed::Ok(id) = identifiers::parse(Kind::UserId, text, identifiers::MAX_BYTES) else { return None };
    let own = tenant.source.as_ref().map_or(&[][..], |source| &source.placeholders);
    let word = id.value.trim().to_lowercase();
    (!own.contains(&word)).then_some(id.value)
}

impl Keeper {
    /// Starts the work on what is to be kept, which goes on as long as the runtime.
    pub fn start(stores: &Stores, log: PostgresLog, keys: Arc<SealKeys>) -> Self {
        let writer = LogWriter::start(stores, log);
        Self { keys: LogKeys::derive(keys), writer, backlog: Backlog::default() }
    }

    /// Makes the events durable whose subjects could be resolved.
    pub async fn keep(
        &self,
        tenant: &Tenant,
        brought: Brought,
        resolutions: &[Resolution],
        now: OffsetDateTime,
    ) -> Kept {
        let Some(source) = &tenant.source else { return Kept::default() };
        if brought.left_out {
            // They are sent along from now on; those of this request are to come again.
            return Kept::failed(ErrorReason::Unavailable);
        }
        let events = self.seal(tenant, source, brought, resolutions, now);
        let count = events.len();
        if events.is_empty() {
            return Kept::default();
        }
        if self.backlog.is_full(source.id) {
            return Kept::failed(ErrorReason::Overloaded);
        }
        match self.writer.append(tenant.org, events).await {
            Ok(()) => Kept { events: count, error: None },
            Err(error) => Kept::failed(error.reason()),
        }
    }

    fn seal(
        &self,
        tenant: &Tenant,
        source: &Source,
        brought: Brought,
        resolutions: &[Resolution],
        now: OffsetDateTime,
    ) -> Vec<NewEvent> {
        let Brought { events, batch_context, .. } = brought;
        let mut cipher = None;
        let mut sealed = Vec::with_capacity(events.len());
        for event in events {
            let Some(resolution) = resolutions.get(event.subject).filter(|own| own.error.is_none()) else {
                continue;
            };
            let Ok(canonical) = Uuid::try_parse(&resolution.canonical_id) else { continue };
            let visitor = Some(&resolution.anonymous_id).filter(|id| !id.is_empty());
            let visitor = visitor.or(event.user_id.as_ref()).unwrap_or(&resolution.canonical_id);
            let id = event.message_id.map_or_else(Uuid::now_v7, |message_id| {
                event_log::of_message(source.id, visitor, &message_id)
            });
            let place = Place::at(tenant.org, source.id, id, now);
            let envelope = Envelope {
                schema: SCHEMA,
                event_id: id.to_string(),
                org_id: tenant.org.to_string(),
                source_id: source.id.to_string(),
                pipeline_id: source.pipeline.to_string(),
                test: tenant.environment == Environment::Test,
                canonical_id: resolution.canonical_id.clone(),
                anonymous_id: resolution.anonymous_id.clone(),
                received_at: Some(clock::timestamp(now)),
                client_ip: tenant.client_ip.clone().unwrap_or_default(),
                user_agent: tenant.user_agent.clone().filter(|_| tenant.browser).unwrap_or_default(),
                sec_gpc: event.sec_gpc,
                signed: tenant.verified,
                json: event.json,
                batch_context: batch_context.clone(),
                user_id: event.user_id.unwrap_or_default(),
            };
            let cipher = cipher.get_or_insert_with(|| self.keys.cipher(source.id, place.day));
            let body = cipher.seal(place, &envelope.encode_to_vec());
            sealed.push(NewEvent { place, canonical, received_at: now, body });
        }
        sealed
    }
}

impl Kept {
    fn failed(reason: ErrorReason) -> Self {
        let message = Reason::of(reason).message.to_owned();
        Self { events: 0, error: Some(ResolutionError { reason: reason.into(), message, retry: true }) }
    }
}
