//! LinkedIn: its cookie ID by gateway sync, and the click ID of its advertisements.

use crate::vendors::{
    ClickId, ConsentNeed, ConversionsApi, Evidence, SyncVendor, Vendor,
    sync::{Mode, PartnerIn, PrivacyParams, SyncHelp, UidShape},
};

const NAME: &str = "linkedin";
const NEED: ConsentNeed = ConsentNeed::marketing_of(804);

/// The record of LinkedIn.
pub const LINKEDIN: Vendor = Vendor {
    sync: Some(SyncVendor {
        name: NAME,
        field: "linkedin_bcookie",
        partner_label: "Insight Partner ID",
        help: SyncHelp {
            partner: "LinkedIn Campaign Manager, Data, Signals manager, Insight Tag: the partner ID, which is digits \
             alone. It is not the ad account ID of the campaigns.",
            setup: "Nothing public shows that LinkedIn sends browsers back from this address: agree with LinkedIn on it \
             before you rely on it. Its public matching goes the other way: it takes an ID of yours.",
            delivery: "LinkedIn's conversions API documents no member for bcookie. It takes the click ID (li_fat_id), a \
             hashed email, and one external ID.",
        },
        ttl_days: 90,
        need: NEED,
        endpoint: "https://px.ads.linkedin.com/wa/",
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
        days: 30,
        conversions_field: Some("user.userIds[LINKEDIN_FIRST_PARTY_ADS_TRACKING_UUID]"),
        ..ClickId::new(NAME, "li_fat_id", &["li_fat_id"], NEED)
    }],
    conversions: Some(ConversionsApi { need: NEED, email: Some("user.userIds[SHA256_EMAIL]"), phone: None }),
    ..Vendor::new(NAME, "LinkedIn")
};
