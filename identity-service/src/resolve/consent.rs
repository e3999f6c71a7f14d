//! Consent signals of a browser: read, compared, and written only when they changed.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Resolver, facts::Facts, subject::Person};
use crate::{
    auth::Tenant,
    consent::{ConsentRule, Signals},
    storage::{
        cache_entries, consents,
        postgres::rows::ConsentRow,
        redis::keys::{self, Key},
    },
    vendors,
};

/// Reads what the people of a request need and Redis did not answer. What can't be read stays unknown.
pub async fn read_rest(resolver: &Resolver, org: Uuid, people: &[&Person], facts: &mut Facts) {
    // A browser that is new gets its signals stored without a look at what may be there.
    let replaced: HashSet<&str> = people
        .iter()
        .filter(|person| replaces_unseen(person, facts))
        .filter_map(|person| person.claims.anonymous_id())
        .collect();
    let needed: BTreeSet<&str> = people.iter().filter_map(|person| person.needs_consent()).collect();
    let unknown: Vec<&str> =
        needed.into_iter().filter(|id| facts.consent(id).is_none() && !replaced.contains(id)).collect();
    if unknown.is_empty() {
        return;
    }
    let missing: Vec<Key> =
        unknown.iter().filter(|id| facts.is_consent_fillable(id)).map(|id| keys::consent(org, id)).collect();
    match consents::load(&resolver.stores, org, &unknown, &missing, |_| true).await {
        Ok(loaded) => {
            for (anonymous_id, entry) in loaded {
                facts.learn_consent(&anonymous_id, entry);
            }
        }
        Err(error) => serve::warn_on_change!(WARN, %error, "consent can't be read"),
    }
}

/// The person's browser was made by this request, and comes with signals.
fn replaces_unseen(person: &Person, facts: &Facts) -> bool {
    let created = facts.canonical(&person.claims.primary).is_some_and(|known| known.created);
    created && person.consent.as_ref().is_some_and(|new| new.json.is_some())
}

/// Stores the signals that came with a request, in one transaction, where they differ from what is stored.
/// Returns the browsers whose signals could not be stored.
pub async fn replace(
    resolver: &Resolver,
    tenant: &Tenant,
    people: &[&Person],
    facts: &mut Facts,
    now: OffsetDateTime,
) -> HashSet<String> {
    let org = tenant.org;
    let rule = tenant.source.as_ref().map_or(&ConsentRule::NONE, |source| &source.consent);
    let grants = |json: &str| {
        let signals = Signals::parse(Some(json), false);
        vendors::needs().iter().any(|need| signals.grants(need, rule, now))
    };
    let mut wanted: BTreeMap<&str, (Option<&str>, bool)> = BTreeMap::new();
    let mut unseen = HashSet::new();
    for person in people {
        let (Some(anonymous_id), Some(new)) = (person.claims.anonymous_id(), &person.consent) else {
            continue;
        };
        let (signals, sec_gpc) = wanted.entry(anonymous_id).or_default();
        *signals = new.json.as_deref().map(str::trim).or(*signals);
        *sec_gpc |= new.sec_gpc;
        if replaces_unseen(person, facts) {
            unseen.insert(anonymous_id);
        }
    }
    let mut failed = HashSet::new();
    let mut rows = Vec::with_capacity(wanted.len());
    for (anonymous_id, (signals, mut sec_gpc)) in wanted {
        let differs = match facts.consent(anonymous_id) {
            Some(stored) => {
                let is_new = signals.is_some_and(|new| stored.text() != Some(new));
                // It ends where the same browser, without it, decides anew; a server can't carry it.
                let ends_gpc = || is_new && tenant.browser && signals.is_some_and(grants);
                sec_gpc = sec_gpc || stored.sec_gpc() && !ends_gpc();
                is_new || stored.sec_gpc() != sec_gpc
            }
            None if unseen.contains(anonymous_id) => true,
            None => {
                failed.insert(anonymous_id.to_owned());
                continue;
            }
        };
        if differs {
            let signals = signals.map(str::to_owned);
            let anonymous_id = anonymous_id.to_owned();
            rows.push(ConsentRow { anonymous_id, signals, sec_gpc, updated_at: now });
        }
    }
    if rows.is_empty() {
        return failed;
    }
    let browsers: Vec<String> = rows.iter().map(|row| row.anonymous_id.clone()).collect();
    match resolver.consents.store(org, rows).await {
        Ok(stored) => {
            for row in stored {
                facts.learn_consent(&row.anonymous_id, cache_entries::consent_entry(Some(&row)));
            }
        }
        Err(error) => {
            serve::warn_on_change!(WARN, %error, browsers = browsers.len(), "consent was not stored");
            failed.extend(browsers);
        }
    }
    failed
}
