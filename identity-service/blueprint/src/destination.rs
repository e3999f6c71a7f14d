//! Destinations: records, and their settings as customers write them.

use std::collections::{BTreeMap, BTreeSet};

use egress::target::{self, Reach};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::{
    amperity::{self, BLUEPRINT},
    format::{Action, File, Mapping, OwnEvent, Pii, Preset, Properties},
    program::{self, Differences, Program},
    webhook,
};

/// Most mappings of a customer's own, and most of one event.
const MAX_MAPPINGS: usize = 200;
/// Most events that a customer sets up.
const MAX_EVENTS: usize = 200;
/// Most vendors whose match keys are sent along.
const MAX_MATCH_KEYS: usize = 20;
/// Most fields of vendor IDs that mappings read: the core is asked for them by name.
const MAX_FIELDS: usize = 150;
/// Longest name of such a field, in bytes.
const MAX_FIELD_BYTES: usize = 64;
/// Bounds of how many requests are under way at once.
const IN_FLIGHT: std::ops::RangeInclusive<u16> = 1..=256;

/// A destination that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Amperity's realtime streams.
    Amperity,
    /// An endpoint of the customer's own.
    Webhook,
}

/// What people have to know of a destination.
pub struct Record {
    /// The destination.
    pub kind: Kind,
    /// Name in paths, metrics and settings.
    pub name: &'static str,
    /// Name for people.
    pub label: &'static str,
    /// Help: what it gets, and what it needs.
    pub help: &'static str,
    /// Fields of its settings.
    pub fields: &'static [Field],
}

/// A field of settings.
pub struct Field {
    /// Name in settings.
    pub key: &'static str,
    /// Name for people.
    pub label: &'static str,
    /// The way in which a form takes it.
    pub kind: &'static str,
    /// True where settings need it.
    pub is_required: bool,
    /// Help: what it is.
    pub help: &'static str,
}

const fn field(key: &'static str, label: &'static str, kind: &'static str, help: &'static str) -> Field {
    Field { key, label, kind, is_required: false, help }
}

const MAPPINGS: Field = field(
    "mappings",
    "Mappings",
    "textarea",
    "List of {source, target}, with transform, format, value_map, default, each or else as needed: values that are sent on \
     top of all others, such as partner_attrs.amperity.Persona as user_persona.",
);
const PII: Field = field(
    "pii",
    "Addresses and numbers",
    "string",
    "plain: as they came. sha256: their digests alone, wherever one shows.",
);
const CONSENT: Field = field(
    "consent_category",
    "Consent category",
    "string",
    "Category of consent that an event needs to be sent, such as marketing. None: it needs none.",
);
const IN_FLIGHT_FIELD: Field = field(
    "max_in_flight",
    "Requests at once",
    "string",
    "Most requests under way at once, 1 to 256; 64 unless it is set. A visitor's events are sent one after the other.",
);

/// The destinations that there are.
pub const ALL: [Record; 2] = [
    Record {
        kind: Kind::Amperity,
        name: "amperity",
        label: "Amperity",
        help: "Sends every accepted event to a realtime stream of Amperity, which updates profiles within seconds. The \
               tenant, the stream and its key are those of the source's profile provider.",
        fields: &[
            field(
                "preset",
                "Preset",
                "string",
                "Vertical whose events have handlers: retail, travel, finance, saas, media, gaming or publishing.",
            ),
            MAPPINGS,
            field(
                "events",
                "Events",
                "textarea",
                "Object of event names: {vendor_event_name, enabled, mappings, properties} each, all of them optional.",
            ),
            field(
                "unmapped",
                "Events without a handler",
                "string",
                "pass_through: sent under their own names. drop: not sent.",
            ),
            PII,
            CONSENT,
            field(
                "rate_limit_rps",
                "Requests a second",
                "string",
                "At most 400, which is so unless it is set: Amperity takes 500 a tenant, look-ups included.",
            ),
            IN_FLIGHT_FIELD,
        ],
    },
    Record {
        kind: Kind::Webhook,
        name: "webhook",
        label: "Webhook",
        help: "Sends every accepted event to an endpoint of your own, as it came, with what is known of its visitor: vendor \
               IDs, profile attributes and match keys. Signed as Standard Webhooks has it.",
        fields: &[
            Field { is_required: true, ..field("url", "URL", "string", "The endpoint, https.") },
            field(
                "secret",
                "Signing secret",
                "secret",
                "whsec_ and the Base64 of 24 to 64 bytes. Made and shown once where none is given.",
            ),
            MAPPINGS,
            field(
                "match_keys",
                "Match keys",
                "csv",
                "Vendors whose IDs, and hashed email and phone, are sent under their own parameter names, as far as consent \
                 allows.",
            ),
            PII,
            CONSENT,
            IN_FLIGHT_FIELD,
        ],
    },
];

/// Finds a destination by its name.
pub fn find(name: &str) -> Option<&'static Record> {
    ALL.iter().find(|record| record.name == name)
}

/// Settings of a destination, as they are stored.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Preset of Amperity's.
    #[serde(default)]
    pub preset: Option<String>,
    /// Endpoint of a webhook.
    #[serde(default)]
    pub url: Option<String>,
    /// Mappings on top of all others.
    #[serde(default)]
    pub mappings: Vec<Mapping>,
    /// Settings of single events, by name.
    #[serde(default)]
    pub events: BTreeMap<String, OwnEvent>,
    /// Whether events without a handler are sent.
    #[serde(default)]
    pub unmapped: Option<Action>,
    /// Vendors whose match keys are sent along.
    #[serde(default)]
    pub match_keys: Vec<String>,
    /// How addresses and numbers are sent.
    #[serde(default)]
    pub pii: Option<Pii>,
    /// Category of consent that an event needs.
    #[serde(default)]
    pub consent_category: Option<String>,
    /// Requests a second.
    #[serde(default)]
    pub rate_limit_rps: Option<u32>,
    /// Requests at once.
    #[serde(default)]
    pub max_in_flight: Option<u16>,
}

/// What settings may name, as far as others know it.
pub struct Known<'a> {
    /// Where a URL may lead.
    pub reach: &'a Reach<'a>,
    /// True for a category of consent.
    pub is_category: &'a dyn Fn(&str) -> bool,
    /// True for a vendor that has match keys.
    pub has_match_keys: &'a dyn Fn(&str) -> bool,
}

/// A mistake in settings: the field that has it, and what the field must be.
pub type Mistake = (String, String);

impl Settings {
    /// Reads settings, or says what can't be read.
    pub fn read(value: &Value) -> Result<Self, Mistake> {
        serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let path = if path == "." { String::new() } else { path };
            let text = error.into_inner().to_string();
            // What was sent stands behind the colon.
            let text =
                if text.starts_with("invalid") { "has a value of another kind".to_owned() } else { text };
            (path, text)
        })
    }

    /// The program that the events of a destination are mapped with.
    pub fn program(&self, kind: Kind) -> Program {
        let own = Differences {
            mappings: self.mappings.clone(),
            events: self.events.clone(),
            unmapped: self.unmapped,
            pii: self.pii.unwrap_or(Pii::Plain),
        };
        match kind {
            Kind::Amperity => {
                let preset = self.preset.as_deref().and_then(|name| BLUEPRINT.preset(name));
                let preset = preset.or_else(|| BLUEPRINT.preset(amperity::DEFAULT_PRESET));
                Program::new(&BLUEPRINT.file, preset.unwrap_or(&NO_PRESET), own)
            }
            Kind::Webhook => Program::new(&NO_FILE, &NO_PRESET, own),
        }
    }

    /// Requests a second that the destination is sent at most.
    pub fn rate(&self, kind: Kind) -> u32 {
        let most = match kind {
            Kind::Amperity => amperity::RATE,
            Kind::Webhook => webhook::RATE,
        };
        self.rate_limit_rps.unwrap_or(most).clamp(1, most)
    }
}

/// A blueprint of nothing, to which a customer's own mappings are added.
static NO_FILE: std::sync::LazyLock<File> = std::sync::LazyLock::new(|| File {
    version: 2,
    vendor: String::new(),
    revision: String::new(),
    event_name: crate::format::EventName { target: String::new() },
    global: crate::format::Global { mappings: Vec::new() },
    defaults: crate::format::Defaults { action: Action::PassThrough, properties: Properties::None },
});
static NO_PRESET: std::sync::LazyLock<Preset> = std::sync::LazyLock::new(|| Preset {
    name: String::new(),
    label: String::new(),
    item: BTreeMap::new(),
    events: BTreeMap::new(),
});

/// Checks settings of a destination, and tells what is wrong with them.
pub fn check(kind: Kind, value: &Value, known: &Known<'_>) -> Vec<Mistake> {
    let mut wrong = Vec::new();
    let settings = match Settings::read(value) {
        Ok(settings) => settings,
        Err(mistake) => return vec![mistake],
    };
    let mut say = |field: String, why: &str| wrong.push((field, why.to_owned()));
    let foreign: &[(&str, bool)] = match kind {
        Kind::Amperity => &[("url", settings.url.is_some()), ("match_keys", !settings.match_keys.is_empty())],
        Kind::Webhook => &[
            ("preset", settings.preset.is_some()),
            ("events", !settings.events.is_empty()),
            ("unmapped", settings.unmapped == Some(Action::Drop)),
            ("rate_limit_rps", settings.rate_limit_rps.is_some()),
        ],
    };
    for (name, is_there) in foreign {
        if *is_there {
            say((*name).to_owned(), "is unknown");
        }
    }
    match (kind, &settings.url) {
        (Kind::Webhook, None) => say("url".to_owned(), "is required"),
        (Kind::Webhook, Some(url)) => {
            if let Err(why) = target::parse(url, known.reach) {
                say("url".to_owned(), why);
            }
        }
        (Kind::Amperity, _) => {}
    }
    if settings.preset.as_deref().is_some_and(|name| BLUEPRINT.preset(name).is_none()) {
        say("preset".to_owned(), "must be retail, travel, finance, saas, media, gaming or publishing");
    }
    if settings.consent_category.as_deref().is_some_and(|name| !(known.is_category)(name)) {
        say("consent_category".to_owned(), "must be a category of consent, such as marketing");
    }
    if settings.rate_limit_rps.is_some_and(|rate| !(1..=amperity::RATE).contains(&rate)) {
        say("rate_limit_rps".to_owned(), "must be 1 to 400");
    }
    if settings.max_in_flight.is_some_and(|most| !IN_FLIGHT.contains(&most)) {
        say("max_in_flight".to_owned(), "must be 1 to 256");
    }
    if settings.match_keys.len() > MAX_MATCH_KEYS {
        say("match_keys".to_owned(), "must have at most 20 entries");
    }
    for (at, vendor) in settings.match_keys.iter().enumerate() {
        if !(known.has_match_keys)(vendor) {
            say(format!("match_keys[{at}]"), "must be a vendor whose conversions API takes match keys");
        }
    }
    if settings.events.len() > MAX_EVENTS {
        say("events".to_owned(), "must have at most 200 entries");
    }
    let own =
        settings.events.iter().map(|(name, event)| (format!("events.{name}.mappings"), &event.mappings));
    for (path, mappings) in std::iter::once(("mappings".to_owned(), &settings.mappings)).chain(own) {
        if mappings.len() > MAX_MAPPINGS {
            say(path.clone(), "must have at most 200 entries");
        }
        for (at, mapping) in mappings.iter().enumerate() {
            check_mapping(kind, &format!("{path}[{at}]"), mapping, known, &mut say);
        }
    }
    let program = settings.program(kind);
    let asked = program.vendor_fields();
    if asked.len() > MAX_FIELDS {
        wrong.push(("mappings".to_owned(), "must read at most 150 fields of vendor_ids".to_owned()));
    }
    let vendors = program.match_key_vendors().into_iter().chain(settings.match_keys.iter().cloned());
    if vendors.collect::<BTreeSet<String>>().len() > MAX_MATCH_KEYS {
        wrong.push(("mappings".to_owned(), "must read match keys of at most 20 vendors".to_owned()));
    }
    wrong
}

fn check_mapping(
    kind: Kind,
    path: &str,
    mapping: &Mapping,
    known: &Known<'_>,
    say: &mut impl FnMut(String, &str),
) {
    if mapping.source.is_empty() && mapping.default.is_none() {
        say(format!("{path}.source"), "is required");
    }
    match (kind, mapping.target.as_str()) {
        (Kind::Amperity, "consent") => {
            say(format!("{path}.target"), "must not be consent, which is always sent as it is");
        }
        (Kind::Amperity, name) if name == BLUEPRINT.file.event_name.target => {
            say(format!("{path}.target"), "must not be the event's name: set vendor_event_name of the event");
        }
        (Kind::Webhook, name) if webhook::MEMBERS.contains(&name) => {
            say(format!("{path}.target"), "must not be a member that every body has");
        }
        _ => {}
    }
    for source in program::sources(mapping) {
        let Some(name) = source.first_name() else { continue };
        if source.root == "match_keys" && !(known.has_match_keys)(name) {
            say(format!("{path}.source"), "must name a vendor whose conversions API takes match keys");
        }
        if source.root == "vendor_ids" && name.len() > MAX_FIELD_BYTES {
            say(format!("{path}.source"), "must name a field of at most 64 bytes");
        }
    }
}

/// The URL of a webhook.
pub fn webhook_url(settings: &Settings) -> Option<Url> {
    Url::parse(settings.url.as_deref()?).ok()
}
