//! Nextdoor: the click ID of its advertisements.

use crate::vendors::{ClickId, ConsentNeed, Vendor};

const NAME: &str = "nextdoor";
const NEED: ConsentNeed = ConsentNeed::MARKETING;

/// The record of Nextdoor.
pub const NEXTDOOR: Vendor = Vendor {
    click_ids: &[ClickId {
        conversions_field: Some("click_id"),
        signs: "-_.~=+/",
        ..ClickId::new(NAME, "ndclid", &["ndclid"], NEED)
    }],
    ..Vendor::new(NAME, "Nextdoor")
};
