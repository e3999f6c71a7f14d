//! X, formerly Twitter: its cookie ID by gateway sync, and the click ID of its advertisements.

use crate::vendors::{
    ClickId, ConsentNeed, ConversionsApi, Evidence, PhoneForm, SyncVendor, Vendor,
    sync::{Mode, PartnerIn, PrivacyParams, SyncHelp, UidShape},
};

const NAME: &str = "x";
const NEED: ConsentNeed = ConsentNeed::MARKETING;

/// The record of X.
pub const X: Vendor = Vendor {
    sync: Some(SyncVendor {
        name: NAME,
        field: "x_personalization_id",
        partner_label: "Pixel ID",
        help: SyncHelp {
            partner: "X Ads, Tools, Events manager, your pixel: the Pixel ID of about five letters and digits. It is \
             neither the ads account ID nor the ID of a single event.",
            setup: "Nothing public shows that X sends browsers back from this address: agree with X on it before you \
             rely on it. It answers with an image, and its public matching takes an ID of yours.",
            delivery: "X's conversions API documents no member for this ID. It takes the click ID (twclid), hashed email or \
             phone, and address with user agent.",
        },
        ttl_days: 90,
        need: NEED,
        endpoint: "https://analytics.twitter.com/i/adsct",
        chain_hosts: &[],
        partner: PartnerIn::Param("txn_id"),
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
        conversions_field: Some("identifiers[].twclid"),
        ..ClickId::new(NAME, "twclid", &["twclid"], NEED)
    }],
    conversions: Some(ConversionsApi {
        need: NEED,
        email: Some("identifiers[].hashed_email"),
        phone: Some(("identifiers[].hashed_phone_number", PhoneForm::E164)),
    }),
    ..Vendor::new(NAME, "X")
};
