//! Outbrain: the click ID of its advertisements.

use crate::vendors::{ClickId, ConsentNeed, Vendor};

const NAME: &str = "outbrain";
const NEED: ConsentNeed = ConsentNeed::marketing_of(164);

/// The record of Outbrain.
pub const OUTBRAIN: Vendor = Vendor {
    click_ids: &[ClickId {
        conversions_field: Some("ob_click_id"),
        signs: "-_.~=+/",
        ..ClickId::new(NAME, "dicbo", &["dicbo"], NEED)
    }],
    ..Vendor::new(NAME, "Outbrain")
};
