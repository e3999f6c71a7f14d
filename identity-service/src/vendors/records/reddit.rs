//! Reddit: its cookie ID by gateway sync, the click ID of its advertisements, and the ID of its cookie.

use crate::vendors::{
    ClickId, ConsentNeed, ConversionsApi, Evidence, GeneratedId, SyncVendor, Vendor,
    cookie_format::Format,
    sync::{Mode, PartnerIn, PrivacyParams, SyncHelp, UidShape},
};

const NAME: &str = "reddit";
const NEED: ConsentNeed = ConsentNeed::MARKETING;

/// The record of Reddit.
pub const REDDIT: Vendor = Vendor {
    sync: Some(SyncVendor {
        name: NAME,
        field: "rdt_uuid",
        partner_label: "Advertiser ID",
        help: SyncHelp {
            partner: "Reddit Ads, Events Manager, your pixel: the ID that begins with t2_ or a2_. The conversions API asks \
             for the same account and for an access token besides.",
            setup: "Nothing public shows that Reddit sends browsers back from this address: agree with Reddit on it \
             before you rely on it. While this sync is off the same ID is made here, in the form of Reddit's own \
             cookie, which works in every browser.",
            delivery: "Reddit's conversions API takes the ID as user.uuid.",
        },
        ttl_days: 90,
        need: NEED,
        endpoint: "https://pixel.redd.it/sync",
        chain_hosts: &[],
        partner: PartnerIn::Param("pid"),
        fixed_params: &[],
        privacy: PrivacyParams::IAB,
        mode: Mode::Redirect { param: "redirect", uid_macro: None },
        uid_param: "uid",
        uid_shape: UidShape::TimedUuid,
        sentinels: &[],
        evidence: Evidence::SpecOnly,
        evidence_source: "",
        conversions_field: Some("user.uuid"),
    }),
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
    conversions: Some(ConversionsApi { need: NEED, email: Some("user.email"), phone: None }),
    ..Vendor::new(NAME, "Reddit")
};
