//! The consent that an ID of a vendor needs.

/// The consent that has to be granted before an ID may be asked for, stored or set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsentNeed {
    /// The category, as a site's consent object names it.
    pub category: &'static str,
    /// The vendor's ID in IAB's Global Vendor List, where it is on it.
    pub gvl_id: Option<u16>,
    /// False where the list says that the vendor never asks for access to the device: under the framework it can't be
    /// consented to, whatever a string says.
    pub asks_for_access: bool,
    /// Google's own advertising, for which `ad_user_data` speaks.
    pub google: bool,
}

impl ConsentNeed {
    /// The need of a vendor that is on no list: the category `marketing`.
    pub const MARKETING: Self =
        Self { category: "marketing", gvl_id: None, asks_for_access: true, google: false };

    /// The category `marketing`, of the vendor with that ID in IAB's Global Vendor List.
    pub const fn marketing_of(gvl_id: u16) -> Self {
        Self { gvl_id: Some(gvl_id), ..Self::MARKETING }
    }
}
