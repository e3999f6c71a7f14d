//! An event on its way to a payload: read, and mapped with what the core knows of its person; or the reason why it is not
//! sent.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use blueprint::{destination::Kind, facts::Facts, json::Node, webhook};
use metrics::counter;
use proto::{
    event::Envelope,
    v1::{ConsentSignals, DeliveredEvent, IdentityVendorIds, ProfileResponse},
};
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    destination::Destination,
    prepare::{Action, ERASED, OpenEvent, Outgoing},
};

/// An event that was read, with nothing that is learned elsewhere.
pub struct Parsed<'e> {
    /// What it says itself.
    pub facts: Facts<'e>,
}

impl<'e> Parsed<'e> {
    /// Reads an event as it is kept; none of one that can't be read.
    pub fn of(envelope: &'e Envelope) -> Option<Self> {
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

/// What an event brings to the question of what its delivery may have.
pub fn brought(envelope: &Envelope, parsed: Option<&Parsed<'_>>) -> DeliveredEvent {
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

/// Says what is to be done with an event, by what the core knows of its person: the one place where it becomes a payload.
pub fn action_of(
    destination: &Destination,
    event: &OpenEvent,
    parsed: Option<&Parsed<'_>>,
    person: IdentityVendorIds,
    profile: Option<&ProfileResponse>,
) -> Action {
    let Some(Parsed { facts }) = parsed else { return Action::Dead("unreadable") };
    if person.canonical_id.is_empty() {
        return Action::Skip(ERASED);
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
    // It is a header of a webhook's, and may not tell what the payload may not.
    let fits =
        |id: &&str| id.bytes().all(|byte| byte.is_ascii_graphic()) && !destination.program.hides(&facts, id);
    let message_id = message_id.filter(fits);
    let message_id = message_id.map_or_else(|| event.id.to_string(), str::to_owned);
    let outgoing = Arc::new(Outgoing { message_id, payload, warnings });
    if event.envelope.test { Action::Test(outgoing) } else { Action::Send(outgoing) }
}
