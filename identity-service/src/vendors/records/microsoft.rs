//! Microsoft Advertising: the click ID of its advertisements.

use crate::vendors::{ClickId, ConsentNeed, Vendor};

const NAME: &str = "microsoft";
const NEED: ConsentNeed = ConsentNeed::marketing_of(1126);

/// The record of Microsoft Ads.
pub const MICROSOFT: Vendor = Vendor {
    click_ids: &[ClickId {
        conversions_field: Some("userData.msclkid"),
        // 32 hex digits, in a UUID's form where somebody has made one of them.
        signs: "-",
        max_bytes: 64,
        ..ClickId::new(NAME, "msclkid", &["msclkid"], NEED)
    }],
    ..Vendor::new(NAME, "Microsoft Ads")
};
