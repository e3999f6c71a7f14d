//! Criteo: its cookie ID by gateway sync.

use crate::vendors::{
    ConsentNeed, Evidence, SyncVendor, Vendor,
    sync::{Mode, PartnerIn, PrivacyParams, SyncHelp, UidShape},
};

const NAME: &str = "criteo";
const NEED: ConsentNeed = ConsentNeed::marketing_of(91);

/// The record of Criteo.
pub const CRITEO: Vendor = Vendor {
    sync: Some(SyncVendor {
        name: NAME,
        field: "criteo_gum_id",
        partner_label: "Partner Code",
        help: SyncHelp {
            partner: "Your Criteo account team issues it for user syncs. It is not the partner ID of the OneTag in the \
             Criteo console.",
            setup: "Criteo sends browsers back to hosts that it has allowed alone: have your account team allow your \
             collect host first.",
            delivery: "No member of Criteo's events API is documented for this ID; it is of use where Criteo itself is sent \
             it.",
        },
        ttl_days: 30,
        need: NEED,
        endpoint: "https://gum.criteo.com/sync",
        chain_hosts: &[],
        partner: PartnerIn::Param("c"),
        fixed_params: &[("r", "1"), ("a", "1")],
        privacy: PrivacyParams { tcf: Some("gdprString"), ..PrivacyParams::IAB },
        mode: Mode::Redirect { param: "u", uid_macro: Some("@USERID@") },
        uid_param: "uid",
        uid_shape: UidShape::Opaque,
        sentinels: &["cto_optout"],
        evidence: Evidence::Observed,
        evidence_source: "github.com/prebid/prebid-server static/bidder-info/criteo.yaml",
        conversions_field: None,
    }),
    ..Vendor::new(NAME, "Criteo")
};
