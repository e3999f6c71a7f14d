//! Sending the browser to the vendor.

use std::sync::Arc;

use diesel_async::AsyncPgConnection;
use metrics::counter;
use proto::v1::{
    BeginSyncResponse, Cookie, ErrorReason, SameSite, SyncRedirect, SyncRefusal, begin_sync_response::Outcome,
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    location, pending,
    schedule::{self, Attempt},
    state::{self, SyncState},
    vendor::Mode,
};
use crate::{
    auth::{collect::Authenticated, origin::Origin},
    core::Core,
    error::{Error, Result},
    identifiers::{self, Identifier, Kind, Parsed},
    resolve::lookup,
    settings::{CollectHost, Source},
    storage::{
        change::{self, Change},
        entries,
        postgres::{consent, identities, syncs},
        redis::protocol::Entry,
    },
};

/// What the browser's request says.
#[derive(Debug, Default)]
pub struct Request {
    /// From the path.
    pub vendor: String,
    /// `aid`.
    pub anonymous_id: String,
    /// `_dfid`.
    pub cookie_anonymous_id: Option<String>,
    /// The Referer header.
    pub referer: Option<String>,
    /// `Sec-GPC: 1`.
    pub sec_gpc: bool,
    /// The Host header.
    pub host: String,
}

/// Decides whether the browser may go to the vendor now, records the attempt and says where to.
pub async fn begin(
    core: &Core,
    caller: &Authenticated,
    request: &Request,
    now: OffsetDateTime,
) -> Result<BeginSyncResponse> {
    let source = &caller.source;
    let enabled =
        source.vendor(&request.vendor).ok_or_else(|| Error::refused(ErrorReason::VendorNotFound))?;
    let vendor = enabled.vendor;
    let Parsed::Ok(browser) =
        identifiers::parse(Kind::AnonymousId, &request.anonymous_id, identifiers::MAX_BROWSER_BYTES)
    else {
        return Err(Error::refused(ErrorReason::InvalidIdentifier));
    };
    let host = source.collect_host(&request.host).ok_or_else(|| Error::invalid("caller.host"))?;
    if !request.referer.as_deref().is_none_or(|referer| is_own_page(source, host, referer)) {
        return Ok(refused(vendor.name, SyncRefusal::ForeignReferer));
    }
    if request.cookie_anonymous_id.as_deref().is_some_and(|cookie| cookie.trim() != browser.value) {
        return Ok(refused(vendor.name, SyncRefusal::OtherVisitor));
    }
    let (canonical, mut consent) = lookup::with_consent(core, caller.org, &browser).await?;
    consent.sec_gpc |= request.sec_gpc;
    if !pending::allows(source, enabled, &consent) {
        return Ok(refused(vendor.name, SyncRefusal::Consent));
    }
    let sealed = core.states.seal(&SyncState {
        org: caller.org,
        source: source.id,
        vendor: vendor.name.to_owned(),
        anonymous_id: browser.value.clone(),
        issued_at: now,
    });
    let sealed = sealed.ok_or_else(|| Error::refused(ErrorReason::Internal))?;
    // A visitor without a canonical identity has no schedule yet; the callback will say no_canonical.
    if canonical.is_some() {
        let attempt = RecordAttempt {
            org: caller.org,
            browser,
            source: source.clone(),
            vendor: vendor.name,
            sec_gpc: request.sec_gpc,
            now,
        };
        if let Some(refusal) = change::commit(&core.stores, attempt).await?.output {
            return Ok(refused(vendor.name, refusal));
        }
    }
    counter!("datafly_sync_attempted_total", "vendor" => vendor.name).increment(1);
    let location = location::vendor_url(vendor, &enabled.endpoint, &enabled.partner_id, &host.url, &sealed);
    let state_cookie = (vendor.mode == Mode::Registered).then(|| state_cookie(vendor.name, sealed, host));
    Ok(BeginSyncResponse { outcome: Some(Outcome::Redirect(SyncRedirect { location, state_cookie })) })
}

fn refused(vendor: &'static str, refusal: SyncRefusal) -> BeginSyncResponse {
    let reason = match refusal {
        SyncRefusal::Consent => "consent",
        SyncRefusal::ForeignReferer => "foreign_referer",
        SyncRefusal::OtherVisitor => "other_visitor",
        SyncRefusal::Exhausted => "exhausted",
        SyncRefusal::Unspecified => "unspecified",
    };
    counter!("datafly_sync_refused_total", "vendor" => vendor, "reason" => reason).increment(1);
    BeginSyncResponse { outcome: Some(Outcome::Refusal(refusal.into())) }
}

fn is_own_page(source: &Source, host: &CollectHost, referer: &str) -> bool {
    source.origins.iter().any(|origin| origin.has_page(referer))
        || Origin::from_domain(&host.url).is_some_and(|own| own.has_page(referer))
}

/// The cookie that carries the state to a callback agreed out of band. It comes back in a cross-site redirect,
/// hence SameSite=None; browsers take that only with Secure, so plain http on loopback has Lax.
fn state_cookie(vendor: &str, value: String, host: &CollectHost) -> Cookie {
    Cookie {
        name: format!("_dfs_{vendor}"),
        value,
        max_age_seconds: state::LIFETIME.whole_seconds(),
        domain: None,
        path: format!("/v1/sync/{vendor}"),
        secure: !host.is_http,
        http_only: true,
        same_site: if host.is_http { SameSite::Lax } else { SameSite::None }.into(),
    }
}

/// The one thing stored at the 302.
struct RecordAttempt {
    org: Uuid,
    browser: Identifier,
    source: Arc<Source>,
    vendor: &'static str,
    sec_gpc: bool,
    now: OffsetDateTime,
}

impl Change for RecordAttempt {
    /// Why the browser must not go after all.
    type Output = Option<SyncRefusal>;

    fn org(&self) -> Uuid {
        self.org
    }

    async fn apply(&self, connection: &mut AsyncPgConnection) -> Result<(Self::Output, Vec<Entry>)> {
        let org = self.org;
        let locked = identities::lock_by_anonymous_id(connection, org, &self.browser.value).await?;
        let Some(canonical) = locked else { return Ok((None, Vec::new())) };
        // Once more, from the truth: Redis may have missed a withdrawal while it was away.
        let stored = consent::find(connection, org, &[&self.browser.value]).await?;
        let mut stored = entries::consent_entry(stored.first());
        stored.sec_gpc |= self.sec_gpc;
        let enabled = self.source.vendor(self.vendor);
        if !enabled.is_some_and(|enabled| pending::allows(&self.source, enabled, &stored)) {
            return Ok((Some(SyncRefusal::Consent), Vec::new()));
        }
        let mut attempts = syncs::find(connection, org, canonical).await?;
        let before = attempts.iter().position(|(vendor, _)| vendor == self.vendor);
        let before: Option<Attempt> = before.map(|at| attempts.swap_remove(at).1);
        if before.as_ref().is_some_and(|attempt| attempt.is_exhausted(self.now)) {
            return Ok((Some(SyncRefusal::Exhausted), Vec::new()));
        }
        let attempt = schedule::attempted(before.as_ref(), self.now);
        syncs::store(connection, org, canonical, self.vendor, &attempt).await?;
        attempts.push((self.vendor.to_owned(), attempt));
        Ok((None, vec![entries::syncs(org, canonical, &attempts)]))
    }
}
