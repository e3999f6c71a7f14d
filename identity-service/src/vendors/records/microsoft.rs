//! Microsoft Advertising: the click ID of its advertisements.

use crate::vendors::{ClickId, ConsentNeed, Vendor};

const NAME: &str = "microsoft";
const NEED: ConsentNeed = ConsentNeed::marketing_of(1126);

/// The record of Microsoft Ads.
pub const MICROSOFT: Vendor = Vendor {
    click_ids: &[ClickId {
        conversions_field: Some("userData.msclkid"),
        ..ClickId::new(NAME, "msclkid", &["msclkid"], NEED)
    }],
    ..Vendor::new(NAME, "Microsoft Ads")
};
