//! Destinations of events, for whoever sets them up: which there are, what is wrong with their settings, and what an event
//! is sent as.

use std::{borrow::Cow, collections::BTreeMap};

use blueprint::{
    amperity::{self, BLUEPRINT},
    destination::{self, Kind, Known, Record, Settings},
    facts::Facts,
    json::Node,
    webhook,
};
use egress::target::Reach;
use proto::v1::{
    Destination, DryRunProviderRequest, DryRunProviderResponse, ErrorReason, IdentityRef, ProviderField,
    Subject, identity_ref::Id,
};
use serde_json::Value;
use uuid::Uuid;

use super::Service;
use crate::{
    clock,
    consent::Category,
    error::{Error, Result},
    providers::{exchange, validation::Problems},
    storage::lookup::IdentityName,
    vendor_ids::read,
    vendors,
};

/// Longest event of a dry run, in bytes.
const MAX_EVENT_BYTES: usize = event_log::MAX_EVENT_BYTES;
/// What stands in the place of a credential.
const MASK: &str = "***";

/// The destinations that there are.
pub fn all() -> Vec<Destination> {
    destination::ALL.iter().map(of_record).collect()
}

fn of_record(record: &Record) -> Destination {
    let field = |field: &destination::Field| ProviderField {
        key: field.key.to_owned(),
        label: field.label.to_owned(),
        r#type: field.kind.to_owned(),
        required: field.is_required,
        help: field.help.to_owned(),
    };
    let blueprint = match (record.kind, BLUEPRINT.for_people()) {
        (Kind::Amperity, Value::Object(blueprint)) => Some(proto::json::document(blueprint)),
        _ => None,
    };
    let with_keys = vendors::ALL.iter().filter(|vendor| vendors::find_match_keys(vendor.name).is_some());
    Destination {
        name: record.name.to_owned(),
        label: record.label.to_owned(),
        help: record.help.to_owned(),
        fields: record.fields.iter().map(field).collect(),
        blueprint,
        match_keys: with_keys.map(|vendor| vendor.name.to_owned()).collect(),
    }
}

/// Finds what is wrong with the settings of a destination.
pub fn check(name: &str, settings: &Value, reach: &Reach<'_>, problems: &mut Problems) -> Result<()> {
    let record = destination::find(name).ok_or_else(unknown)?;
    let known = Known {
        reach,
        is_category: &|name| Category::of_name(name).is_some(),
        has_match_keys: &|name| vendors::find_match_keys(name).is_some(),
    };
    for (field, why) in destination::check(record.kind, settings, &known) {
        problems.add(field, why);
    }
    Ok(())
}

impl Service {
    /// Shows what an event is sent as, by settings that were checked. Nothing is sent.
    pub(super) async fn dry_run_destination(
        &self,
        request: DryRunProviderRequest,
        org: Uuid,
    ) -> Result<DryRunProviderResponse> {
        let DryRunProviderRequest { name, settings, subject, event, send, .. } = request;
        if send {
            return Err(Error::invalid("send"));
        }
        let record = destination::find(&name).ok_or_else(unknown)?;
        let settings = settings.map(proto::json::object).ok_or_else(|| Error::invalid("settings"))?;
        let own = settings.get("destination").ok_or_else(|| Error::invalid("settings.destination"))?;
        let own = Settings::read(own).map_err(|_| Error::invalid("settings.destination"))?;
        let event =
            event.filter(|event| event.len() <= MAX_EVENT_BYTES).ok_or_else(|| Error::invalid("event"))?;
        let event = Node::parse(&event).filter(|event| event.raw.starts_with('{'));
        let event = event.ok_or_else(|| Error::invalid("event"))?;
        let subject = subject.unwrap_or_default();
        let (canonical_id, consent, vendor_ids) = self.known(org, &subject).await?;
        let stream = settings.get("tenant").and_then(amperity::Stream::read);
        let facts = Facts {
            event,
            batch_context: None,
            event_id: Cow::Owned(Uuid::now_v7().to_string()),
            received_at: clock::now(),
            canonical_id: Cow::Owned(canonical_id),
            anonymous_id: Cow::Owned(subject.anonymous_id.unwrap_or_default()),
            user_id: Cow::Owned(subject.user_id.unwrap_or_default()),
            ip: Cow::Borrowed(""),
            user_agent: Cow::Borrowed(""),
            is_signed: false,
            stored_consent: consent.as_deref().and_then(Node::parse),
            vendor_ids,
            partner_attrs: Vec::new(),
            match_keys: Vec::new(),
            settings: stream.as_ref().map(amperity::Stream::settings).unwrap_or_default(),
        };
        let program = own.program(record.kind);
        let request = match record.kind {
            Kind::Amperity => {
                let payload = match program.apply(&facts) {
                    Ok(payload) => payload.json,
                    Err(not_sent) => return Ok(nothing(not_sent.word())),
                };
                if payload.len() > amperity::MAX_BYTES {
                    return Ok(nothing("too_large"));
                }
                let Some(stream) = stream else { return Ok(nothing("not_configured")) };
                stream.request(&MASK.into(), payload)
            }
            Kind::Webhook => {
                let payload = webhook::payload(&program, &facts);
                let url = destination::webhook_url(&own)
                    .ok_or_else(|| Error::invalid("settings.destination.url"))?;
                webhook::request(&url, &[], "msg_dry_run", payload, clock::system(clock::now()))
            }
        };
        let Some(request) = request else { return Ok(nothing("not_configured")) };
        let headers = exchange::for_people(&request.headers).filter(|(_, value)| !value.is_empty());
        Ok(DryRunProviderResponse {
            method: request.method.to_string(),
            url: request.url.to_string(),
            headers: headers.map(|(name, value)| (name.to_string(), value.to_owned())).collect(),
            body: request.body.map(|body| String::from_utf8_lossy(&body).into_owned()).unwrap_or_default(),
            ..DryRunProviderResponse::default()
        })
    }

    /// What is known of a visitor: the canonical identity, the stored consent and the vendor IDs.
    async fn known(
        &self,
        org: Uuid,
        subject: &Subject,
    ) -> Result<(String, Option<String>, BTreeMap<String, String>)> {
        let id = subject.anonymous_id.clone().map(Id::AnonymousId);
        let Some(id) = id.or_else(|| subject.user_id.clone().map(Id::UserId)) else {
            return Ok((String::new(), None, BTreeMap::new()));
        };
        let reference = Some(IdentityRef { id: Some(id), browser: None });
        let name = IdentityName::parse(reference, || "subject".to_owned())?;
        let found =
            read::find(&self.app.stores, org, &[name], &[], clock::now()).await?.pop().unwrap_or_default();
        let ids = found.vendor_ids.into_iter().map(|(field, id)| (field, id.value)).collect();
        Ok((found.canonical_id, found.consent.and_then(|consent| consent.json), ids))
    }
}

fn nothing(reason: &str) -> DryRunProviderResponse {
    DryRunProviderResponse { reason: reason.to_owned(), ..DryRunProviderResponse::default() }
}

fn unknown() -> Error {
    Error::refused(ErrorReason::VendorNotFound)
}
