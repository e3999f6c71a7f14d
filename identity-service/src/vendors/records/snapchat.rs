//! Snapchat: its cookie ID by gateway sync, the click ID of its advertisements, and the ID of its cookie.

use crate::vendors::{
    ClickId, ConsentNeed, ConversionsApi, Evidence, GeneratedId, PhoneForm, SyncVendor, Vendor,
    cookie_format::Format,
    sync::{Mode, PartnerIn, PrivacyParams, SyncHelp, UidShape},
};

const NAME: &str = "snapchat";
const NEED: ConsentNeed = ConsentNeed::MARKETING;

/// The record of Snapchat.
pub const SNAPCHAT: Vendor = Vendor {
    sync: Some(SyncVendor {
        name: NAME,
        field: "sc_cookie1",
        partner_label: "Pixel ID",
        help: SyncHelp {
            partner: "Snapchat Ads Manager, Events Manager, your pixel: the Pixel ID, a UUID. It is not the ad account ID, \
             which is a UUID as well.",
            setup: "Nothing public shows that Snapchat sends browsers back from this address: agree with Snapchat on it \
             before you rely on it. While this sync is off the same ID is made here, in the form of Snapchat's \
             own cookie, which works in every browser.",
            delivery: "Snapchat's conversions API takes the ID as user_data.sc_cookie1.",
        },
        ttl_days: 90,
        need: NEED,
        endpoint: "https://tr.snapchat.com/cm/i",
        chain_hosts: &[],
        partner: PartnerIn::Param("pid"),
        fixed_params: &[],
        privacy: PrivacyParams::IAB,
        mode: Mode::Redirect { param: "redirect", uid_macro: None },
        uid_param: "uid",
        uid_shape: UidShape::Uuid,
        sentinels: &["opt_out"],
        evidence: Evidence::SpecOnly,
        evidence_source: "",
        conversions_field: Some("user_data.sc_cookie1"),
    }),
    click_ids: &[ClickId {
        conversions_field: Some("user_data.sc_click_id"),
        ..ClickId::new(NAME, "sccid", &["ScCid", "sccid"], NEED)
    }],
    generated_ids: &[GeneratedId {
        vendor: NAME,
        field: "sc_cookie1",
        cookie: "_scid",
        days: 395,
        need: NEED,
        format: Format::Uuid,
        unless_synced: true,
        conversions_field: Some("user_data.sc_cookie1"),
    }],
    conversions: Some(ConversionsApi {
        need: NEED,
        email: Some("user_data.em"),
        phone: Some(("user_data.ph", PhoneForm::Digits)),
    }),
    ..Vendor::new(NAME, "Snapchat")
};
