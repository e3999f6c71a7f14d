//! Reddit: the click ID of its advertisements, and the ID of its cookie.

use crate::vendors::{ClickId, ConsentNeed, GeneratedId, Vendor, cookie_format::Format};

const NAME: &str = "reddit";
const NEED: ConsentNeed = ConsentNeed::MARKETING;

/// The record of Reddit.
pub const REDDIT: Vendor = Vendor {
    click_ids: &[ClickId {
        conversions_field: Some("click_id"),
        signs: "-_.",
        ..ClickId::new(NAME, "rdt_cid", &["rdt_cid"], NEED)
    }],
    generated_ids: &[GeneratedId {
        vendor: NAME,
        field: "rdt_uuid",
        cookie: "_rdt_uuid",
        days: 90,
        need: NEED,
        format: Format::RdtUuid,
        unless_synced: true,
        conversions_field: Some("user.uuid"),
    }],
    ..Vendor::new(NAME, "Reddit")
};
