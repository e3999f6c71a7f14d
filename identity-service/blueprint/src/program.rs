//! A blueprint made ready: global mappings, handlers with all that they share, and a customer's own differences.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    facts::Facts,
    format::{Action, DateFormat, File, Handler, Mapping, OwnEvent, Pii, Preset, Properties, Sources},
    pii::Scrubber,
    transform::{Transform, snake_case},
};

/// A blueprint that can be applied.
#[derive(Debug, Clone)]
pub struct Program {
    pub(crate) name_target: String,
    pub(crate) globals: Vec<Mapping>,
    /// Targets of global mappings, which no property reaches.
    pub(crate) reserved: BTreeSet<String>,
    pub(crate) handlers: Vec<Compiled>,
    pub(crate) events: BTreeMap<String, OwnEvent>,
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) unmapped: Action,
    pub(crate) flatten: Properties,
    pub(crate) pii: Pii,
}

/// A handler with all that it shares with others.
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    /// Its name; without the `*` of one that takes all that begin with it.
    pub(crate) name: String,
    pub(crate) is_prefix: bool,
    pub(crate) aka: Vec<String>,
    pub(crate) vendor_event_name: Option<String>,
    pub(crate) mappings: Vec<Mapping>,
}

/// A customer's own differences from a blueprint.
#[derive(Debug, Clone)]
pub struct Differences {
    /// Mappings on top of all others.
    pub mappings: Vec<Mapping>,
    /// Settings of single events, by name.
    pub events: BTreeMap<String, OwnEvent>,
    /// Whether events without a handler are sent; none: what the blueprint says.
    pub unmapped: Option<Action>,
    /// How addresses and numbers are sent.
    pub pii: Pii,
}

impl Default for Differences {
    fn default() -> Self {
        Self { mappings: Vec::new(), events: BTreeMap::new(), unmapped: None, pii: Pii::Plain }
    }
}

impl Program {
    /// Makes a blueprint ready with a preset and a customer's differences.
    pub fn new(file: &File, preset: &Preset, own: Differences) -> Self {
        let counts = |mapping: &&Mapping| mapping.pii.is_none_or(|pii| pii == own.pii);
        let handlers = preset.events.iter().map(|(name, handler)| Compiled::of(preset, name, handler));
        Self {
            name_target: file.event_name.target.clone(),
            globals: file.global.mappings.iter().filter(counts).map(settled).collect(),
            reserved: file.global.mappings.iter().map(|mapping| mapping.target.clone()).collect(),
            handlers: handlers.collect(),
            events: own
                .events
                .into_iter()
                .map(|(name, event)| {
                    let mappings = event.mappings.iter().map(settled).collect();
                    (name, OwnEvent { mappings, ..event })
                })
                .collect(),
            mappings: own.mappings.iter().map(settled).collect(),
            unmapped: own.unmapped.unwrap_or(file.defaults.action),
            flatten: file.defaults.properties,
            pii: own.pii,
        }
    }

    /// The mappings of a handler, with all that it shares with others.
    pub fn mappings_of(preset: &Preset, name: &str, handler: &Handler) -> Vec<Mapping> {
        Compiled::of(preset, name, handler).mappings
    }

    /// Fields of vendor IDs that its mappings read.
    pub fn vendor_fields(&self) -> BTreeSet<String> {
        self.names_of("vendor_ids")
    }

    /// Vendors whose match keys its mappings read.
    pub fn match_key_vendors(&self) -> BTreeSet<String> {
        self.names_of("match_keys")
    }

    /// True where a text has something of a person that may not be sent as it is.
    pub fn hides(&self, facts: &Facts<'_>, text: &str) -> bool {
        Scrubber::of(self.pii, facts).is_some_and(|scrubber| scrubber.cleaned(text).is_some())
    }

    fn names_of(&self, root: &str) -> BTreeSet<String> {
        let paths = self.all().flat_map(sources).filter(|path| path.root == root);
        paths.filter_map(|path| path.first_name().map(str::to_owned)).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Mapping> {
        let own = self.events.values().flat_map(|event| &event.mappings);
        let of_handlers = self.handlers.iter().flat_map(|handler| &handler.mappings);
        self.globals.iter().chain(of_handlers).chain(own).chain(&self.mappings)
    }

    /// Finds the handler of an event: by its name to the letter, then by snake_case, and of those that take all that
    /// begin alike the longest.
    pub(crate) fn handler(&self, name: &str) -> Option<&Compiled> {
        let exact =
            |own: &&Compiled| !own.is_prefix && (own.name == name || own.aka.iter().any(|aka| aka == name));
        if let Some(found) = self.handlers.iter().find(exact) {
            return Some(found);
        }
        let snake = snake_case(name);
        let alike = |own: &&Compiled| {
            !own.is_prefix
                && (snake_case(&own.name) == snake || own.aka.iter().any(|aka| snake_case(aka) == snake))
        };
        let begins =
            |own: &&Compiled| own.is_prefix && (name.starts_with(&own.name) || snake.starts_with(&own.name));
        let longest = || self.handlers.iter().filter(begins).max_by_key(|own| own.name.len());
        self.handlers.iter().find(alike).or_else(longest)
    }

    /// Finds the customer's own settings of an event, by its name to the letter, then by snake_case.
    pub(crate) fn own_event(&self, name: &str) -> Option<&OwnEvent> {
        self.events.get(name).or_else(|| {
            let snake = snake_case(name);
            self.events.iter().find(|(own, _)| snake_case(own) == snake).map(|(_, event)| event)
        })
    }
}

impl Compiled {
    fn of(preset: &Preset, name: &str, handler: &Handler) -> Self {
        let (mut mappings, mut has_items) = (Vec::new(), false);
        let mut line = Some(handler);
        // A handler is like one that is like another; the bound is for a file that has a ring.
        for _ in 0..4 {
            let Some(own) = line else { break };
            mappings.extend(own.pick.iter().map(|property| Mapping::of_property(property, property)));
            mappings
                .extend(own.renamed.iter().map(|(property, target)| Mapping::of_property(property, target)));
            has_items |= own.items;
            line = own.like.as_ref().and_then(|like| preset.events.get(like));
        }
        if has_items {
            mappings.push(Mapping {
                source: vec![
                    crate::path::Path::of_names("properties", &["items"]),
                    crate::path::Path::of_names("properties", &["products"]),
                ],
                each: Some(preset.item.clone()),
                ..Mapping::of_property("items", "items")
            });
        }
        let prefix = name.strip_suffix('*');
        Self {
            name: prefix.unwrap_or(name).to_owned(),
            is_prefix: prefix.is_some(),
            aka: handler.aka.clone(),
            vendor_event_name: handler.vendor_event_name.clone(),
            mappings,
        }
    }
}

/// A mapping whose form of a time is one of its transforms.
fn settled(mapping: &Mapping) -> Mapping {
    let mut mapping = mapping.clone();
    mapping.transform.extend(mapping.format.take().map(|format| match format {
        DateFormat::Iso8601 => Transform::Iso8601,
        DateFormat::EpochMs => Transform::EpochMs,
        DateFormat::EpochS => Transform::EpochS,
    }));
    mapping
}

pub(crate) fn sources(mapping: &Mapping) -> Vec<&crate::path::Path> {
    mapping.source.iter().chain(mapping.otherwise.iter().flat_map(|other| &other.source)).collect()
}

/// Members of an item, by the first of their names that is there.
pub(crate) type Item = BTreeMap<String, Sources>;
