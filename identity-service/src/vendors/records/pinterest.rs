//! Pinterest: its cookie ID by gateway sync, and the click ID of its advertisements.

use crate::vendors::{
    ClickId, ConsentNeed, ConversionsApi, Evidence, PhoneForm, SyncVendor, Vendor,
    sync::{Mode, PartnerIn, PrivacyParams, SyncHelp, UidShape},
};

const NAME: &str = "pinterest";
const NEED: ConsentNeed = ConsentNeed::MARKETING;

/// The record of Pinterest.
pub const PINTEREST: Vendor = Vendor {
    sync: Some(SyncVendor {
        name: NAME,
        field: "pin_unauth",
        partner_label: "Pinterest Tag ID",
        help: SyncHelp {
            partner: "Pinterest Ads Manager, Business, Conversions, Pinterest tag: the tag ID of 13 digits. It is not the \
             ad account ID that conversions are reported under.",
            setup: "Nothing public shows that Pinterest sends browsers back from this address: agree with Pinterest on \
             it before you rely on it. Its own script gets the ID in an answer's header, which an image can't \
             read.",
            delivery: "Pinterest's conversions API documents no member for this ID. It matches by the click ID (epik), \
             hashed email or phone, and your own external ID.",
        },
        ttl_days: 90,
        need: NEED,
        endpoint: "https://ct.pinterest.com/user/",
        chain_hosts: &[],
        partner: PartnerIn::Param("tid"),
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
        days: 365,
        conversions_field: Some("user_data.click_id"),
        signs: "-_.=",
        ..ClickId::new(NAME, "epik", &["epik"], NEED)
    }],
    conversions: Some(ConversionsApi {
        need: NEED,
        email: Some("user_data.em"),
        phone: Some(("user_data.ph", PhoneForm::Digits)),
    }),
    ..Vendor::new(NAME, "Pinterest")
};
