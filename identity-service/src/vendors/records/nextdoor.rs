//! Nextdoor: its cookie ID by gateway sync, and the click ID of its advertisements.

use crate::vendors::{
    ClickId, ConsentNeed, Evidence, SyncVendor, Vendor,
    sync::{Mode, PartnerIn, PrivacyParams, SyncHelp, UidShape},
};

const NAME: &str = "nextdoor";
const NEED: ConsentNeed = ConsentNeed::MARKETING;

/// The record of Nextdoor.
pub const NEXTDOOR: Vendor = Vendor {
    sync: Some(SyncVendor {
        name: NAME,
        field: "nextdoor_ndid",
        partner_label: "Advertiser ID",
        help: SyncHelp {
            partner: "Nextdoor Ads Manager, Settings, advertiser account: the Advertiser ID. The pixel has an ID of its \
             own, which is another one.",
            setup: "Nothing public shows that Nextdoor sends browsers back from this address: agree with Nextdoor on it \
             before you rely on it. No sync of Nextdoor's is public at all.",
            delivery: "Nextdoor's conversions API documents no member for this ID. It takes the click ID (ndclid) and \
             hashed contacts.",
        },
        ttl_days: 90,
        need: NEED,
        endpoint: "https://ads.nextdoor.com/v2/ads/sync",
        chain_hosts: &[],
        partner: PartnerIn::Param("pid"),
        fixed_params: &[],
        privacy: PrivacyParams::IAB,
        mode: Mode::Redirect { param: "redirect", uid_macro: None },
        uid_param: "uid",
        uid_shape: UidShape::Opaque,
        sentinels: &[],
        evidence: Evidence::SpecOnly,
        evidence_source: "",
        conversions_field: None,
    }),
    click_ids: &[ClickId {
        conversions_field: Some("click_id"),
        signs: "-_.~=+/",
        ..ClickId::new(NAME, "ndclid", &["ndclid"], NEED)
    }],
    ..Vendor::new(NAME, "Nextdoor")
};
