//! Sending the browser to the vendor.

use std::net::IpAddr;

use metrics::counter;
use proto::v1::{
    BeginSyncResponse, Cookie, ErrorReason, SameSite, SyncRedirect, SyncRefusal, begin_sync_response::Outcome,
};
use serve::origin;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    GatewaySync,
    attempt::NewAttempt,
    client::Client,
    counters, pending, privacy,
    state::{self, SyncState},
};
use crate::{
    auth::pipeline_key::Authenticated,
    error::{Error, Result},
    identifiers::{self, Identifier, Kind, Parsed},
    settings::CollectHost,
    storage::{lookup, postgres::erased, retry_lost},
    vendors::{
        sync::Mode,
        sync_url::{self, Errand},
    },
};

/// Parts of the browser's request that decide.
#[derive(Debug, Default)]
pub struct Request {
    /// Name of the vendor, from the path.
    pub vendor: String,
    /// The parameter `aid`, the visitor's anonymous ID.
    pub anonymous_id: String,
    /// The cookie `_dfid`, where the browser sent it.
    pub cookie_anonymous_id: Option<String>,
    /// The Referer header, where the browser sent it.
    pub referer: Option<String>,
    /// The User-Agent header, where the browser sent it.
    pub user_agent: Option<String>,
    /// True where the request has `Sec-GPC: 1`.
    pub sec_gpc: bool,
    /// The network that the browser's address is of; none where it can't be told.
    pub network: Option<IpAddr>,
}

impl GatewaySync {
    /// Decides whether the browser may go to the vendor now, records the attempt and says where to.
    pub async fn begin(
        &self,
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
        let host = caller.host.as_deref().ok_or_else(|| Error::invalid("caller.host"))?;
        if !request.referer.as_deref().is_none_or(|referer| source.is_own_page(host, referer)) {
            return Ok(refused(vendor.name, SyncRefusal::ForeignReferer));
        }
        if request.cookie_anonymous_id.as_deref().is_some_and(|cookie| cookie.trim() != browser.value) {
            return Ok(refused(vendor.name, SyncRefusal::OtherVisitor));
        }
        let client = Client::of(request.user_agent.as_deref());
        if let Some(refusal) = pending::unfit(enabled, client) {
            return Ok(refused(vendor.name, refusal));
        }
        let (canonical, consent) = lookup::with_consent(&self.stores, caller.org, &browser).await?;
        let consent = consent.with_gpc(request.sec_gpc);
        if !pending::allows(source, enabled, &consent, now) {
            return Ok(refused(vendor.name, SyncRefusal::Consent));
        }
        if self.breakers.open_until(caller.org, vendor.name, now).is_some() {
            return Ok(refused(vendor.name, SyncRefusal::BreakerOpen));
        }
        if canonical.is_none() && self.was_erased(caller.org, &browser).await? {
            return Ok(refused(vendor.name, SyncRefusal::Erased));
        }
        if let (None, Some(network)) = (canonical, request.network)
            && !self.stranger_syncs.take(caller.org, network, vendor.name, now)
        {
            return Ok(refused(vendor.name, SyncRefusal::NotDue));
        }
        let sealed = self.states.seal(&SyncState {
            key: caller.key,
            vendor: vendor.name.to_owned(),
            anonymous_id: browser.value.clone(),
            issued_at: now,
        });
        let sealed = sealed.ok_or_else(|| Error::refused(ErrorReason::Internal))?;
        // A visitor without a canonical identity has no schedule yet; the callback will say no_canonical.
        if canonical.is_some() {
            let attempt = NewAttempt {
                browser,
                source: source.clone(),
                vendor: vendor.name,
                sec_gpc: request.sec_gpc,
                now,
            };
            // The one thing stored at the 302.
            match self.writer.write(caller.org, attempt).await?.output {
                Err(refusal) => return Ok(refused(vendor.name, refusal)),
                Ok(true) => counters::first_attempt(vendor.name, client.family()),
                Ok(false) => {}
            }
        }
        counters::attempted(vendor.name);
        let errand = Errand {
            endpoint: &enabled.endpoint,
            partner_id: &enabled.partner_id,
            collect_url: &host.url,
            state: &sealed,
            privacy: &privacy::params(&vendor.privacy, consent.signals().forwarded()),
        };
        let location = sync_url::vendor_url(vendor, &errand);
        let state_cookie =
            matches!(vendor.mode, Mode::Registered { .. }).then(|| state_cookie(vendor.name, sealed, host));
        Ok(BeginSyncResponse { outcome: Some(Outcome::Redirect(SyncRedirect { location, state_cookie })) })
    }

    /// A page that was open when its visitor was erased may still fire what it was offered before.
    async fn was_erased(&self, org: Uuid, browser: &Identifier) -> Result<bool> {
        let digests = self.tombstones.digests(org, browser);
        let find = retry_lost!({ erased::find(&mut *self.stores.connection().await?, org, &digests).await });
        Ok(!find?.is_empty())
    }
}

fn refused(vendor: &'static str, refusal: SyncRefusal) -> BeginSyncResponse {
    let reason = match refusal {
        SyncRefusal::Consent => "consent",
        SyncRefusal::ForeignReferer => "foreign_referer",
        SyncRefusal::OtherVisitor => "other_visitor",
        SyncRefusal::Exhausted => "exhausted",
        SyncRefusal::Erased => "erased",
        SyncRefusal::NotDue => "not_due",
        SyncRefusal::Crawler => "crawler",
        SyncRefusal::UnsupportedBrowser => "unsupported_browser",
        SyncRefusal::BreakerOpen => "breaker_open",
        SyncRefusal::Unspecified => "unspecified",
    };
    counter!("datafly_sync_refused_total", "vendor" => vendor, "reason" => reason).increment(1);
    BeginSyncResponse { outcome: Some(Outcome::Refusal(refusal.into())) }
}

/// The cookie that carries the state to a callback agreed out of band. It comes back in a cross-site
/// redirect, hence SameSite=None; browsers take that only with Secure, which they do from plain http on `localhost` too,
/// so on a loopback address alone it is Lax. (Firefox sends a Lax cookie on no hop that returns.)
fn state_cookie(vendor: &str, value: String, host: &CollectHost) -> Cookie {
    let is_lax = host.is_http && origin::is_address(host.authority.as_str());
    Cookie {
        name: format!("_dfs_{vendor}"),
        value,
        max_age_seconds: state::LIFETIME.whole_seconds(),
        domain: None,
        path: format!("/v1/sync/{vendor}"),
        secure: !is_lax,
        http_only: true,
        same_site: if is_lax { SameSite::Lax } else { SameSite::None }.into(),
    }
}
