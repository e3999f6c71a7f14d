//! Collecting: what a request's browsers bring and get. Nothing is made, stored or set without consent.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::future::join_all;
use proto::v1::Cookie;
use time::OffsetDateTime;
use tokio::time::timeout;

use super::{
    cookies::{cookie, labels},
    observed::ObservedIds,
    plan::{Plan, Step},
    store::{Fate, NewCollected},
};
use crate::{
    auth::Tenant,
    identifiers::{Identifier, Kind},
    settings::Source,
    storage::cache_entries::ConsentEntry,
    vendor_ids::{
        new_id::{IdRecord, NewId},
        stored::StoredIds,
        writer::VendorIdWriter,
    },
    vendors::{GeneratedId, cookie_format::Reading},
};

/// Longest time that an event waits for what it brings to be stored. It counts without that, also where
/// PostgreSQL is away.
const STORE_TIMEOUT: Duration = Duration::from_millis(500);

/// Cookies that a request's browser is given.
#[derive(Debug, Default)]
pub struct Given {
    /// The anonymous ID of that browser.
    pub browser: String,
    /// Cookies of vendors, to be set in that browser.
    pub cookies: Vec<Cookie>,
}

/// An event that brings something, with what is stored for its browser or user.
pub struct Visit<'a> {
    /// The browser, or the user where there is none.
    pub owner: &'a Identifier,
    /// IDs that the event brings.
    pub observed: &'a ObservedIds,
    /// IDs that the owner has brought before.
    pub stored: &'a StoredIds,
    /// Consent signals of the browser, or those of the event where there is none.
    pub consent: &'a ConsentEntry,
}

/// The fields that the events of `observed` may change on `source`.
pub fn fields<'a>(
    source: &Source,
    observed: impl Iterator<Item = &'a ObservedIds> + Clone,
) -> Vec<&'static str> {
    let may_make = observed.clone().any(|ids| ids.may_make);
    let clicks = observed.flat_map(|ids| &ids.clicks).map(|(record, _)| record.field);
    let made = source.generated_ids.iter().filter(|_| may_make).map(|record| record.field);
    let fields: BTreeSet<&str> = clicks.chain(made).collect();
    fields.into_iter().collect()
}

/// Collects for `visits`, all of which are of one request, in order. `own` is the browser whose cookies came, where
/// its pipeline has IDs made. What can't be stored is tried again with the next event.
pub async fn collect(
    writer: &VendorIdWriter,
    tenant: &Tenant,
    source: &Source,
    visits: &[Visit<'_>],
    own: Option<(&str, &ObservedIds)>,
    now: OffsetDateTime,
) -> Given {
    let labels = labels(tenant.host.as_deref());
    let (mut gifts, mut writing) = (Vec::new(), Vec::new());
    for (owner, (plan, consent)) in plans(source, visits, now) {
        let mut ids = plan.new_clicks();
        if let Some((_, cookies)) =
            own.filter(|(browser, _)| owner.kind == Kind::AnonymousId && *browser == owner.value)
        {
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
                owner: owner.clone(),
                signals: consent.clone(),
                pipeline: source.pipeline,
                rule: source.consent.clone(),
                ids: ids.clone(),
                now,
            };
            let written = writer.write(tenant.org, new);
            writing.push(async move { written.await.map(|written| ids.into_iter().zip(written.output)) });
        }
    }
    // What takes longer is stored all the same, and the cookies follow with the next event.
    for written in timeout(STORE_TIMEOUT, join_all(writing)).await.unwrap_or_default() {
        match written {
            Ok(written) => gifts.extend(written.filter_map(gift)),
            Err(error) => serve::warn_on_change!(WARN, %error, "collected IDs were not stored"),
        }
    }
    let cookie = |(record, id, expires_at): Gift| {
        // A cookie that goes back to its browser stays as it was.
        let came = own.and_then(|(_, cookies)| cookies.cookie(record));
        let came = came.filter(|came| record.format.read(came) == Reading::Id(&id)).map(str::to_owned);
        let value = came.unwrap_or_else(|| record.format.cookie(&id, labels));
        cookie(record, value, expires_at, tenant.host.as_deref(), now)
    };
    Given {
        browser: own.map(|(browser, _)| browser.to_owned()).unwrap_or_default(),
        cookies: gifts.into_iter().map(cookie).collect(),
    }
}

/// Plans by browser or user, each with the consent that counts.
type Plans<'a> = BTreeMap<&'a Identifier, (Plan<'a>, &'a ConsentEntry)>;

/// Makes a plan for each browser or user, with the clicks of all its events.
fn plans<'a>(source: &'a Source, visits: &[Visit<'a>], now: OffsetDateTime) -> Plans<'a> {
    let mut plans = Plans::new();
    for visit in visits {
        let made = || Plan {
            stored: visit.stored,
            signals: visit.consent.signals(),
            rule: &source.consent,
            clicks: BTreeMap::new(),
            now,
        };
        let (plan, _) = plans.entry(visit.owner).or_insert_with(|| (made(), visit.consent));
        plan.add(visit.observed);
    }
    plans
}

type Gift = (&'static GeneratedId, String, OffsetDateTime);

/// The gift to the browser from an ID that was to be stored; none where that was left out or was a click's.
fn gift((new, fate): (NewId, Fate)) -> Option<Gift> {
    let IdRecord::Generated(record) = new.record else { return None };
    match fate {
        Fate::Stored => Some((record, new.value, new.expires_at)),
        Fate::Kept(value, expires_at) => Some((record, value, expires_at)),
        Fate::Left => None,
    }
}
