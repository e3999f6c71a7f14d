//! The signals of one browser, parsed, and the consent function: any denial wins, else any grant, else the pipeline's
//! mode.

use std::sync::OnceLock;

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{
    ConsentMode, ConsentRule, Decision, Forwarded, Vote,
    categories::{self, LISTS},
    google, gpc,
    gpp::Gpp,
    mapping::Category,
    tcf::Tcf,
    unique::Unique,
    us_privacy,
};
use crate::vendors::ConsentNeed;

/// Members with words of several parts, each as scripts of platforms spell it and as it counts.
const SPELLINGS: [(&str, &str); 3] =
    [("gdprApplies", "gdpr_applies"), ("gppSid", "gpp_sid"), ("usPrivacy", "us_privacy")];
/// Most names of a consent object that nobody understands are told.
const MAX_TOLD: usize = 20;
/// Longest name that is told, in characters.
const MAX_TOLD_CHARS: usize = 64;

/// The consent signals of a browser, parsed.
#[derive(Debug, Clone)]
pub struct Signals {
    /// The vote of the signals that say the same of every need.
    general: Vote,
    /// True where there is a text that is no such object.
    is_unreadable: bool,
    /// The members of the consent object, each named once and none empty.
    members: Map<String, Value>,
    /// The strings among the members, read when a need first asks; none where there is no string.
    strings: OnceLock<Option<Box<Strings>>>,
}

/// The consent strings of a browser, read: each votes on every need by itself.
#[derive(Debug, Clone)]
struct Strings {
    tcf: Tcf,
    gpp: Gpp,
}

impl Strings {
    /// Reads the strings of a consent object; none where it has none. What a platform says of its string counts as one.
    fn read(object: &Map<String, Value>) -> Option<Box<Self>> {
        let has_any = ["tcf", "gpp", "gpp_sid"].iter().any(|name| object.contains_key(*name));
        has_any.then(|| Box::new(Self { tcf: Tcf::read(object), gpp: Gpp::read(object) }))
    }

    fn vote(&self, need: &ConsentNeed, now: OffsetDateTime) -> Vote {
        self.tcf.vote(need, now).max(self.gpp.vote(need, now))
    }
}

impl Signals {
    /// Parses the consent object (JSON, verbatim; none where the browser sent none) and takes Sec-GPC beside it. A text
    /// that is no JSON object, or names a member twice, be it in two spellings, denies. A member that is null, or holds
    /// nothing, is as if absent.
    pub fn parse(json: Option<&str>, sec_gpc: bool) -> Self {
        let (mut members, mut is_unreadable) = match json.map(serde_json::from_str) {
            None => (Map::new(), false),
            Some(Ok(Unique(Value::Object(members)))) => (members, false),
            Some(Ok(Unique(value))) if is_empty(&value) => (Map::new(), false),
            Some(_) => (Map::new(), true),
        };
        remove_empty(&mut members);
        for (spelling, name) in SPELLINGS {
            if let Some(value) = members.remove(spelling) {
                is_unreadable |= members.insert(name.to_owned(), value).is_some();
            }
        }
        let votes = [us_privacy::vote(&members), gpc::vote(sec_gpc, &members)];
        let unreadable = if is_unreadable { Vote::Unreadable } else { Vote::Silent };
        let general = votes.into_iter().fold(unreadable, Vote::max);
        Self { general, is_unreadable, members, strings: OnceLock::new() }
    }

    /// Decides for `need` at that time, as strings age. What the absence of signals means, `rule` says.
    pub fn decide(&self, need: &ConsentNeed, rule: &ConsentRule, now: OffsetDateTime) -> Decision {
        match (self.vote(need, rule, now), rule.mode) {
            (Vote::Deny | Vote::Unreadable, _) | (Vote::Silent, ConsentMode::Explicit) => Decision::Denied,
            (Vote::Grant, _) | (Vote::Silent, ConsentMode::Implicit) => Decision::Granted,
        }
    }

    /// True where the visitor refuses `need`: not where nothing is said, and not where what is said can't be read.
    pub fn refuses(&self, need: &ConsentNeed, rule: &ConsentRule, now: OffsetDateTime) -> bool {
        self.vote(need, rule, now) == Vote::Deny
    }

    /// True where the signals allow `need` by themselves, whatever the mode.
    pub fn grants(&self, need: &ConsentNeed, rule: &ConsentRule, now: OffsetDateTime) -> bool {
        self.vote(need, rule, now) == Vote::Grant
    }

    /// True where the object says that Global Privacy Control is on.
    pub fn is_gpc(&self) -> bool {
        self.members.get("gpc") == Some(&Value::Bool(true))
    }

    /// The values to tell a vendor that a browser is sent to; whether it may be sent, [`Signals::decide`] says.
    pub fn forwarded(&self) -> Forwarded<'_> {
        Forwarded::of(&self.members)
    }

    fn vote(&self, need: &ConsentNeed, rule: &ConsentRule, now: OffsetDateTime) -> Vote {
        // What the visitor refuses of everything, nothing else can change.
        if self.general == Vote::Deny {
            return Vote::Deny;
        }
        let own = categories::vote(&self.members, need, rule).max(google::vote(&self.members, need));
        let strings = self.strings.get_or_init(|| Strings::read(&self.members)).as_ref();
        let strings = strings.map_or(Vote::Silent, |strings| strings.vote(need, now));
        let vote = self.general.max(own).max(strings);
        // Whoever says something that nobody understands may have refused.
        if vote <= Vote::Grant && !self.is_understood(rule) { Vote::Unreadable } else { vote }
    }

    /// True where the object holds nothing, or anything that is known.
    fn is_understood(&self, rule: &ConsentRule) -> bool {
        let is_listed = |list: &Value| match list {
            Value::Object(list) => list.keys().any(|code| rule.categories(code).next().is_some()),
            _ => false,
        };
        let is_known = |(name, value): (&String, &Value)| match name.as_str() {
            "tcf" | "gpp" | "us_privacy" | "gpc" | "gdpr_applies" => true,
            "google" => value
                .as_object()
                .is_some_and(|google| google::NAMES.iter().any(|name| google.contains_key(*name))),
            list if LISTS.contains(&list) => is_listed(value),
            name => Category::of_name(name).is_some(),
        };
        !self.is_unreadable && (self.members.is_empty() || self.members.iter().any(is_known))
    }

    /// The names of the members and codes of an object in which nothing is known; none where something is.
    pub fn unknown_names(&self, rule: &ConsentRule) -> Option<Vec<String>> {
        if self.is_understood(rule) {
            return None;
        }
        let names = self.members.iter().flat_map(|(name, value)| match value {
            Value::Object(list) if LISTS.contains(&name.as_str()) => list.keys().collect(),
            _ => vec![name],
        });
        let cut = |name: &String| name.chars().take(MAX_TOLD_CHARS).collect();
        Some(names.map(cut).take(MAX_TOLD).collect())
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Removes what holds nothing, within lists of categories and Google's names as well.
fn remove_empty(members: &mut Map<String, Value>) {
    for value in members.values_mut() {
        if let Value::Object(inner) = value {
            inner.retain(|_, value| !is_empty(value));
        }
    }
    members.retain(|_, value| !is_empty(value));
}

#[cfg(test)]
mod tests;
