//! Amperity's realtime streams: a request an event, and what comes of it (amperity/amperity-docs,
//! `endpoint_post_profile_store_events`, `responses`).

use std::{
    collections::BTreeMap,
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use egress::{Answer, CallError};
use http::{HeaderMap, HeaderValue, Method, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

use crate::{
    format::{File, Mapping, Pii, Preset},
    outcome::Outcome,
    path::Path,
    program::Program,
    transform::Transform,
};

/// Largest event that a stream takes, in bytes. The documentation says 64 KB, and not which.
pub const MAX_BYTES: usize = 64_000;
/// Requests a second that one tenant is sent. Amperity takes 500 of all its realtime APIs together, of which look-ups
/// have 100.
pub const RATE: u32 = 400;
/// Pause between events to a stream that rejects them for now.
const REJECTED_PROBE: Duration = Duration::from_mins(1);

/// The preset that counts unless another is chosen.
pub const DEFAULT_PRESET: &str = "retail";

const FILE: &str = include_str!("../blueprints/amperity.yaml");
const PRESETS: [&str; 7] = [
    include_str!("../blueprints/amperity/retail.yaml"),
    include_str!("../blueprints/amperity/travel.yaml"),
    include_str!("../blueprints/amperity/finance.yaml"),
    include_str!("../blueprints/amperity/saas.yaml"),
    include_str!("../blueprints/amperity/media.yaml"),
    include_str!("../blueprints/amperity/gaming.yaml"),
    include_str!("../blueprints/amperity/publishing.yaml"),
];

/// The blueprint and its presets, read once.
pub struct Blueprint {
    /// What every event is sent with.
    pub file: File,
    /// The presets, in the order of the product specification.
    pub presets: Vec<Preset>,
}

/// The blueprint, as it is compiled in. A test reads all of it, so that no start can fail.
pub static BLUEPRINT: LazyLock<Blueprint> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "a test reads the files that are compiled in")]
    let read = |text| serde_saphyr::from_str(text).expect("a blueprint that is compiled in");
    #[expect(clippy::expect_used, reason = "a test reads the files that are compiled in")]
    let preset = |text| serde_saphyr::from_str(text).expect("a preset that is compiled in");
    Blueprint { file: read(FILE), presets: PRESETS.into_iter().map(preset).collect() }
});

impl Blueprint {
    /// The blueprint as people read it.
    pub fn for_people(&self) -> Value {
        let mapping = |mapping: &Mapping| {
            let paths = |paths: &[Path]| paths.iter().map(ToString::to_string).collect::<Vec<_>>();
            let transforms = |all: &[Transform]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
            let otherwise = mapping.otherwise.as_ref();
            json!({
                "label": mapping.label,
                "source": paths(&mapping.source),
                "target": mapping.target,
                "transform": transforms(&mapping.transform),
                "else": otherwise.map(|other| {
                    json!({"source": paths(&other.source), "transform": transforms(&other.transform)})
                }),
                "pii": mapping.pii.map(|pii| if pii == Pii::Plain { "plain" } else { "sha256" }),
                "evidence": mapping.evidence,
            })
        };
        let preset = |preset: &Preset| {
            let events = preset.events.iter().map(|(name, handler)| {
                let mappings = Program::mappings_of(preset, name, handler);
                json!({
                    "name": name,
                    "aka": handler.aka,
                    "vendor_event_name": handler.vendor_event_name.as_ref().unwrap_or(name),
                    "evidence": handler.evidence,
                    "mappings": mappings.iter().map(|own| json!({
                        "source": own.source.iter().map(ToString::to_string).collect::<Vec<_>>(),
                        "target": own.target,
                    })).collect::<Vec<_>>(),
                })
            });
            json!({"name": preset.name, "label": preset.label, "events": events.collect::<Vec<_>>()})
        };
        json!({
            "revision": self.file.revision,
            "global": self.file.global.mappings.iter().map(mapping).collect::<Vec<_>>(),
            "presets": self.presets.iter().map(preset).collect::<Vec<_>>(),
        })
    }

    /// Finds a preset by its name.
    pub fn preset(&self, name: &str) -> Option<&Preset> {
        self.presets.iter().find(|preset| preset.name == name)
    }
}

/// A tenant and its stream.
#[derive(Debug, Clone)]
pub struct Stream {
    url: Url,
    tenant: HeaderValue,
    /// Value of the top-level field `source`.
    pub source_value: String,
}

impl Stream {
    /// Reads the settings of the tenant; none where they lack something.
    pub fn read(config: &Value) -> Option<Self> {
        let text = |name: &str| config.get(name)?.as_str();
        let base = match text("base_url") {
            Some(base) => base.trim_end_matches('/').to_owned(),
            None => format!("https://{}.amperity.com", text("tenant_subdomain")?),
        };
        let stream = text("event_stream_id")?;
        Some(Self {
            url: Url::parse(&format!("{base}/prof/events/{stream}")).ok()?,
            tenant: HeaderValue::from_str(text("tenant_id")?).ok()?,
            source_value: text("source_value")?.to_owned(),
        })
    }

    /// The URL that events are sent to.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Public settings that mappings may read.
    pub fn settings(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([("source_value", self.source_value.clone())])
    }

    /// The request that one event is sent with. Its length is known, as a stream takes no other.
    pub fn request(&self, api_key: &SecretString, payload: String) -> Option<egress::Request> {
        let mut token = HeaderValue::from_str(&format!("Bearer {}", api_key.expose_secret())).ok()?;
        token.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert("amperity-tenant", self.tenant.clone());
        headers.insert(header::AUTHORIZATION, token);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let body = Some(Bytes::from(payload));
        Some(egress::Request { method: Method::POST, url: self.url.clone(), headers, body })
    }
}

/// What comes of a request.
pub fn outcome(answer: Result<&Answer, CallError>, now: SystemTime) -> Outcome {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Outcome::of_error(error),
    };
    match answer.status.as_u16() {
        204 => Outcome::Delivered { dropping: true },
        400 => Outcome::Refused("bad_request"),
        409 => Outcome::Paused { reason: "rejected", probe: Some(REJECTED_PROBE) },
        413 => Outcome::Refused("too_large"),
        // 202 is what is documented. Any other success may be one: the event is not to be there twice.
        200..=299 => Outcome::Delivered { dropping: false },
        _ => Outcome::of_status(answer, now).unwrap_or(Outcome::Refused("status")),
    }
}
