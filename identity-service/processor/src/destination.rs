//! A destination as it is set up: where it is, with what it is called, and what it is sent.

use std::{collections::BTreeMap, time::SystemTime};

use blueprint::{
    Outcome, amperity,
    destination::{self, Kind, Settings},
    program::Program,
    webhook,
};
use egress::{Answer, CallError};
use migrations::sealed::{SealKeys, audience::BoundCredentials, columns};
use secrecy::SecretString;
use serde_json::Value;
use serve::origin::origin_of;
use url::Url;
use uuid::Uuid;

use crate::storage::DestinationRow;

/// Requests under way at once unless the settings say else.
const IN_FLIGHT: u16 = 64;

/// A destination of a source.
pub struct Destination {
    /// ID of its row.
    pub id: Uuid,
    /// The source whose events it takes.
    pub source: Uuid,
    /// Name of the vendor.
    pub vendor: &'static str,
    /// The kind of destination.
    pub kind: Kind,
    /// Version of all that it is set up with; another one is another try.
    pub version: String,
    /// Its settings.
    pub settings: Settings,
    /// The program that events are mapped with.
    pub program: Program,
    /// True where the source has a provider of profiles.
    pub has_profiles: bool,
    target: Result<Target, &'static str>,
}

/// Where requests go, and what they carry.
enum Target {
    Amperity { stream: amperity::Stream, key: SecretString },
    Webhook { url: Url, secrets: Vec<SecretString> },
}

impl Destination {
    /// Makes ready what is stored; none of a vendor that there is not.
    pub fn of(row: DestinationRow, keys: &SealKeys) -> Option<Self> {
        let record = destination::find(&row.vendor)?;
        let (settings, is_readable) = match Settings::read(&row.config) {
            Ok(settings) => (settings, true),
            Err((field, why)) => {
                tracing::error!(destination = %row.id, field, why, "settings of a destination can't be read");
                (Settings::default(), false)
            }
        };
        let target = if is_readable { target(&row, record.kind, &settings, keys) } else { Err("settings") };
        Some(Self {
            id: row.id,
            source: row.source_id,
            vendor: record.name,
            kind: record.kind,
            version: row.fingerprint,
            program: settings.program(record.kind),
            settings,
            has_profiles: row.has_profiles,
            target,
        })
    }

    /// The reason for which nothing can be sent; none where something can.
    pub fn unusable(&self) -> Option<&'static str> {
        self.target.as_ref().err().copied()
    }

    /// Most requests under way at once.
    pub fn in_flight(&self) -> usize {
        usize::from(self.settings.max_in_flight.unwrap_or(IN_FLIGHT))
    }

    /// Public settings that mappings may read.
    pub fn public_settings(&self) -> BTreeMap<&'static str, String> {
        match &self.target {
            Ok(Target::Amperity { stream, .. }) => stream.settings(),
            _ => BTreeMap::new(),
        }
    }

    /// Largest payload in bytes.
    pub fn max_bytes(&self) -> usize {
        match self.kind {
            Kind::Amperity => amperity::MAX_BYTES,
            Kind::Webhook => webhook::MAX_BYTES,
        }
    }

    /// The request that a payload is sent with.
    pub fn request(&self, message_id: &str, payload: String, now: SystemTime) -> Option<egress::Request> {
        match self.target.as_ref().ok()? {
            Target::Amperity { stream, key } => stream.request(key, payload),
            Target::Webhook { url, secrets } => webhook::request(url, secrets, message_id, payload, now),
        }
    }

    /// What a request comes to.
    pub fn outcome(&self, answer: Result<&Answer, CallError>, now: SystemTime) -> Outcome {
        match self.kind {
            Kind::Amperity => amperity::outcome(answer, now),
            Kind::Webhook => webhook::outcome(answer, now),
        }
    }
}

fn target(
    row: &DestinationRow,
    kind: Kind,
    settings: &Settings,
    keys: &SealKeys,
) -> Result<Target, &'static str> {
    match kind {
        Kind::Amperity => {
            let config = row.provider_config.as_ref().unwrap_or(&Value::Null);
            let stream = amperity::Stream::read(config).ok_or("not_configured")?;
            let place = columns::PROFILE_PROVIDERS.place(row.org_id, row.provider_id.unwrap_or_default());
            let sealed = row.provider_sealed.as_deref().ok_or("credentials")?;
            let mut opened = open(keys, place, sealed, stream.url())?;
            let key = opened.values.remove("api_key").ok_or("credentials")?;
            Ok(Target::Amperity { stream, key })
        }
        Kind::Webhook => {
            let url = destination::webhook_url(settings).ok_or("not_configured")?;
            let place = columns::DESTINATIONS.place(row.org_id, row.id);
            let opened = open(keys, place, row.sealed.as_deref().ok_or("credentials")?, &url)?;
            let names = ["secret", "previous_secret"];
            let secrets: Vec<_> = names.iter().filter_map(|name| opened.values.get(*name).cloned()).collect();
            if secrets.is_empty() { Err("credentials") } else { Ok(Target::Webhook { url, secrets }) }
        }
    }
}

/// Opens credentials for a URL: what was given for another origin is of no use here.
fn open(
    keys: &SealKeys,
    place: migrations::sealed::Place<'_>,
    sealed: &[u8],
    url: &Url,
) -> Result<BoundCredentials, &'static str> {
    let plain = keys.open(place, sealed).map_err(|error| {
        serve::warn_on_change!(ERROR, %error, table = place.table, row = %place.row, "credentials can't be opened");
        "credentials"
    })?;
    let bound = BoundCredentials::parse(&plain).ok_or("credentials")?;
    let is_for = bound.origin.is_none() || bound.origin == origin_of(url.as_str());
    if is_for { Ok(bound) } else { Err("credentials") }
}
