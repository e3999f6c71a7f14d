//! The IDs of vendors that an event brings and that its pipeline collects.

use proto::v1::Subject;
use time::OffsetDateTime;

use super::click;
use crate::{
    auth::Tenant,
    vendors::{ClickId, GeneratedId},
};

/// Longest page URL that is looked at, in bytes.
const MAX_URL_BYTES: usize = 4096;

/// The observed IDs of one event, for vendors that are enabled.
#[derive(Debug, Clone, Default)]
pub struct ObservedIds {
    /// Click IDs of the page's URL.
    pub clicks: Vec<(&'static ClickId, String)>,
    /// The vendors' cookies that hold an ID, whole.
    pub cookies: Vec<(&'static GeneratedId, String)>,
    /// True where the vendors' cookies are this browser's, and its pipeline has IDs made.
    pub may_make: bool,
}

impl ObservedIds {
    /// Takes the IDs out of `subject`.
    pub fn take(subject: &mut Subject, tenant: &Tenant, now: OffsetDateTime) -> Self {
        let Some(source) = &tenant.source else { return Self::default() };
        let url = subject.page_url.as_deref().filter(|url| url.len() <= MAX_URL_BYTES);
        let clicks = url.map(|url| click::of_page(&source.click_ids, url)).unwrap_or_default();
        let may_make = tenant.browser && !source.generated_ids.is_empty();
        let cookie = |record: &&'static GeneratedId| {
            let text = subject.vendor_cookies.remove(record.cookie)?;
            let expires = record.format.expires(record.format.read(&text)?, record.days, now);
            expires.map(|_| (*record, text))
        };
        let cookies = source.generated_ids.iter().filter(|_| may_make).filter_map(cookie).collect();
        Self { clicks, cookies, may_make }
    }

    /// Takes back the cookies: they belong to another ID of the browser.
    pub fn leave_cookies(&mut self) {
        self.cookies.clear();
        self.may_make = false;
    }

    /// The cookie of a record's vendor, where it holds an ID.
    pub fn cookie(&self, record: &GeneratedId) -> Option<&str> {
        self.cookies.iter().find(|(own, _)| *own == record).map(|(_, text)| text.as_str())
    }

    /// True where there is something to collect.
    pub fn is_any(&self) -> bool {
        self.may_make || !self.clicks.is_empty()
    }
}
