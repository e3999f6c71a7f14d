//! Which syncs are due, and who may fire them.

use std::collections::HashMap;

use bb8_redis::redis::{Pipeline, Value, from_redis_value};
use metrics::counter;
use proto::v1::PendingSync;
use time::OffsetDateTime;
use uuid::Uuid;

use super::schedule::Attempt;
use crate::{
    clock,
    consent::{self, Decision},
    core::Core,
    error::Result,
    resolve,
    settings::{EnabledVendor, Source},
    storage::{
        entries::{self, ConsentEntry},
        fill,
        postgres::syncs,
        redis::{
            keys,
            protocol::{self, Text, VERSION_FIELD},
        },
    },
};

/// Syncs an answer offers at most; the page's other requests matter more.
const MAX_OFFERS: usize = 5;

/// The schedule of one canonical identity.
#[derive(Debug, Default)]
pub struct View {
    attempts: HashMap<String, Attempt>,
    /// End of the lease in ms, by vendor.
    leases: HashMap<String, i64>,
}

impl View {
    /// Adds the commands that [`View::read`] reads the answers of.
    pub fn ask(pipe: &mut Pipeline, org: Uuid, canonical: Uuid) {
        pipe.hgetall(keys::syncs(org, canonical).name);
        pipe.hgetall(keys::offers(org, canonical));
    }

    /// Reads two answers; none where the schedule has to come from PostgreSQL.
    pub fn read(answers: &mut impl Iterator<Item = Value>) -> Option<Self> {
        Self::judge(answers).ok()
    }

    fn judge(answers: &mut impl Iterator<Item = Value>) -> Result<Self, Text> {
        let mut hash = || -> HashMap<String, String> {
            answers.next().and_then(|answer| from_redis_value(answer).ok()).unwrap_or_default()
        };
        let (syncs, leases) = (hash(), hash());
        match protocol::hash_state(syncs.get(VERSION_FIELD).map(String::as_str)) {
            Text::Ready(_) => {}
            other => return Err(other),
        }
        let attempts = syncs
            .iter()
            .filter(|(vendor, _)| !vendor.starts_with('_'))
            .filter_map(|(vendor, text)| Some((vendor.clone(), entries::read_sync(text)?)))
            .collect();
        let leases =
            leases.into_iter().filter_map(|(vendor, ends)| Some((vendor, ends.parse().ok()?))).collect();
        Ok(Self { attempts, leases })
    }

    /// The schedule of a vendor, if it was ever tried.
    pub fn attempt(&self, vendor: &str) -> Option<&Attempt> {
        self.attempts.get(vendor)
    }

    fn is_leased(&self, vendor: &str, now: OffsetDateTime) -> bool {
        self.leases.get(vendor).is_some_and(|ends| *ends > clock::unix_ms(now))
    }
}

/// The schedule, from Redis, else from PostgreSQL.
pub async fn view(core: &Core, org: Uuid, canonical: Uuid, now: OffsetDateTime) -> Result<View> {
    let mut pipe = Pipeline::new();
    View::ask(&mut pipe, org, canonical);
    let missing = match core.stores.redis.pipeline::<Vec<Value>>(&pipe).await {
        Ok(answers) => match View::judge(&mut answers.into_iter()) {
            Ok(view) => return Ok(view),
            Err(Text::Missing) => vec![keys::syncs(org, canonical)],
            Err(_) => Vec::new(),
        },
        Err(error) => {
            tracing::debug!(%error, "redis is away; serving from postgres");
            Vec::new()
        }
    };
    let view = fill::through(&core.stores, &missing, async {
        let mut connection = core.stores.connection().await?;
        let attempts = syncs::find(&mut connection, org, canonical).await?;
        let entry = entries::syncs(org, canonical, &attempts);
        Ok((View { attempts: attempts.into_iter().collect(), ..View::default() }, vec![entry]))
    })
    .await?;
    // Redis has lost this identity's keys; the projections for other systems are among them.
    if !missing.is_empty() && !view.attempts.is_empty() {
        resolve::project::refresh(core, org, vec![canonical], now).await;
    }
    Ok(view)
}

/// Vendors that may be offered now, longest waiting first.
pub fn due<'a>(
    source: &'a Source,
    view: &View,
    consent: &ConsentEntry,
    now: OffsetDateTime,
) -> Vec<&'a EnabledVendor> {
    let mut due: Vec<(Option<OffsetDateTime>, &EnabledVendor)> = source
        .vendors
        .iter()
        .filter(|enabled| !view.is_leased(enabled.vendor.name, now))
        .filter_map(|enabled| match view.attempt(enabled.vendor.name) {
            None => Some((None, enabled)),
            Some(attempt) => attempt.is_due(now).then_some((Some(attempt.next_at), enabled)),
        })
        // Last, as it reads JSON: mostly nothing is due.
        .filter(|(_, enabled)| allows(source, enabled, consent))
        .collect();
    due.sort_by_key(|(waiting_since, _)| *waiting_since);
    due.into_iter().map(|(_, enabled)| enabled).collect()
}

/// Whether the stored consent allows a vendor.
pub fn allows(source: &Source, enabled: &EnabledVendor, consent: &ConsentEntry) -> bool {
    let text = resolve::consent::text(consent);
    consent::decide(text, consent.sec_gpc, enabled.vendor.category, source.consent_mode) == Decision::Granted
}

/// Takes the lease of those that are due and returns what to offer. Without Redis nothing is offered: the
/// next page will do.
pub async fn offer(
    core: &Core,
    org: Uuid,
    canonical: Uuid,
    due: &[&EnabledVendor],
    now: OffsetDateTime,
) -> Vec<PendingSync> {
    if due.is_empty() {
        return Vec::new();
    }
    let names: Vec<&str> = due.iter().map(|enabled| enabled.vendor.name).collect();
    let taken = match core.stores.redis.take_offers(org, canonical, &names, MAX_OFFERS, now).await {
        Ok(taken) => taken,
        Err(error) => {
            tracing::debug!(%error, "nothing is offered without redis");
            return Vec::new();
        }
    };
    for vendor in &taken {
        counter!("datafly_sync_offered_total", "vendor" => vendor.clone()).increment(1);
    }
    due.iter()
        .filter(|enabled| taken.iter().any(|name| name == enabled.vendor.name))
        .map(|e| describe(e))
        .collect()
}

/// What is due, without taking leases.
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
