//! LinkedIn: the click ID of its advertisements.

use crate::vendors::{ClickId, ConsentNeed, Vendor};

const NAME: &str = "linkedin";
const NEED: ConsentNeed = ConsentNeed::marketing_of(804);

/// The record of LinkedIn.
pub const LINKEDIN: Vendor = Vendor {
    click_ids: &[ClickId {
        days: 30,
        conversions_field: Some("user.userIds[LINKEDIN_FIRST_PARTY_ADS_TRACKING_UUID]"),
        ..ClickId::new(NAME, "li_fat_id", &["li_fat_id"], NEED)
    }],
    ..Vendor::new(NAME, "LinkedIn")
};
