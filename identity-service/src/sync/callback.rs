//! Taking what a vendor sent back. Whatever it is, the browser gets its GIF; here it is decided, stored and
//! counted.

use proto::v1::{StoreSyncResultRequest, SyncOutcome};
use serve::Authority;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    GatewaySync,
    client::Client,
    counters,
    result::{Answer, NewResult},
    state::SyncState,
    uid::{self, Uid},
};
use crate::{
    error::Result,
    identifiers::{Identifier, Kind, shorten},
    settings::{EnabledVendor, Snapshot, Source},
    storage::change::Committed,
    vendors::{self, sync::Mode},
};

/// Longest query string that is looked at, in bytes.
const MAX_QUERY_BYTES: usize = 8 * 1024;

impl GatewaySync {
    /// Stores the result of a sync, and counts it.
    pub async fn store(&self, request: &StoreSyncResultRequest, now: OffsetDateTime) -> SyncOutcome {
        // An unknown name must not become a label.
        let vendor = vendors::find_sync(&request.vendor).map_or("unknown", |vendor| vendor.name);
        let (outcome, repair) = match self.decide_and_store(request, now).await {
            Ok(Committed { output: (outcome, is_first), redis_failed }) => {
                if is_first {
                    let client = Client::of(request.user_agent.as_deref());
                    counters::first_success(vendor, client.family());
                }
                (outcome, redis_failed)
            }
            Err(error) => {
                serve::warn_on_change!(ERROR, vendor, reason = ?error.reason(), "sync callback: not stored");
                (SyncOutcome::StoreFailed, false)
            }
        };
        counters::answered(vendor, outcome, repair);
        if outcome == SyncOutcome::Stored && repair { SyncOutcome::StoreFailed } else { outcome }
    }

    async fn decide_and_store(
        &self,
        request: &StoreSyncResultRequest,
        now: OffsetDateTime,
    ) -> Result<Committed<(SyncOutcome, bool)>> {
        let done = |outcome| Ok(Committed { output: (outcome, false), redis_failed: false });
        let Some(vendor) = vendors::find_sync(&request.vendor) else { return done(SyncOutcome::BadState) };
        if request.raw_query.len() > MAX_QUERY_BYTES {
            return done(SyncOutcome::BadState);
        }
        let callback = uid::read(vendor, &request.raw_query);
        let snapshot = self.settings.current().await?;
        // The state comes before the uid: what has no state is not even looked at.
        let sealed = match vendor.mode {
            Mode::Registered { .. } => request.state_cookie.as_deref().or(callback.state.as_deref()),
            Mode::Redirect { .. } | Mode::Append { .. } => callback.state.as_deref(),
        };
        let sealed = sealed.unwrap_or_default();
        let state = match self.states.open(sealed, now) {
            Ok(state) => state,
            Err(why) => {
                tracing::debug!(vendor = vendor.name, ?why, "sync callback: bad state");
                return done(SyncOutcome::BadState);
            }
        };
        let Some((enabled, source, org)) = belongs(&snapshot, &state, request) else {
            return done(SyncOutcome::BadState);
        };
        let browser = &state.anonymous_id;
        let answer = match callback.uid {
            Uid::Value(uid) if self.shared_ids.is_shared(org, vendor.name, &uid, browser, now) => {
                Some(Answer::SharedId)
            }
            Uid::Value(uid) => Some(Answer::Id(uid)),
            Uid::Missing => Some(Answer::NoId),
            Uid::Invalid => None,
        };
        if callback.is_unfilled || matches!(answer, None | Some(Answer::SharedId)) {
            let address = request.client_ip.as_deref().and_then(|address| address.parse().ok());
            self.breakers.fail(org, vendor.name, browser, address, now);
        }
        let Some(answer) = answer else {
            counters::returned(vendor.name, now - state.issued_at);
            return done(SyncOutcome::InvalidId);
        };
        let (shortened, chain) = (shorten(&state.anonymous_id), now - state.issued_at);
        let Some(used) = self.used_states.begin(&state) else { return done(SyncOutcome::BadState) };
        let result = NewResult {
            browser: Identifier { kind: Kind::AnonymousId, value: state.anonymous_id.clone() },
            state,
            answer,
            field: enabled.vendor.field,
            need: enabled.vendor.need,
            ttl_days: enabled.ttl_days,
            pipeline: source.pipeline,
            rule: source.consent.clone(),
            sec_gpc: request.sec_gpc,
            jitter: rand::random(),
            now,
        };
        let committed = self.writer.write(org, result).await?;
        let (outcome, _) = committed.output;
        if outcome != SyncOutcome::BadState {
            counters::returned(vendor.name, chain);
        }
        if outcome == SyncOutcome::Stored {
            self.breakers.succeed(org, vendor.name);
        }
        // Where nothing was decided about the visitor, the state may be used again.
        if !matches!(outcome, SyncOutcome::NoCanonical | SyncOutcome::ConsentDenied) {
            used.keep();
        }
        if outcome == SyncOutcome::NoCanonical {
            tracing::info!(
                anonymous_id = shortened,
                vendor = vendor.name,
                "sync callback: no canonical for anonymous_id"
            );
        }
        Ok(committed)
    }
}

/// Checks that the key that the sync began with is still good, that the state is this vendor's, that the key's source
/// still has that vendor and collects on this host, and that the browser is the one that was sent off, and comes from
/// no foreign page: on the way that we sent it on it has no Referer. Returns the vendor's settings, the source, and the
/// organisation whose data the key reaches; none where one of these fails.
fn belongs<'a>(
    snapshot: &'a Snapshot,
    state: &SyncState,
    request: &StoreSyncResultRequest,
) -> Option<(&'a EnabledVendor, &'a Source, Uuid)> {
    let key = snapshot.key_of_id(state.key)?;
    let source = key.source.as_ref();
    let host = Authority::parse(&request.host).and_then(|host| source.collect_host(&host))?;
    let own_page = request.referer.as_deref().is_none_or(|referer| source.is_own_page(host, referer));
    let own_browser =
        request.cookie_anonymous_id.as_deref().is_none_or(|cookie| cookie.trim() == state.anonymous_id);
    let fits = own_page && own_browser && state.vendor == request.vendor;
    let enabled = source.vendor(&request.vendor).filter(|_| fits)?;
    Some((enabled, source, source.data_org(key.environment)?))
}
