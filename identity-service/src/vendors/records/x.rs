//! X, formerly Twitter: the click ID of its advertisements.

use crate::vendors::{ClickId, ConsentNeed, Vendor};

const NAME: &str = "x";
const NEED: ConsentNeed = ConsentNeed::MARKETING;

/// The record of X.
pub const X: Vendor = Vendor {
    click_ids: &[ClickId {
        days: 30,
        conversions_field: Some("identifiers[].twclid"),
        ..ClickId::new(NAME, "twclid", &["twclid"], NEED)
    }],
    ..Vendor::new(NAME, "X")
};
