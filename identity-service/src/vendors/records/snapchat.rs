//! Snapchat: the click ID of its advertisements, and the ID of its cookie.

use crate::vendors::{ClickId, ConsentNeed, GeneratedId, Vendor, cookie_format::Format};

const NAME: &str = "snapchat";
const NEED: ConsentNeed = ConsentNeed::MARKETING;

/// The record of Snapchat.
pub const SNAPCHAT: Vendor = Vendor {
    click_ids: &[ClickId {
        conversions_field: Some("user_data.sc_click_id"),
        ..ClickId::new(NAME, "sccid", &["ScCid", "sccid"], NEED)
    }],
    generated_ids: &[GeneratedId {
        vendor: NAME,
        field: "sc_cookie1",
        cookie: "_scid",
        days: 395,
        need: NEED,
        format: Format::Uuid,
        unless_synced: true,
        conversions_field: Some("user_data.sc_cookie1"),
    }],
    ..Vendor::new(NAME, "Snapchat")
};
