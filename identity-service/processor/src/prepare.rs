//! A page of events, made ready to be sent: opened, with what the core knows of their people, and mapped. What must not be
//! sent is told from what can.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use blueprint::{destination::Kind, facts::Facts, json::Node, webhook};
use event_log::{LogKeys, Position, StoredEvent};
use metrics::counter;
use prost::Message;
use proto::{
    event::Envelope,
    v1::{
        Audience, BatchProfileRequest, Caller, ConsentSignals, DeliveredEvent, IdentityRef,
        IdentityVendorIds, ProfileResponse, ProfileSubject, Subject, VendorIdsRequest,
        caller::Kind as CallerKind, identity_ref::Id,
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
};

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
    /// True for an event of a test key, which is shown and not sent.
    pub is_test: bool,
}

/// Makes events ready; an error where the core can't be asked, which says nothing of them.
pub struct Preparer {
    /// Keys of the log.
    pub keys: Arc<LogKeys>,
    /// The core.
    pub core: CoreClient,
}

impl Preparer {
    /// Opens an event of the log; none where it does not open, which can't be mended.
    pub fn open(&self, stored: &StoredEvent) -> Option<OpenEvent> {
        let plain = self.keys.open(stored.place, &stored.body).map_err(|error| {
            serve::warn_on_change!(ERROR, %error, source = %stored.place.source, "an event can't be opened");
        });
        let envelope = Envelope::decode(plain.ok()?.as_slice()).ok()?;
        Some(OpenEvent {
            org: stored.place.org,
            source: stored.place.source,
            canonical: stored.canonical,
            id: stored.place.event,
            received_at: stored.received_at,
            envelope,
        })
    }

    /// Makes the events of a page ready, in order.
    pub async fn page(
        &self,
        destination: &Destination,
        stored: Vec<StoredEvent>,
    ) -> Result<Vec<Prepared>, Status> {
        let (mut events, mut shut) = (Vec::with_capacity(stored.len()), Vec::new());
        for stored in stored {
            let place = (stored.position, stored.body.len());
            match self.open(&stored) {
                Some(event) => events.push((place, Arc::new(event))),
                None => shut.push((place, stored)),
            }
        }
        let actions = self.actions(destination, events.iter().map(|(_, event)| event.as_ref())).await?;
        let checked_at = Some(Instant::now());
        let ready = events.into_iter().zip(actions).map(|(((position, bytes), event), action)| Prepared {
            position,
            lane: lane::of(&event.envelope),
            bytes,
            event,
            action,
            checked_at,
        });
        let shut = shut.into_iter().map(|((position, bytes), stored)| {
            let event = OpenEvent {
                org: stored.place.org,
                source: stored.place.source,
                canonical: stored.canonical,
                id: stored.place.event,
                received_at: stored.received_at,
                envelope: Envelope::default(),
            };
            let action = Action::Dead("unreadable");
            Prepared { position, lane: Lane::default(), bytes, event: Arc::new(event), action, checked_at }
        });
        let mut all: Vec<Prepared> = ready.chain(shut).collect();
        all.sort_by_key(|prepared| prepared.position);
        Ok(all)
    }

    /// Says of each event what is to be done with it, by one question for IDs and one for profiles.
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
            let people = self.people(destination, org, &own, &parsed).await?;
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
        parsed: &[Option<Parsed<'_>>],
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
            events: own
                .iter()
                .zip(parsed)
                .map(|((_, event), parsed)| brought(&event.envelope, parsed.as_ref()))
                .collect(),
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
        let request = BatchProfileRequest {
            caller: Some(Caller { kind: Some(CallerKind::OrgId(org.to_string())) }),
            provider: PROFILES.to_owned(),
            subjects: own.iter().zip(parsed).map(subject).collect(),
            audience: Audience::Server.into(),
            source_id: Some(destination.source.to_string()),
        };
        match self.core.batch_profile(request).await {
            Ok(answer) if answer.profiles.len() == own.len() => answer.profiles,
            _ => {
                let failed = u64::try_from(own.len()).unwrap_or_default();
                counter!("datafly_mapping_problems_total", "vendor" => destination.vendor, "problem" => "profiles")
                    .increment(failed);
                Vec::new()
            }
        }
    }
}

/// An event that was read, with nothing that is learned elsewhere.
struct Parsed<'e> {
    facts: Facts<'e>,
}

impl<'e> Parsed<'e> {
    fn of(envelope: &'e Envelope) -> Option<Self> {
        let event = Node::parse(std::str::from_utf8(&envelope.json).ok()?)?;
        let context = std::str::from_utf8(&envelope.batch_context).ok().filter(|text| !text.is_empty());
        let received_at = envelope.received_at.as_ref().and_then(|at| {
            let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
            OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()
        })?;
        let facts = Facts {
            event,
            batch_context: context.and_then(Node::parse),
            event_id: Cow::Borrowed(&envelope.event_id),
            received_at,
            canonical_id: Cow::Borrowed(&envelope.canonical_id),
            anonymous_id: Cow::Borrowed(&envelope.anonymous_id),
            user_id: Cow::Borrowed(&envelope.user_id),
            ip: Cow::Borrowed(&envelope.client_ip),
            user_agent: Cow::Borrowed(&envelope.user_agent),
            is_signed: envelope.signed,
            stored_consent: None,
            vendor_ids: BTreeMap::new(),
            partner_attrs: Vec::new(),
            match_keys: Vec::new(),
            settings: BTreeMap::new(),
        };
        Some(Self { facts })
    }
}

fn brought(envelope: &Envelope, parsed: Option<&Parsed<'_>>) -> DeliveredEvent {
    let Some(Parsed { facts }) = parsed else { return DeliveredEvent::default() };
    let text = |names: &[&str]| facts.trait_text(names).map(str::to_owned);
    let json = facts.consent().map(|consent| consent.raw.clone().into_owned());
    let consent =
        (json.is_some() || envelope.sec_gpc).then_some(ConsentSignals { json, sec_gpc: envelope.sec_gpc });
    DeliveredEvent {
        consent,
        email: text(&["email"]),
        phone: text(&["phone"]),
        email_sha256: text(&["email_sha256", "emailSha256"]),
        phone_sha256: text(&["phone_sha256", "phoneSha256"]),
    }
}

fn action_of(
    destination: &Destination,
    event: &OpenEvent,
    parsed: Option<&Parsed<'_>>,
    person: IdentityVendorIds,
    profile: Option<&ProfileResponse>,
) -> Action {
    let Some(Parsed { facts }) = parsed else { return Action::Dead("unreadable") };
    if person.canonical_id.is_empty() {
        return Action::Skip("erased");
    }
    if !person.allowed {
        return Action::Skip("consent");
    }
    let stored = person.consent.as_ref().and_then(|consent| consent.json.clone());
    let mut attributes: Vec<(&str, String)> = Vec::new();
    let mut warnings = Vec::new();
    let mut vendor_ids: BTreeMap<String, String> =
        person.vendor_ids.into_iter().map(|(field, id)| (field, id.value)).collect();
    match profile {
        Some(profile) if profile.reason.is_empty() => {
            let all = [("amperity", &profile.attributes), ("amperity_personalized", &profile.personalized)];
            for (name, part) in all {
                let Some(part) = part.as_ref().filter(|part| !part.fields.is_empty()) else { continue };
                attributes.push((name, Value::Object(proto::json::object(part.clone())).to_string()));
            }
            if !profile.id.is_empty() {
                vendor_ids.entry("amperity_id".to_owned()).or_insert_with(|| profile.id.clone());
            }
        }
        Some(profile) => warnings.push(format!("partner resolve failed: {}", profile.reason)),
        None if destination.has_profiles => warnings.push("partner resolve failed: unavailable".to_owned()),
        None => {}
    }
    let partner_attrs =
        attributes.iter().filter_map(|(name, text)| Some((Cow::from(*name), Node::parse(text)?)));
    let match_keys = person.match_keys.into_iter().map(|(vendor, keys)| {
        let keys = keys.keys.into_iter().map(|(name, value)| (Cow::from(name), Node::text(value)));
        (Cow::from(vendor), Node::object(keys.collect()))
    });
    let facts = Facts {
        stored_consent: stored.as_deref().and_then(Node::parse),
        vendor_ids,
        partner_attrs: partner_attrs.collect(),
        match_keys: match_keys.collect(),
        settings: destination.public_settings(),
        ..facts.clone()
    };
    let payload = match destination.kind {
        Kind::Webhook => webhook::payload(&destination.program, &facts),
        Kind::Amperity => match destination.program.apply(&facts) {
            Ok(payload) => {
                for target in &payload.problems {
                    let (vendor, problem) = (destination.vendor, "misfit");
                    counter!("datafly_mapping_problems_total", "vendor" => vendor, "problem" => problem)
                        .increment(1);
                    warnings.push(format!("left out: {target}"));
                }
                if payload.is_unmapped {
                    warnings.push("unmapped".to_owned());
                }
                payload.json
            }
            Err(not_sent) => return Action::Skip(not_sent.word()),
        },
    };
    if payload.len() > destination.max_bytes() {
        return Action::Dead("too_large");
    }
    let message_id = facts.event.member("messageId").or_else(|| facts.event.member("message_id"));
    let message_id = message_id.and_then(Node::as_text).map(str::trim).filter(|id| !id.is_empty());
    // It is a header of a webhook's.
    let message_id = message_id.filter(|id| id.bytes().all(|byte| byte.is_ascii_graphic()));
    Action::Send(Arc::new(Outgoing {
        message_id: message_id.map_or_else(|| event.id.to_string(), str::to_owned),
        payload,
        warnings,
        is_test: event.envelope.test,
    }))
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
