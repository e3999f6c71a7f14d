//! Applying a blueprint: an event in, a payload out, or the reason why there is none.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::Value;

use crate::{
    facts::{self, Facts},
    format::{Action, Mapping, Properties},
    json::{self, Json, Node},
    pii::Scrubber,
    program::{Item, Program},
    transform::{Transform, snake_case},
};

/// An event as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The name that the vendor is told.
    pub event_name: String,
    /// The payload, a JSON object.
    pub json: String,
    /// Targets whose value could not be made what it is to be; they are left out.
    pub problems: Vec<String>,
    /// True where no handler knows the event.
    pub is_unmapped: bool,
}

/// The reason why an event is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSent {
    /// No handler knows it, and such events are dropped.
    Unmapped,
    /// It is switched off.
    Disabled,
}

impl NotSent {
    /// The word in counters and Live Events.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unmapped => "unmapped",
            Self::Disabled => "disabled",
        }
    }
}

/// Members of a payload on their way.
struct Members<'f> {
    members: BTreeMap<String, Cow<'f, str>>,
    problems: Vec<String>,
}

impl Program {
    /// Maps an event: the global mappings, then its handler's or its properties as they are, then the customer's own.
    pub fn apply(&self, facts: &Facts<'_>) -> Result<Payload, NotSent> {
        let name = facts.event_name();
        let (handler, own) = (self.handler(name), self.own_event(name));
        if own.is_some_and(|own| !own.enabled) {
            return Err(NotSent::Disabled);
        }
        let is_unmapped = handler.is_none() && own.is_none();
        let is_call = ["page", "identify", "group", "screen", "alias"].contains(&name);
        if is_unmapped && !is_call && self.unmapped == Action::Drop {
            return Err(NotSent::Unmapped);
        }
        let mut made = Members { members: BTreeMap::new(), problems: Vec::new() };
        for mapping in &self.globals {
            // Of several for one target the first that finds something.
            if !made.members.contains_key(&mapping.target) {
                made.map(facts, mapping);
            }
        }
        let of_handler = handler.map_or(&[][..], |handler| &handler.mappings);
        let flatten = own.and_then(|own| own.properties);
        let flatten = flatten.unwrap_or(if handler.is_none() { self.flatten } else { Properties::None });
        if flatten == Properties::Flatten {
            self.flatten(facts, &mut made);
        }
        for mapping in of_handler {
            // An event that has both names of a property means its own.
            if !made.members.contains_key(&mapping.target) {
                made.map(facts, mapping);
            }
        }
        let own_mappings = own.map_or(&[][..], |own| &own.mappings);
        for mapping in own_mappings.iter().chain(&self.mappings) {
            made.map(facts, mapping);
        }
        let event_name = own.and_then(|own| own.vendor_event_name.clone()).unwrap_or_else(|| match handler {
            Some(handler) if handler.is_prefix && name.starts_with(&handler.name) => name.to_owned(),
            Some(handler) if handler.is_prefix => snake_case(name),
            Some(handler) => handler.vendor_event_name.clone().unwrap_or_else(|| handler.name.clone()),
            None => name.to_owned(),
        });
        made.members.insert(self.name_target.clone(), Cow::Owned(json::quoted(&event_name)));
        let mut text = String::from("{");
        for (name, raw) in &made.members {
            json::push_member(&mut text, name, raw);
        }
        text.push('}');
        let json = match Scrubber::of(self.pii, facts) {
            Some(scrubber) => scrubber.scrub(&text),
            None => text,
        };
        Ok(Payload { event_name, json, problems: made.problems, is_unmapped })
    }

    /// What a customer's own mappings come to, by target.
    pub(crate) fn own_values(&self, facts: &Facts<'_>) -> Vec<(String, String)> {
        let mut made = Members { members: BTreeMap::new(), problems: Vec::new() };
        for mapping in &self.mappings {
            made.map(facts, mapping);
        }
        made.members.into_iter().map(|(name, raw)| (name, raw.into_owned())).collect()
    }

    /// Takes each property under its own name; one that a global mapping owns under another.
    fn flatten<'f>(&self, facts: &'f Facts<'_>, made: &mut Members<'f>) {
        let Some(Json::Object(properties)) = facts.event.member("properties").map(|node| &node.value) else {
            return;
        };
        for (name, node) in properties {
            if node.is_nothing() {
                continue;
            }
            let is_ours = self.reserved.contains(name.as_ref()) || *name == self.name_target;
            let target = if is_ours { format!("prop_{name}") } else { name.to_string() };
            let raw = facts::property_without_token(name, node)
                .map_or(Cow::Borrowed(node.raw.as_ref()), Cow::Owned);
            made.members.insert(target, raw);
        }
    }
}

impl<'f> Members<'f> {
    fn map(&mut self, facts: &'f Facts<'_>, mapping: &Mapping) {
        match value(facts, mapping) {
            Found::Value(raw) => drop(self.members.insert(mapping.target.clone(), raw)),
            Found::Nothing => {}
            Found::Misfit => self.problems.push(mapping.target.clone()),
        }
    }
}

/// What a mapping comes to.
enum Found<'f> {
    Value(Cow<'f, str>),
    Nothing,
    /// There was something that could not be made what it is to be.
    Misfit,
}

fn value<'f>(facts: &'f Facts<'_>, mapping: &Mapping) -> Found<'f> {
    let mut is_misfit = false;
    let first = mapping.source.iter().find_map(|path| facts.find(path));
    if let Some(found) = first {
        let made = match &mapping.each {
            Some(item) => each(&found, item).map(Cow::Owned),
            None => transformed(found, &mapping.transform).map(|node| match node {
                Cow::Borrowed(node) => Cow::Borrowed(node.raw.as_ref()),
                Cow::Owned(node) => Cow::Owned(node.raw.into_owned()),
            }),
        };
        match (made, &mapping.value_map) {
            (Some(raw), None) => return Found::Value(raw),
            (Some(raw), Some(map)) => {
                let text = Node::parse(&raw).and_then(|node| node.scalar_text().map(str::to_owned));
                let mapped = text.and_then(|text| map.get(&text)).or_else(|| map.get("*"));
                if let Some(mapped) = mapped {
                    return Found::Value(Cow::Owned(mapped.to_string()));
                }
            }
            (None, _) => is_misfit = true,
        }
    }
    let second = mapping.otherwise.as_ref().and_then(|other| {
        let found = other.source.iter().find_map(|path| facts.find(path))?;
        Some(Cow::Owned(transformed(found, &other.transform)?.into_owned().raw.into_owned()))
    });
    let fallback = || mapping.default.as_ref().filter(|value| !value.is_null()).map(Value::to_string);
    match second.or_else(|| fallback().map(Cow::Owned)) {
        Some(raw) => Found::Value(raw),
        None if is_misfit => Found::Misfit,
        None => Found::Nothing,
    }
}

fn transformed<'n, 'a>(found: Cow<'n, Node<'a>>, transforms: &[Transform]) -> Option<Cow<'n, Node<'a>>> {
    transforms.iter().try_fold(found, |node, transform| transform.apply(&node).map(Cow::Owned))
}

/// A list of objects, each with the members of `item` that it has.
fn each(list: &Node<'_>, item: &Item) -> Option<String> {
    let Json::Array(items) = &list.value else { return None };
    let mut text = String::from("[");
    for one in items {
        if !matches!(one.value, Json::Object(_)) {
            continue;
        }
        let mut members = String::from("{");
        for (target, sources) in item {
            let found = sources.0.iter().filter_map(|name| one.member(name)).find(|node| !node.is_nothing());
            if let Some(node) = found {
                json::push_member(&mut members, target, &node.raw);
            }
        }
        members.push('}');
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&members);
    }
    text.push(']');
    Some(text)
}
