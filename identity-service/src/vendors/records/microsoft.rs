//! Microsoft Advertising: its cookie ID by gateway sync, and the click ID of its advertisements.

use crate::vendors::{
    ClickId, ConsentNeed, ConversionsApi, Evidence, PhoneForm, SyncVendor, Vendor,
    sync::{Mode, PartnerIn, PrivacyParams, SyncHelp, UidShape},
};

const NAME: &str = "microsoft";
const NEED: ConsentNeed = ConsentNeed::marketing_of(1126);

/// The record of Microsoft Ads.
pub const MICROSOFT: Vendor = Vendor {
    sync: Some(SyncVendor {
        name: NAME,
        field: "microsoft_muid",
        partner_label: "UET Tag ID",
        help: SyncHelp {
            partner: "Microsoft Advertising, Tools, UET tag: the tag ID. It is neither the customer ID nor the account ID \
             in the address bar.",
            setup: "Nothing public shows that Microsoft sends browsers back from this address: agree with Microsoft on \
             it before you rely on it. Its public matching goes the other way: it takes an ID of yours at \
             c.bing.com.",
            delivery: "Microsoft's conversions API documents no member for MUID. It takes the click ID (msclkid), hashed \
             contacts, and an anonymous or external ID of your own.",
        },
        ttl_days: 90,
        need: NEED,
        endpoint: "https://bat.bing.com/action/0",
        chain_hosts: &[],
        partner: PartnerIn::Param("ti"),
        fixed_params: &[("Ver", "2")],
        privacy: PrivacyParams::IAB,
        mode: Mode::Redirect { param: "redirect", uid_macro: None },
        uid_param: "uid",
        uid_shape: UidShape::Hex32,
        sentinels: &[],
        evidence: Evidence::SpecOnly,
        evidence_source: "",
        conversions_field: None,
    }),
    click_ids: &[ClickId {
        conversions_field: Some("userData.msclkid"),
        // 32 hex digits, in a UUID's form where somebody has made one of them.
        signs: "-",
        max_bytes: 64,
        ..ClickId::new(NAME, "msclkid", &["msclkid"], NEED)
    }],
    conversions: Some(ConversionsApi {
        need: NEED,
        email: Some("userData.em"),
        phone: Some(("userData.ph", PhoneForm::E164)),
    }),
    ..Vendor::new(NAME, "Microsoft Ads")
};
