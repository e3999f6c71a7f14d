//! Vendors: all that is known of each, as data. One file a vendor in [`records`], the types of those records,
//! the ways to find them, and the kit that renders a request from a record. Nothing here reads a store or the
//! network.

mod click_id;
mod consent_need;
mod conversions;
pub mod cookie_format;
pub mod enrichment;
mod field;
mod generated_id;
mod records;
pub mod sync;
mod sync_guide;
pub mod sync_url;

pub use self::{
    click_id::ClickId,
    consent_need::ConsentNeed,
    conversions::{ConversionsApi, PhoneForm, find_match_keys},
    enrichment::{Credential, EnrichmentVendor},
    field::{is_reserved, needs, owner_of, reserved, synced_by},
    generated_id::GeneratedId,
    records::ALL,
    sync::SyncVendor,
    sync_guide::SYNC_GUIDE,
};

/// A vendor with all that is known of it.
#[derive(Debug)]
pub struct Vendor {
    /// The vendor's name in paths, metrics and settings: lower-case letters, digits and `_`.
    pub name: &'static str,
    /// The vendor's name for people.
    pub label: &'static str,
    /// The gateway sync, where the vendor assigns its ID in a redirect.
    pub sync: Option<SyncVendor>,
    /// The click IDs that its advertisements add to a page's URL.
    pub click_ids: &'static [ClickId],
    /// The IDs that its script would make and keep in a cookie.
    pub generated_ids: &'static [GeneratedId],
    /// The enrichment, where the vendor gives an ID to a server with credentials.
    pub enrichment: Option<EnrichmentVendor>,
    /// The parameters of its conversions API that take hashed contacts, as far as they are known.
    pub conversions: Option<ConversionsApi>,
}

impl Vendor {
    /// A vendor of which nothing but its names is known.
    const fn new(name: &'static str, label: &'static str) -> Self {
        Self {
            name,
            label,
            sync: None,
            click_ids: &[],
            generated_ids: &[],
            enrichment: None,
            conversions: None,
        }
    }

    /// True where IDs of the vendor come without asking it: from a click, or made for its cookie.
    pub fn is_collected(&self) -> bool {
        !(self.click_ids.is_empty() && self.generated_ids.is_empty())
    }
}

/// The evidence for a record's endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The vendor documents it.
    Documented,
    /// Public code of others uses it.
    Observed,
    /// The product specification alone names it.
    SpecOnly,
}

/// The vendor of that name.
pub fn find(name: &str) -> Option<&'static Vendor> {
    ALL.iter().find(|vendor| vendor.name == name)
}

/// The gateway syncs, in the order of the specification.
pub fn syncs() -> impl Iterator<Item = &'static SyncVendor> {
    ALL.iter().filter_map(|vendor| vendor.sync.as_ref())
}

/// The gateway sync of the vendor of that name.
pub fn find_sync(name: &str) -> Option<&'static SyncVendor> {
    find(name)?.sync.as_ref()
}

/// The click IDs of all vendors.
pub fn click_ids() -> impl Iterator<Item = &'static ClickId> {
    ALL.iter().flat_map(|vendor| vendor.click_ids)
}

/// The generated IDs of all vendors.
pub fn generated_ids() -> impl Iterator<Item = &'static GeneratedId> {
    ALL.iter().flat_map(|vendor| vendor.generated_ids)
}

/// The enrichment of the vendor of that name.
pub fn find_enrichment(name: &str) -> Option<&'static EnrichmentVendor> {
    find(name)?.enrichment.as_ref()
}

#[cfg(test)]
mod specification;
#[cfg(test)]
mod tests;
