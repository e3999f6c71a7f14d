//! Taboola: its cookie ID by gateway sync, and the click ID of its advertisements.

use crate::vendors::{
    ClickId, ConsentNeed, Evidence, SyncVendor, Vendor,
    sync::{Mode, PartnerIn, PrivacyParams, SyncHelp, UidShape},
};

const NAME: &str = "taboola";
const NEED: ConsentNeed = ConsentNeed::marketing_of(42);

/// The record of Taboola.
pub const TABOOLA: Vendor = Vendor {
    sync: Some(SyncVendor {
        name: NAME,
        field: "taboola_t_gid",
        partner_label: "Publisher / Advertiser ID",
        help: SyncHelp {
            partner: "Taboola issues the name of your network for this address, in letters; ask your account manager for \
             it. The account ID that Taboola Ads shows is what conversions are reported under.",
            setup: "Taboola sends browsers back to hosts that it has allowed alone: have your account manager allow your \
             collect host first.",
            delivery: "Taboola's conversion events go by the click ID (tblci); no member for this ID is documented.",
        },
        ttl_days: 90,
        need: NEED,
        // The partner ID and `/1/cm` follow, as public code has them.
        endpoint: "https://trc.taboola.com/sg/",
        chain_hosts: &[],
        partner: PartnerIn::Path { rest: "/1/cm" },
        fixed_params: &[],
        privacy: PrivacyParams::IAB,
        mode: Mode::Redirect { param: "redirect", uid_macro: Some("<TUID>") },
        uid_param: "uid",
        uid_shape: UidShape::Opaque,
        sentinels: &["0"],
        evidence: Evidence::Observed,
        evidence_source: "github.com/prebid/prebid-server static/bidder-info/taboola.yaml",
        conversions_field: None,
    }),
    click_ids: &[ClickId {
        conversions_field: Some("click-id"),
        signs: "-_.~=+/",
        ..ClickId::new(NAME, "tblci", &["tblci"], NEED)
    }],
    ..Vendor::new(NAME, "Taboola")
};
