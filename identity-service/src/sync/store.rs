//! Taking what a vendor sent back. Whatever it is, the browser gets its GIF; here it is decided, stored and
//! counted.

use diesel_async::AsyncPgConnection;
use metrics::counter;
use proto::v1::{StoreSyncResultRequest, SyncOutcome};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{
    schedule,
    state::SyncState,
    table,
    uid::{self, Uid},
    vendor::Mode,
};
use crate::{
    consent::{Decision, decide},
    core::Core,
    error::Result,
    identifiers::shorten,
    settings::{ConsentMode, EnabledVendor, Snapshot},
    storage::{
        change::{self, Change, Committed},
        entries,
        postgres::{
            consent, identities,
            rows::{ConsentRow, VendorIdRow},
            syncs, vendor_ids,
        },
        redis::protocol::Entry,
    },
};

/// Longest query string that is looked at, in bytes.
const MAX_QUERY_BYTES: usize = 8 * 1024;

/// Stores the result of a sync, and counts it.
pub async fn store(core: &Core, request: &StoreSyncResultRequest, now: OffsetDateTime) -> SyncOutcome {
    // An unknown name must not become a label.
    let vendor = table::find(&request.vendor).map_or("unknown", |vendor| vendor.name);
    let (outcome, repair) = match decide_and_store(core, request, now).await {
        Ok(committed) => (committed.output, committed.redis_failed),
        Err(error) => {
            tracing::error!(vendor, reason = ?error.reason(), "sync callback: not stored");
            (SyncOutcome::StoreFailed, false)
        }
    };
    let failed = |reason: &'static str| {
        counter!("datafly_sync_failed_total", "vendor" => vendor, "reason" => reason).increment(1);
    };
    match outcome {
        SyncOutcome::Stored if repair => failed("store_failed"),
        SyncOutcome::Stored => {
            counter!("datafly_sync_succeeded_total", "vendor" => vendor).increment(1);
        }
        SyncOutcome::NoId => failed("no_id"),
        SyncOutcome::NoCanonical => failed("no_canonical"),
        SyncOutcome::StoreFailed => failed("store_failed"),
        SyncOutcome::BadState => failed("bad_state"),
        SyncOutcome::InvalidId => failed("invalid_id"),
        SyncOutcome::ConsentDenied => failed("consent"),
        SyncOutcome::Unspecified => failed("unspecified"),
    }
    if outcome == SyncOutcome::Stored && repair { SyncOutcome::StoreFailed } else { outcome }
}

async fn decide_and_store(
    core: &Core,
    request: &StoreSyncResultRequest,
    now: OffsetDateTime,
) -> Result<Committed<SyncOutcome>> {
    let done = |output| Ok(Committed { output, redis_failed: false });
    let Some(vendor) = table::find(&request.vendor) else { return done(SyncOutcome::BadState) };
    if request.raw_query.len() > MAX_QUERY_BYTES {
        return done(SyncOutcome::BadState);
    }
    let callback = uid::read(vendor, &request.raw_query);
    let snapshot = core.settings.current().await?;
    // The state comes before the uid: what has no state is not even looked at.
    let sealed = match vendor.mode {
        Mode::Registered => request.state_cookie.as_deref().or(callback.state.as_deref()),
        Mode::Redirect { .. } | Mode::Append { .. } => callback.state.as_deref(),
    };
    let sealed = sealed.unwrap_or_default();
    let state = match core.states.open(sealed, now) {
        Ok(state) => state,
        Err(why) => {
            tracing::debug!(vendor = vendor.name, ?why, "sync callback: bad state");
            return done(SyncOutcome::BadState);
        }
    };
    let Some((enabled, mode)) = belongs(&snapshot, &state, request) else {
        return done(SyncOutcome::BadState);
    };
    let value = match callback.uid {
        Uid::Value(value) => Some(value),
        Uid::Missing => None,
        Uid::Invalid => return done(SyncOutcome::InvalidId),
    };
    let change = StoreResult {
        state,
        value,
        field: enabled.vendor.field,
        category: enabled.vendor.category,
        ttl_days: enabled.ttl_days,
        mode,
        sec_gpc: request.sec_gpc,
        jitter: rand::random(),
        now,
    };
    change::commit(&core.stores, change).await
}

/// The state is this vendor's, its source still has that vendor, collects on this host, and the browser is the
/// one that was sent off.
fn belongs<'a>(
    snapshot: &'a Snapshot,
    state: &SyncState,
    request: &StoreSyncResultRequest,
) -> Option<(&'a EnabledVendor, ConsentMode)> {
    let source = snapshot.source(state.source)?;
    let own_org = state.org == source.org || Some(state.org) == source.test_org;
    let others = snapshot.on_host(&request.host);
    let own_host = others.is_empty() || others.iter().any(|on_host| on_host.id == source.id);
    let own_browser =
        request.cookie_anonymous_id.as_deref().is_none_or(|cookie| cookie.trim() == state.anonymous_id);
    let fits = own_org && own_host && own_browser && state.vendor == request.vendor;
    source.vendor(&request.vendor).filter(|_| fits).map(|enabled| (enabled, source.consent_mode))
}

/// Everything a callback changes, in one transaction.
struct StoreResult {
    state: SyncState,
    /// None: the vendor has no ID.
    value: Option<String>,
    field: &'static str,
    category: &'static str,
    ttl_days: i32,
    mode: ConsentMode,
    sec_gpc: bool,
    jitter: f64,
    now: OffsetDateTime,
}

impl Change for StoreResult {
    type Output = SyncOutcome;

    fn org(&self) -> Uuid {
        self.state.org
    }

    async fn apply(&self, connection: &mut AsyncPgConnection) -> Result<(SyncOutcome, Vec<Entry>)> {
        let SyncState { org, vendor, anonymous_id, issued_at, .. } = &self.state;
        let org = *org;
        let Some(canonical) = identities::lock_by_anonymous_id(connection, org, anonymous_id).await? else {
            tracing::info!(
                anonymous_id = shorten(anonymous_id),
                vendor,
                "sync callback: no canonical for anonymous_id"
            );
            return Ok((SyncOutcome::NoCanonical, Vec::new()));
        };
        // Withdrawn between the 302 and now: nothing is stored, the state is not even used up.
        let stored: Vec<ConsentRow> = consent::find(connection, org, &[anonymous_id]).await?;
        let row = stored.first();
        let sec_gpc = self.sec_gpc || row.is_some_and(|row| row.sec_gpc);
        let signals = row.and_then(|row| row.signals.as_deref());
        if decide(signals, sec_gpc, self.category, self.mode) == Decision::Denied {
            return Ok((SyncOutcome::ConsentDenied, Vec::new()));
        }
        if !syncs::use_state(connection, org, anonymous_id, vendor, *issued_at).await? {
            return Ok((SyncOutcome::BadState, Vec::new()));
        }
        let mut attempts = syncs::find(connection, org, canonical).await?;
        let before =
            attempts.iter().position(|(name, _)| name == vendor).map(|at| attempts.swap_remove(at).1);
        let attempt = match self.value {
            Some(_) => schedule::stored(self.ttl_days, self.now, self.jitter),
            None => schedule::no_id(before.as_ref(), self.now),
        };
        syncs::store(connection, org, canonical, vendor, &attempt).await?;
        attempts.push((vendor.clone(), attempt));
        let mut changed = vec![entries::syncs(org, canonical, &attempts)];
        let Some(value) = &self.value else { return Ok((SyncOutcome::NoId, changed)) };

        let row = VendorIdRow {
            canonical_id: canonical,
            field: self.field.to_owned(),
            value: value.clone(),
            source: "sync".to_owned(),
            collected_at: self.now,
            expires_at: self.now + Duration::days(i64::from(self.ttl_days)),
        };
        vendor_ids::store(connection, org, &row).await?;
        let ids = vendor_ids::find(connection, org, &[canonical]).await?;
        let newest = consent::newest(connection, org, &[canonical]).await?;
        let newest = newest.first().map(|(_, row)| row);
        changed.push(entries::vendor_ids(org, canonical, &ids, newest, self.now));
        for browser in identities::anonymous_ids(connection, org, canonical).await? {
            changed.push(entries::identity(org, &browser, &ids, self.now));
        }
        Ok((SyncOutcome::Stored, changed))
    }
}
