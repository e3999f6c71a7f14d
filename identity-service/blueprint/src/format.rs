//! The format of blueprints, version 2: what the files have, and what a customer's own settings add. Reading checks all of
//! it: a mapping that could not be carried out is told with its field.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;

use crate::{path::Path, transform::Transform};

/// A blueprint as a file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Version of the format, 2.
    pub version: u32,
    /// The vendor's name.
    pub vendor: String,
    /// Revision of the mappings.
    pub revision: String,
    /// Where the event's name goes.
    pub event_name: EventName,
    /// What every event is sent with.
    pub global: Global,
    /// What becomes of an event without a handler.
    pub defaults: Defaults,
}

/// Where the event's name goes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventName {
    /// The target of the name.
    pub target: String,
}

/// What every event is sent with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Global {
    /// The mappings, in order: of two for one target the first that finds something counts.
    pub mappings: Vec<Mapping>,
}

/// What becomes of an event without a handler.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Whether it is sent.
    pub action: Action,
    /// What becomes of its properties.
    pub properties: Properties,
}

/// Whether an event without a handler is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is sent under its own name.
    PassThrough,
    /// It is not sent.
    Drop,
}

/// What becomes of properties that no mapping names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Properties {
    /// Each is sent under its own name.
    Flatten,
    /// None is sent.
    None,
}

/// How email addresses and phone numbers are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pii {
    /// As they came.
    Plain,
    /// As SHA-256 alone.
    Sha256,
}

/// A mapping: a value of an event, under another name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// Name in the payload.
    #[serde(deserialize_with = "target")]
    pub target: String,
    /// Name for people.
    #[serde(default)]
    pub label: String,
    /// Paths of which the first that finds something counts.
    #[serde(default, deserialize_with = "paths")]
    pub source: Vec<Path>,
    /// Transforms, one after the other.
    #[serde(default, deserialize_with = "transforms")]
    pub transform: Vec<Transform>,
    /// Form of a time, beside the transform `date_format`.
    #[serde(default)]
    pub format: Option<DateFormat>,
    /// Values by what was found, as text; `*` for all others.
    #[serde(default)]
    pub value_map: Option<BTreeMap<String, Value>>,
    /// Value where nothing was found.
    #[serde(default)]
    pub default: Option<Value>,
    /// For a list of objects: the members of each, by name.
    #[serde(default)]
    pub each: Option<BTreeMap<String, Sources>>,
    /// What is tried where nothing was found.
    #[serde(default, rename = "else")]
    pub otherwise: Option<Otherwise>,
    /// The setting with which the mapping counts. None: it always does.
    #[serde(default)]
    pub pii: Option<Pii>,
    /// Strength of the evidence that the vendor reads it.
    #[serde(default)]
    pub evidence: String,
}

/// The second try of a mapping.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Otherwise {
    /// Paths, as a mapping has them.
    #[serde(deserialize_with = "paths")]
    pub source: Vec<Path>,
    /// Transforms, as a mapping has them.
    #[serde(default, deserialize_with = "transforms")]
    pub transform: Vec<Transform>,
}

/// Form of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DateFormat {
    /// RFC 3339, in UTC.
    Iso8601,
    /// Milliseconds since the Unix epoch.
    EpochMs,
    /// Seconds since the Unix epoch.
    EpochS,
}

/// A preset as a file has it: handlers of events by their names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Name in settings.
    pub name: String,
    /// Name for people.
    pub label: String,
    /// Members of an item of the list `items`.
    #[serde(default)]
    pub item: BTreeMap<String, Sources>,
    /// The handlers.
    pub events: BTreeMap<String, Handler>,
}

/// A handler of events of one name, or of those that begin with it where it ends in `*`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handler {
    /// Name that the vendor is told; none: the handler's.
    #[serde(default)]
    pub vendor_event_name: Option<String>,
    /// Other names of the same event.
    #[serde(default)]
    pub aka: Vec<String>,
    /// Handler whose properties count as well.
    #[serde(default)]
    pub like: Option<String>,
    /// Properties that are sent under their own names.
    #[serde(default)]
    pub pick: Vec<String>,
    /// Properties that are sent under other names.
    #[serde(default, rename = "as")]
    pub renamed: BTreeMap<String, String>,
    /// True where the list of items is sent.
    #[serde(default)]
    pub items: bool,
    /// Strength of the evidence.
    pub evidence: String,
}

/// A customer's own settings of one event.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnEvent {
    /// Name that the vendor is told; none: what it would be without.
    #[serde(default, deserialize_with = "event_name")]
    pub vendor_event_name: Option<String>,
    /// False where it is not sent.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Mappings on top of the handler's.
    #[serde(default)]
    pub mappings: Vec<Mapping>,
    /// What becomes of properties that no mapping names; none: what it would be without.
    #[serde(default)]
    pub properties: Option<Properties>,
}

/// Names of properties of which the first that is there counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources(pub Vec<String>);

impl<'de> Deserialize<'de> for Sources {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(OneOrMore::deserialize(deserializer)?.into_list()))
    }
}

/// One text or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn into_list(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::More(texts) => texts,
        }
    }
}

fn yes() -> bool {
    true
}

/// Most paths of a mapping.
const MAX_PATHS: usize = 10;
/// Longest name in a payload, in bytes.
const MAX_TARGET_BYTES: usize = 128;

fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Path>, D::Error> {
    let texts = OneOrMore::deserialize(deserializer)?.into_list();
    if texts.is_empty() || texts.len() > MAX_PATHS {
        return Err(D::Error::custom("must have 1 to 10 paths"));
    }
    texts.iter().map(|text| Path::parse(text).map_err(D::Error::custom)).collect()
}

fn transforms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Transform>, D::Error> {
    let texts = OneOrMore::deserialize(deserializer)?.into_list();
    if texts.len() > MAX_PATHS {
        return Err(D::Error::custom("must have at most 10 transforms"));
    }
    // Its form is beside it.
    let others = texts.iter().filter(|text| *text != "date_format");
    others.map(|text| Transform::parse(text).map_err(D::Error::custom)).collect()
}

fn target<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let fits = (1..=MAX_TARGET_BYTES).contains(&text.len()) && !text.contains(char::is_control);
    if fits { Ok(text) } else { Err(D::Error::custom("must have 1 to 128 bytes and no control characters")) }
}

fn event_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    target(deserializer).map(Some)
}

impl Mapping {
    /// A mapping of one property under another name, as handlers have them.
    pub(crate) fn of_property(property: &str, target: &str) -> Self {
        Self {
            target: target.to_owned(),
            label: String::new(),
            source: vec![Path::of_names("properties", &[property])],
            transform: Vec::new(),
            format: None,
            value_map: None,
            default: None,
            each: None,
            otherwise: None,
            pii: None,
            evidence: String::new(),
        }
    }
}
