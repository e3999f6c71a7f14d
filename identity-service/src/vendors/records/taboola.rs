//! Taboola: the click ID of its advertisements.

use crate::vendors::{ClickId, ConsentNeed, Vendor};

const NAME: &str = "taboola";
const NEED: ConsentNeed = ConsentNeed::marketing_of(42);

/// The record of Taboola.
pub const TABOOLA: Vendor = Vendor {
    click_ids: &[ClickId {
        conversions_field: Some("click-id"),
        signs: "-_.~=+/",
        ..ClickId::new(NAME, "tblci", &["tblci"], NEED)
    }],
    ..Vendor::new(NAME, "Taboola")
};
