//! The IDs of vendors that an event brings and that its pipeline collects.

use proto::v1::Subject;
use serve::origin::Origin;
use time::OffsetDateTime;

use super::click::{Page, names_any};
use crate::{
    auth::Tenant,
    vendors::{ClickId, GeneratedId, cookie_format::Reading},
};

/// Most further values of vendors' cookies that are looked at.
const MAX_FURTHER: usize = 16;

/// The observed IDs of one event, for vendors that are enabled.
#[derive(Debug, Clone, Default)]
pub struct ObservedIds {
    /// Click IDs of the page's address.
    pub clicks: Vec<(&'static ClickId, String)>,
    /// The vendors' cookies that hold an ID, or may hold one in a form that is not known, whole.
    pub cookies: Vec<(&'static GeneratedId, String)>,
    /// True where the vendors' cookies are this browser's, and its pipeline has IDs made.
    pub may_make: bool,
}

impl ObservedIds {
    /// Takes the IDs out of `subject`.
    pub fn take(subject: &mut Subject, tenant: &Tenant, now: OffsetDateTime) -> Self {
        let Some(source) = &tenant.source else { return Self::default() };
        let url = subject.page_url.as_deref().unwrap_or_default();
        let referrer = subject.referrer.as_deref().unwrap_or_default();
        let is_same_site = || {
            let own = Origin::of_page(referrer);
            own.is_some_and(|own| {
                Origin::of_page(url).as_ref() == Some(&own) || source.origins.contains(&own)
            })
        };
        let page = Page {
            url,
            search: subject.page_search.as_deref().unwrap_or_default(),
            // Whose page it is takes two parsers to tell, and mostly depends on nothing.
            same_site_referrer: if names_any(&source.click_ids, referrer) && is_same_site() {
                referrer
            } else {
                ""
            },
        };
        let mut observed = Self { clicks: page.clicks(&source.click_ids), ..Self::default() };
        if tenant.browser && !source.generated_ids.is_empty() {
            observed.may_make = true;
            for record in &source.generated_ids {
                observed.read_cookie(record, subject, now);
            }
        }
        observed
    }

    /// Reads the cookie of a record's vendor. Of several of its name the first that holds an ID counts.
    fn read_cookie(&mut self, record: &'static GeneratedId, subject: &mut Subject, now: OffsetDateTime) {
        let first = subject.vendor_cookies.remove(record.cookie);
        let further = subject.further_vendor_cookies.iter().take(MAX_FURTHER);
        let further =
            further.filter(|cookie| cookie.name == record.cookie).map(|cookie| cookie.value.clone());
        let mut unreadable = None;
        for text in first.into_iter().chain(further) {
            match record.format.read(&text) {
                Reading::Id(id) if record.format.expires(id, record.days, now).is_some() => {
                    self.cookies.push((record, text));
                    return;
                }
                Reading::Unreadable => unreadable = unreadable.or(Some(text)),
                // A click's ID that has ended is as good as none.
                Reading::Id(_) | Reading::Junk => {}
            }
        }
        self.cookies.extend(unreadable.map(|text| (record, text)));
    }

    /// Takes back the cookies: they belong to another ID of the browser.
    pub fn leave_cookies(&mut self) {
        self.cookies.clear();
        self.may_make = false;
    }

    /// The cookie of a record's vendor, where it is there.
    pub fn cookie(&self, record: &GeneratedId) -> Option<&str> {
        self.cookies.iter().find(|(own, _)| *own == record).map(|(_, text)| text.as_str())
    }

    /// True where there is something to collect.
    pub fn is_any(&self) -> bool {
        self.may_make || !self.clicks.is_empty()
    }
}
