//! A page of events, made ready to be sent: opened, with what the core knows of their people, and mapped. What must not be
//! sent is told from what can.

use std::{ops::Range, sync::Arc, time::Duration};

use blueprint::destination::Kind;
use event_log::{LogKeys, OpenError, Position, StoredEvent};
use metrics::counter;
use prost::Message;
use proto::{
    event::Envelope,
    v1::{
        Audience, BatchProfileRequest, Caller, DeliveredEvent, IdentityRef, IdentityVendorIds,
        ProfileResponse, ProfileSubject, Subject, VendorIdsRequest, caller::Kind as CallerKind,
        identity_ref::Id,
    },
};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::Instant;
use tonic::Status;
use uuid::Uuid;

use crate::{
    core_client::CoreClient,
    destination::Destination,
    lane::{self, Lane},
    mapping::{Parsed, action_of, brought},
};

/// Time for which the core's word on an event counts.
const CHECKED_FOR: Duration = Duration::from_secs(5);
/// Most events that one question to the core has.
const MAX_ASKED: usize = 1000;
/// Most bytes of it; the core takes 4 MiB.
const MAX_ASKED_BYTES: usize = 3 * 1024 * 1024;
/// Bytes that a question has for each event beside what the event brings: a canonical ID and a browser's.
const REFERENCE_BYTES: usize = 400;
/// The reason of a destination whose events were sealed with a key that this process has not.
pub const UNKNOWN_KEY: &str = "encryption_key";
/// The word for an event of a person who was erased.
pub const ERASED: &str = "erased";
/// The provider of profiles that a source may have.
const PROFILES: &str = "amperity";

/// An event, ready to be sent or not to be.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Its place in the log.
    pub position: Position,
    /// Its lane.
    pub lane: Lane,
    /// Bytes that it has in the log.
    pub bytes: usize,
    /// The event as it is kept.
    pub event: Arc<OpenEvent>,
    /// What is to be done with it.
    pub action: Action,
    /// The time at which the core was asked; none where it has to be asked again.
    pub checked_at: Option<Instant>,
}

/// An event that was opened.
#[derive(Debug)]
pub struct OpenEvent {
    /// The organisation whose data it is.
    pub org: Uuid,
    /// The source that it came by.
    pub source: Uuid,
    /// The canonical identity at the time of its arrival.
    pub canonical: Uuid,
    /// Its ID.
    pub id: Uuid,
    /// The time of its arrival.
    pub received_at: OffsetDateTime,
    /// The envelope.
    pub envelope: Envelope,
}

/// What is to be done with an event.
#[derive(Debug, Clone)]
pub enum Action {
    /// It is sent.
    Send(Arc<Outgoing>),
    /// It is shown to whoever watches, and not sent: it came with a test key.
    Test(Arc<Outgoing>),
    /// It is not, which is as it should be; the word says why.
    Skip(&'static str),
    /// It can't be, ever.
    Dead(&'static str),
}

/// What is sent of an event.
#[derive(Debug)]
pub struct Outgoing {
    /// The ID that each repeat has.
    pub message_id: String,
    /// The payload.
    pub payload: String,
    /// Names of what was learned and is worth telling whoever watches.
    pub warnings: Vec<String>,
}

/// Makes events ready; an error where the core can't be asked, which says nothing of them.
pub struct Preparer {
    /// Keys of the log.
    pub keys: Arc<LogKeys>,
    /// The core.
    pub core: CoreClient,
}

impl Preparer {
    /// Opens an event of the log; none where it is damaged, which can't be mended. Of an unknown key it is an error.
    pub fn open(&self, stored: &StoredEvent) -> Result<Option<OpenEvent>, Status> {
        let opened = self.keys.open(stored.place, &stored.body);
        if let Err(error) = &opened {
            serve::warn_on_change!(ERROR, %error, source = %stored.place.source, "an event can't be opened");
        }
        if matches!(opened, Err(OpenError::UnknownKey)) {
            return Err(Status::failed_precondition(UNKNOWN_KEY));
        }
        let envelope = opened.ok().and_then(|plain| Envelope::decode(plain.as_slice()).ok());
        Ok(envelope.map(|envelope| of(stored, without_proofs(envelope))))
    }

    /// Makes the events of a page ready, in order. Those before one of an unknown key are all that are read.
    pub async fn page(
        &self,
        destination: &Destination,
        stored: Vec<StoredEvent>,
    ) -> Result<Vec<Prepared>, Status> {
        let mut events: Vec<(Position, usize, Arc<OpenEvent>)> = Vec::with_capacity(stored.len());
        for stored in stored {
            let event = match self.open(&stored) {
                Ok(event) => event.unwrap_or_else(|| of(&stored, Envelope::default())),
                Err(status) if events.is_empty() => return Err(status),
                Err(_) => break,
            };
            events.push((stored.position, stored.body.len(), Arc::new(event)));
        }
        let actions = self.actions(destination, events.iter().map(|(_, _, event)| event.as_ref())).await?;
        let checked_at = Some(Instant::now());
        let ready = events.into_iter().zip(actions).map(|((position, bytes, event), action)| Prepared {
            position,
            lane: lane::of(&event.envelope),
            bytes,
            event,
            action,
            checked_at,
        });
        Ok(ready.collect())
    }

    /// Says of each event what is to be done with it, by one question for IDs and one for profiles, or as many as their
    /// bounds ask for.
    pub async fn actions<'e>(
        &self,
        destination: &Destination,
        events: impl Iterator<Item = &'e OpenEvent> + Clone,
    ) -> Result<Vec<Action>, Status> {
        let mut actions: Vec<Option<Action>> = events.clone().map(|_| None).collect();
        // Live and test data are of two organisations, and each question is of one.
        let orgs: std::collections::BTreeSet<Uuid> = events.clone().map(|event| event.org).collect();
        for org in orgs {
            let own: Vec<(usize, &OpenEvent)> =
                events.clone().enumerate().filter(|(_, event)| event.org == org).collect();
            let parsed: Vec<Option<Parsed<'_>>> =
                own.iter().map(|(_, event)| Parsed::of(&event.envelope)).collect();
            let brought: Vec<DeliveredEvent> = own
                .iter()
                .zip(&parsed)
                .map(|((_, event), parsed)| brought(&event.envelope, parsed.as_ref()))
                .collect();
            let mut people = Vec::with_capacity(own.len());
            for part in parts(&brought) {
                let (own, brought) = (slice(&own, &part), slice(&brought, &part).to_vec());
                people.extend(self.people(destination, org, own, brought).await?);
            }
            let profiles = self.profiles(destination, org, &own, &parsed, &people).await;
            for (at, (((place, event), parsed), person)) in own.iter().zip(&parsed).zip(people).enumerate() {
                let profile = profiles.get(at);
                if let Some(action) = actions.get_mut(*place) {
                    *action = Some(action_of(destination, event, parsed.as_ref(), person, profile));
                }
            }
        }
        Ok(actions.into_iter().map(|action| action.unwrap_or(Action::Dead("unreadable"))).collect())
    }

    async fn people(
        &self,
        destination: &Destination,
        org: Uuid,
        own: &[(usize, &OpenEvent)],
        events: Vec<DeliveredEvent>,
    ) -> Result<Vec<IdentityVendorIds>, Status> {
        let program = &destination.program;
        let mut match_keys: Vec<String> = program.match_key_vendors().into_iter().collect();
        match_keys.extend(destination.settings.match_keys.iter().cloned());
        match_keys.sort_unstable();
        match_keys.dedup();
        let fields = match destination.kind {
            Kind::Amperity => program.vendor_fields().into_iter().collect(),
            Kind::Webhook => Vec::new(),
        };
        let identity = |(_, event): &(usize, &OpenEvent)| IdentityRef {
            id: Some(Id::CanonicalId(event.canonical.to_string())),
            browser: Some(event.envelope.anonymous_id.clone()).filter(|id| !id.is_empty()),
        };
        let request = VendorIdsRequest {
            org_id: org.to_string(),
            identities: own.iter().map(identity).collect(),
            fields,
            source_id: Some(destination.source.to_string()),
            consent_category: destination.settings.consent_category.clone(),
            match_keys,
            events,
        };
        let asked = own.len();
        let found = self.core.vendor_ids(request).await?.identities;
        if found.len() == asked {
            Ok(found)
        } else {
            Err(Status::internal("the core's answer does not match"))
        }
    }

    /// The profiles, in order; none at all where there is no provider, or it can't be asked: an event is not held up.
    async fn profiles(
        &self,
        destination: &Destination,
        org: Uuid,
        own: &[(usize, &OpenEvent)],
        parsed: &[Option<Parsed<'_>>],
        people: &[IdentityVendorIds],
    ) -> Vec<ProfileResponse> {
        if !destination.has_profiles || !people.iter().any(|person| person.allowed) {
            return Vec::new();
        }
        let subject = |((_, event), parsed): (&(usize, &OpenEvent), &Option<Parsed<'_>>)| {
            let text = |names: &[&str]| parsed.as_ref()?.facts.trait_text(names).map(str::to_owned);
            let envelope = &event.envelope;
            let event = serde_json::from_slice::<Value>(&envelope.json).ok();
            let event = event.and_then(|event| match event {
                Value::Object(event) => Some(proto::json::document(event)),
                _ => None,
            });
            ProfileSubject {
                subject: Some(Subject {
                    anonymous_id: Some(envelope.anonymous_id.clone()).filter(|id| !id.is_empty()),
                    user_id: Some(envelope.user_id.clone()).filter(|id| !id.is_empty()),
                    email: text(&["email"]),
                    phone: text(&["phone"]),
                    email_sha256: text(&["email_sha256", "emailSha256"]),
                    phone_sha256: text(&["phone_sha256", "phoneSha256"]),
                    ..Subject::default()
                }),
                event,
            }
        };
        let subjects: Vec<ProfileSubject> = own.iter().zip(parsed).map(subject).collect();
        let mut profiles = Vec::with_capacity(own.len());
        for part in parts(&subjects) {
            let asked = part.len();
            let request = BatchProfileRequest {
                caller: Some(Caller { kind: Some(CallerKind::OrgId(org.to_string())) }),
                provider: PROFILES.to_owned(),
                subjects: slice(&subjects, &part).to_vec(),
                audience: Audience::Server.into(),
                source_id: Some(destination.source.to_string()),
            };
            match self.core.batch_profile(request).await {
                Ok(answer) if answer.profiles.len() == asked => profiles.extend(answer.profiles),
                _ => {
                    let failed = u64::try_from(own.len()).unwrap_or_default();
                    counter!("datafly_mapping_problems_total", "vendor" => destination.vendor, "problem" => "profiles")
                        .increment(failed);
                    return Vec::new();
                }
            }
        }
        profiles
    }
}

/// The envelope without the proofs of who the visitor is, which are for us alone: they are neither sent nor shown.
fn without_proofs(mut envelope: Envelope) -> Envelope {
    if let Some(json) = blueprint::proofs::of_event(&envelope.json) {
        envelope.json = json;
    }
    if let Some(json) = blueprint::proofs::of_context(&envelope.batch_context) {
        envelope.batch_context = json;
    }
    envelope
}

/// The event of a row of the log.
fn of(stored: &StoredEvent, envelope: Envelope) -> OpenEvent {
    OpenEvent {
        org: stored.place.org,
        source: stored.place.source,
        canonical: stored.canonical,
        id: stored.place.event,
        received_at: stored.received_at,
        envelope,
    }
}

/// The runs of messages that one question each may have: by their number and their bytes.
fn parts(messages: &[impl Message]) -> Vec<Range<usize>> {
    let (mut parts, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, message) in messages.iter().enumerate() {
        let own = message.encoded_len() + REFERENCE_BYTES;
        if at > start && (at - start >= MAX_ASKED || bytes + own > MAX_ASKED_BYTES) {
            parts.push(start..at);
            (start, bytes) = (at, 0);
        }
        bytes += own;
    }
    if start < messages.len() {
        parts.push(start..messages.len());
    }
    parts
}

fn slice<'t, T>(all: &'t [T], part: &Range<usize>) -> &'t [T] {
    all.get(part.clone()).unwrap_or_default()
}

impl Prepared {
    /// True where the core's word on it still counts.
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.checked_at.is_some_and(|at| now.saturating_duration_since(at) < CHECKED_FOR)
    }
}

#[cfg(test)]
impl Prepared {
    /// An event that is nobody's.
    pub fn for_tests(position: Position, lane: Lane, bytes: usize) -> Self {
        let event = OpenEvent {
            org: Uuid::nil(),
            source: Uuid::nil(),
            canonical: Uuid::nil(),
            id: Uuid::nil(),
            received_at: OffsetDateTime::UNIX_EPOCH,
            envelope: Envelope::default(),
        };
        let action = Action::Skip("test");
        Self { position, lane, bytes, event: Arc::new(event), action, checked_at: Some(Instant::now()) }
    }
}
