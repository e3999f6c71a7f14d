//! Recording that a browser is sent to a vendor.

use std::sync::Arc;

use proto::v1::SyncRefusal;
use time::OffsetDateTime;

use super::{pending, schedule};
use crate::{
    identifiers::Identifier,
    settings::Source,
    vendor_ids::{ledger::Ledger, writer::Write},
};

/// A browser that is about to be sent to a vendor.
#[derive(Debug)]
pub struct NewAttempt {
    /// The visitor's browser.
    pub browser: Identifier,
    /// The source that has the vendor enabled.
    pub source: Arc<Source>,
    /// The name of the vendor.
    pub vendor: &'static str,
    /// True where `Sec-GPC: 1` came with the request.
    pub sec_gpc: bool,
    /// Time of the attempt.
    pub now: OffsetDateTime,
}

impl Write for NewAttempt {
    /// True where a period of the match rate begins; else the reason why the browser must not go after all.
    type Output = Result<bool, SyncRefusal>;

    fn owner(&self) -> &Identifier {
        &self.browser
    }

    fn now(&self) -> OffsetDateTime {
        self.now
    }

    /// Records the attempt, or says why the browser must not go after all. A visitor without a canonical
    /// identity has no schedule; the callback will say so.
    fn decide(&self, ledger: &mut Ledger) -> Result<bool, SyncRefusal> {
        let Some(canonical) = ledger.root(&self.browser) else { return Ok(false) };
        let browser = &self.browser.value;
        let consent = ledger.consent(browser).with_gpc(self.sec_gpc);
        let enabled = self.source.vendor(self.vendor);
        let enabled = enabled.filter(|enabled| pending::allows(&self.source, enabled, &consent, self.now));
        let Some(enabled) = enabled else { return Err(SyncRefusal::Consent) };
        let before = ledger.attempt(canonical, self.vendor, browser);
        if before.as_ref().is_some_and(|attempt| attempt.is_exhausted(self.now)) {
            return Err(SyncRefusal::Exhausted);
        }
        // As with the offer, but for its lease: who was offered it has that.
        if before.as_ref().is_some_and(|attempt| !attempt.is_due(self.now)) {
            return Err(SyncRefusal::NotDue);
        }
        let own = ledger.own_attempt(canonical, self.vendor, browser);
        let begins = schedule::running_period(own, enabled.ttl_days, self.now).is_none();
        let attempt = schedule::attempted(before.as_ref(), own, enabled.ttl_days, self.now);
        ledger.schedule(canonical, self.vendor, browser, attempt);
        Ok(begins)
    }
}
