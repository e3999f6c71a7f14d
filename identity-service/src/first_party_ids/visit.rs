//! Collecting: what a request's browsers bring and get. Nothing is made, stored or set without consent.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use futures_util::future::join_all;
use proto::v1::Cookie;
use time::OffsetDateTime;
use tokio::time::timeout;

use super::{
    cookies::cookie,
    plan::{Plan, Step},
    read,
    store::{Fate, NewCollected},
};
use crate::{
    app::Core,
    consent::{Decision, decide},
    resolve::{Tenant, consent, facts::Read, subject::Person},
    settings::Source,
    storage::cache_entries::{self, ConsentEntry},
};
use crate::{
    vendor_ids::precedence::{NewId, Record},
    vendors::{cookie_format, generated::GeneratedId},
};

/// Longest time that an event waits for what it brings to be stored. It counts without that, also where
/// PostgreSQL is away.
const PATIENCE: Duration = Duration::from_millis(500);

/// Cookies that a request's browser is given.
#[derive(Debug, Default)]
pub struct Given {
    /// The anonymous ID of that browser.
    pub browser: String,
    /// Cookies of vendors, to be set in that browser.
    pub cookies: Vec<Cookie>,
}

/// Collects for `people`, all of whom are of one request. `unsaved` are browsers whose consent could not be
/// stored. What can't be stored is tried again with the next event.
pub async fn collect(
    core: &Core,
    tenant: &Tenant,
    people: &[&Person],
    read: &mut Read,
    unsaved: &HashSet<String>,
    now: OffsetDateTime,
) -> Given {
    let Some(source) = tenant.source.as_deref() else { return Given::default() };
    if !people.iter().any(|person| person.brought.is_any()) {
        return Given::default();
    }
    read::rest(core, tenant, people, read, now).await;
    let plans = plans(source, people, read, unsaved, now);
    let with_cookies = people.iter().find(|person| person.brought.may_make);
    let browser = with_cookies.and_then(|person| person.anonymous_id());
    let cookies = with_cookies.map(|person| &person.brought);
    let labels = cookie_format::labels(tenant.host.as_ref());
    let (mut gifts, mut writing) = (Vec::new(), Vec::new());
    for (anonymous_id, plan) in plans {
        let mut ids = plan.new_clicks();
        if let Some(cookies) = cookies.filter(|_| browser == Some(anonymous_id)) {
            for record in &source.generated_ids {
                match plan.generated(record, cookies.cookie(record), labels, rand::random()) {
                    Some(Step::Store(new)) => ids.push(new),
                    Some(Step::Give(id, expires_at)) => gifts.push((*record, id, expires_at)),
                    None => {}
                }
            }
        }
        if !ids.is_empty() {
            let new = NewCollected {
                anonymous_id: anonymous_id.to_owned(),
                pipeline: source.pipeline,
                mode: source.consent_mode,
                ids: ids.clone(),
                now,
            };
            let stored = core.syncs.collected(tenant.org, new);
            writing.push(async move { stored.await.map(|fates| ids.into_iter().zip(fates)) });
        }
    }
    // What takes longer is stored all the same, and the cookies follow with the next event.
    for written in timeout(PATIENCE, join_all(writing)).await.unwrap_or_default() {
        match written {
            Ok(written) => gifts.extend(written.filter_map(gift)),
            Err(error) => serve::failing!(WARN, %error, "collected IDs were not stored"),
        }
    }
    let cookie = |(record, id, expires_at): Gift| {
        // A cookie that goes back to its browser stays as it was.
        let own = cookies.and_then(|cookies| cookies.cookie(record));
        let own = own.filter(|own| record.format.read(own) == Some(&id)).map(str::to_owned);
        let value = own.unwrap_or_else(|| record.format.cookie(&id, labels));
        cookie(record, value, expires_at, tenant.host.as_ref(), now)
    };
    Given {
        browser: browser.unwrap_or_default().to_owned(),
        cookies: gifts.into_iter().map(cookie).collect(),
    }
}

/// Makes a plan for each browser, with the clicks of all its events.
fn plans<'a>(
    source: &Source,
    people: &[&'a Person],
    read: &'a Read,
    unsaved: &HashSet<String>,
    now: OffsetDateTime,
) -> BTreeMap<&'a str, Plan<'a>> {
    let mut plans: BTreeMap<&str, Plan<'_>> = BTreeMap::new();
    for person in people.iter().filter(|person| person.brought.is_any()) {
        let Some(anonymous_id) = person.anonymous_id().filter(|id| !unsaved.contains(*id)) else { continue };
        let held = read.canonical(&person.primary).and_then(|known| read.held(known.canonical));
        let Some((held, stored)) = held.zip(read.consent(anonymous_id)) else { continue };
        let plan = plans.entry(anonymous_id).or_insert_with(|| Plan {
            mark: cache_entries::mark(anonymous_id),
            held,
            granted: granted(source, stored),
            clicks: BTreeMap::new(),
            now,
        });
        plan.add(&person.brought);
    }
    plans
}

/// The categories of what is collected that stored consent grants. They are few, and each is decided once.
fn granted(source: &Source, stored: &ConsentEntry) -> BTreeSet<&'static str> {
    let clicks = source.click_ids.iter().map(|record| record.category);
    let categories: BTreeSet<&str> =
        clicks.chain(source.generated_ids.iter().map(|record| record.category)).collect();
    let signals = consent::text(stored);
    let is_granted =
        |category: &&str| decide(signals, stored.sec_gpc, category, source.consent_mode) == Decision::Granted;
    categories.into_iter().filter(is_granted).collect()
}

type Gift = (&'static GeneratedId, String, OffsetDateTime);

/// The gift to the browser from an ID that was to be stored; none where that was left out or was a click's.
fn gift((new, fate): (NewId, Fate)) -> Option<Gift> {
    let Record::Generated(record) = new.record else { return None };
    match fate {
        Fate::Stored => Some((record, new.value, new.expires_at)),
        Fate::Kept(value, expires_at) => Some((record, value, expires_at)),
        Fate::Left => None,
    }
}
