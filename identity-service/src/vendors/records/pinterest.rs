//! Pinterest: its cookie ID by gateway sync, and the click ID of its advertisements.

use crate::vendors::{
    ClickId, ConsentNeed, Evidence, SyncVendor, Vendor,
    sync::{Mode, UidShape},
};

const NAME: &str = "pinterest";
const NEED: ConsentNeed = ConsentNeed::MARKETING;

/// The record of Pinterest.
pub const PINTEREST: Vendor = Vendor {
    sync: Some(SyncVendor {
        name: NAME,
        field: "pin_unauth",
        partner_label: "Pinterest Tag ID",
        partner_help: "Pinterest Ads Manager, Business, Conversions, Pinterest tag: the 13-digit tag ID.",
        ttl_days: 90,
        need: NEED,
        endpoint: "https://ct.pinterest.com/user/",
        partner_param: "tid",
        fixed_params: &[],
        mode: Mode::Redirect { param: "redirect", uid_macro: None },
        uid_param: "uid",
        uid_shape: UidShape::Opaque,
        evidence: Evidence::SpecOnly,
        evidence_source: "",
        conversions_field: None,
    }),
    click_ids: &[ClickId {
        days: 365,
        conversions_field: Some("user_data.click_id"),
        signs: "-_.=",
        ..ClickId::new(NAME, "epik", &["epik"], NEED)
    }],
    ..Vendor::new(NAME, "Pinterest")
};
