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
    /// The reason why the browser must not go after all.
    type Output = Option<SyncRefusal>;

    fn owner(&self) -> &Identifier {
        &self.browser
    }

    fn now(&self) -> OffsetDateTime {
        self.now
    }

    /// Records the attempt, or says why the browser must not go after all. A visitor without a canonical
    /// identity has no schedule; the callback will say so.
    fn decide(&self, ledger: &mut Ledger) -> Option<SyncRefusal> {
        let canonical = ledger.root(&self.browser)?;
        let browser = &self.browser.value;
        let consent = ledger.consent(browser).with_gpc(self.sec_gpc);
        let enabled = self.source.vendor(self.vendor);
        if !enabled.is_some_and(|enabled| pending::allows(&self.source, enabled, &consent)) {
            return Some(SyncRefusal::Consent);
        }
        let before = ledger.attempt(canonical, self.vendor, browser);
        if before.as_ref().is_some_and(|attempt| attempt.is_exhausted(self.now)) {
            return Some(SyncRefusal::Exhausted);
        }
        // As with the offer, but for its lease: who was offered it has that.
        if before.as_ref().is_some_and(|attempt| !attempt.is_due(self.now)) {
            return Some(SyncRefusal::NotDue);
        }
        let own = ledger.own_attempt(canonical, self.vendor, browser);
        let attempt = schedule::attempted(before.as_ref(), own, self.now);
        ledger.schedule(canonical, self.vendor, browser, attempt);
        None
    }
}
