//! Criteo: its cookie ID by gateway sync.

use crate::vendors::{
    ConsentNeed, Evidence, SyncVendor, Vendor,
    sync::{Mode, UidShape},
};

const NAME: &str = "criteo";
const NEED: ConsentNeed = ConsentNeed::marketing_of(91);

/// The record of Criteo.
pub const CRITEO: Vendor = Vendor {
    sync: Some(SyncVendor {
        name: NAME,
        field: "criteo_gum_id",
        partner_label: "Partner Code",
        partner_help: "Your Criteo account team issues it and allow-lists your collect host for callbacks.",
        ttl_days: 30,
        need: NEED,
        endpoint: "https://gum.criteo.com/sync",
        partner_param: "c",
        fixed_params: &[("r", "1"), ("a", "1")],
        mode: Mode::Redirect { param: "u", uid_macro: Some("@USERID@") },
        uid_param: "uid",
        uid_shape: UidShape::Opaque,
        evidence: Evidence::Observed,
        evidence_source: "github.com/prebid/prebid-server static/bidder-info/criteo.yaml",
        conversions_field: None,
    }),
    ..Vendor::new(NAME, "Criteo")
};
