//! Deciding which syncs are due, and who may fire them.

use metrics::counter;
use proto::v1::{PendingSync, SyncRefusal};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{breaker::Breakers, client::Client, view::View};
use crate::{
    clock,
    consent::Decision,
    settings::{EnabledVendor, Source},
    storage::{Stores, cache_entries::ConsentEntry},
};

/// Syncs an answer offers at most; the page's other requests matter more.
const MAX_OFFERS: usize = 5;

/// Facts that decide what one browser of an organisation may be offered.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// The organisation whose data it reaches.
    pub org: Uuid,
    /// The source that has the vendors enabled.
    pub source: &'a Source,
    /// The browser's consent.
    pub consent: &'a ConsentEntry,
    /// The browser's User-Agent header, where it asks itself.
    pub user_agent: Option<&'a str>,
    /// Vendors that nobody is sent to for a while.
    pub breakers: &'a Breakers,
    /// Time of the question.
    pub now: OffsetDateTime,
}

/// Vendors that may be offered now, longest waiting first.
pub fn due<'a>(asker: &Asker<'a>, view: &View) -> Vec<&'a EnabledVendor> {
    let Asker { org, source, consent, user_agent, breakers, now } = *asker;
    let (tried, now_ms) = (view.tried(), clock::unix_ms(now));
    let due_at = |enabled: &EnabledVendor| {
        tried.iter().find(|(vendor, _)| *vendor == enabled.vendor.name).map(|(_, at)| *at)
    };
    let mut due: Vec<(Option<i64>, &EnabledVendor)> = source
        .vendors
        .iter()
        .map(|enabled| (due_at(enabled), enabled))
        .filter(|(at, enabled)| at.is_none_or(|at| at <= now_ms) && !view.is_leased(enabled.vendor.name, now))
        // Last, as it reads JSON: mostly nothing is due.
        .filter(|(_, enabled)| allows(source, enabled, consent, now))
        .collect();
    // Mostly nothing is due, and nobody has to know what asks.
    if !due.is_empty() {
        let client = Client::of(user_agent);
        due.retain(|(_, enabled)| {
            unfit(enabled, client).is_none() && breakers.open_until(org, enabled.vendor.name, now).is_none()
        });
    }
    due.sort_by_key(|(waiting_since, _)| *waiting_since);
    due.into_iter().map(|(_, enabled)| enabled).collect()
}

/// Tells why a client is not sent to a vendor; none where it may be.
pub fn unfit(enabled: &EnabledVendor, client: Client) -> Option<SyncRefusal> {
    match client {
        Client::Crawler => Some(SyncRefusal::Crawler),
        Client::Browser { blocks_third_parties: true, .. } if enabled.supported_browsers_only => {
            Some(SyncRefusal::UnsupportedBrowser)
        }
        Client::Browser { .. } => None,
    }
}

/// True where the stored consent allows a vendor.
pub fn allows(source: &Source, enabled: &EnabledVendor, consent: &ConsentEntry, now: OffsetDateTime) -> bool {
    consent.signals().decide(&enabled.vendor.need, &source.consent, now) == Decision::Granted
}

/// Takes the lease of those that are due and returns what to offer. Without Redis nothing is offered: the
/// next page will do.
pub async fn offer(
    stores: &Stores,
    org: Uuid,
    canonical: Uuid,
    view: &View,
    due: &[&EnabledVendor],
    now: OffsetDateTime,
) -> Vec<PendingSync> {
    if due.is_empty() {
        return Vec::new();
    }
    let leases: Vec<String> = due.iter().map(|enabled| view.lease(enabled.vendor.name)).collect();
    let taken = match stores.redis.take_offers(org, canonical, &leases, MAX_OFFERS, now).await {
        Ok(taken) => taken,
        Err(error) => {
            tracing::debug!(%error, "nothing is offered without redis");
            return Vec::new();
        }
    };
    let offered: Vec<PendingSync> = due
        .iter()
        .zip(&leases)
        .filter(|(_, lease)| taken.contains(lease))
        .map(|(e, _)| describe(e))
        .collect();
    for sync in &offered {
        counter!("datafly_sync_offered_total", "vendor" => sync.vendor.clone()).increment(1);
    }
    offered
}

/// Lists what is due, without taking leases.
pub fn list(due: &[&EnabledVendor]) -> Vec<PendingSync> {
    due.iter().take(MAX_OFFERS).map(|enabled| describe(enabled)).collect()
}

fn describe(enabled: &EnabledVendor) -> PendingSync {
    PendingSync {
        vendor: enabled.vendor.name.to_owned(),
        url: format!("/v1/sync/{}", enabled.vendor.name),
        partner_id: enabled.partner_id.clone(),
    }
}
