//! The device that a request comes from: which of its cookies counts, and what a reset leaves behind.

use std::collections::BTreeSet;

use proto::v1::Subject;
use uuid::Uuid;

use super::{Resolver, subject::Person};
use crate::{
    identifiers::{self, Identifier, Kind, Parsed},
    storage::lookup,
};

/// Most values of the cookie that are looked at; browsers send one, or two where its domain was changed.
const MAX_COOKIES: usize = 8;

/// Decides which cookie counts for each of `subjects`, where the browser sent several: the event's own ID, else the one
/// that is known. Where several are known, of different people, none counts. Those of before a reset are left as they
/// are: it replaces all of them.
pub async fn choose_cookies(resolver: &Resolver, org: Uuid, subjects: &mut [Subject]) {
    let is_undecided = |subject: &Subject| !subject.cookie_anonymous_ids.is_empty() && !subject.reset;
    // They are the request's, and so the same for all of its events.
    let Some(first) = subjects.iter().find(|subject| is_undecided(subject)) else { return };
    let sent = first.cookie_anonymous_id.iter().chain(&first.cookie_anonymous_ids).take(MAX_COOKIES);
    let mut usable: Vec<Identifier> = Vec::new();
    for cookie in sent.filter_map(|text| parse(text)) {
        if !usable.contains(&cookie) {
            usable.push(cookie);
        }
    }
    // Boxed, as nearly no call comes this way and each would carry the room for it.
    let known = Box::pin(lookup::canonicals(&resolver.stores, org, &usable)).await.unwrap_or_else(|error| {
        serve::warn_on_change!(WARN, %error, "which of several cookies is known can't be read");
        // As if all were: none counts.
        usable.iter().map(|_| Some(Uuid::now_v7())).collect()
    });
    let people: BTreeSet<Uuid> = known.iter().flatten().copied().collect();
    let known: Vec<&Identifier> =
        usable.iter().zip(known).filter(|(_, person)| person.is_some()).map(|(id, _)| id).collect();
    for subject in subjects.iter_mut().filter(|subject| is_undecided(subject)) {
        let own = subject.anonymous_id.as_deref().and_then(parse);
        let chosen = match own.filter(|own| usable.contains(own)) {
            Some(own) => Some(own),
            None if people.is_empty() => usable.first().cloned(),
            None => known.first().filter(|_| people.len() == 1).map(|id| (*id).clone()),
        };
        subject.cookie_anonymous_id = chosen.map(|id| id.value);
        subject.cookie_anonymous_ids.clear();
    }
}

fn parse(text: &str) -> Option<Identifier> {
    match identifiers::parse(Kind::AnonymousId, text, identifiers::MAX_BROWSER_BYTES) {
        Parsed::Ok(id) => Some(id),
        Parsed::Absent | Parsed::Junk | Parsed::Invalid => None,
    }
}

/// The state of a device while the events of a request are read, in order.
#[derive(Default)]
pub struct Device {
    /// The ID of the event before, which the device has until a reset gives it another.
    had: Option<Identifier>,
    /// The ID that it has from the last reset on.
    began: Option<Identifier>,
    /// The IDs that this reset replaced.
    replaced: Vec<Identifier>,
}

impl Device {
    /// Gives an event that follows a reset the cookie that the reset's answer sets, in place of one that it replaced.
    /// Who sends for many devices at once sends no cookies, and nothing is handed on.
    pub fn hand_cookie(&self, subject: &mut Subject) {
        let (Some(began), Some(cookie)) = (&self.began, &subject.cookie_anonymous_id) else { return };
        if self.replaced.iter().any(|old| old.value == *cookie) {
            subject.cookie_anonymous_id = Some(began.value.clone());
            subject.cookie_anonymous_ids.clear();
        }
    }

    /// Notes the ID that the event gives the device. Where there is no cookie yet, a reset replaces the ID of the event
    /// before.
    pub fn note(&mut self, person: &mut Person) {
        let Some(browser) = person.claims.browser().cloned() else { return };
        let had = self.had.replace(browser.clone()).filter(|had| *had != browser);
        if person.claims.reset {
            let replaced = &mut person.claims.replaced;
            if replaced.is_empty() && !person.has_cookie {
                replaced.extend(had);
            }
            self.replaced.clone_from(replaced);
            self.began = Some(browser);
        }
    }
}
