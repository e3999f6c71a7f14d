//! Outbrain: its cookie ID by gateway sync, and the click ID of its advertisements.

use crate::vendors::{
    ClickId, ConsentNeed, Evidence, SyncVendor, Vendor,
    sync::{Mode, PartnerIn, PrivacyParams, SyncHelp, UidShape},
};

const NAME: &str = "outbrain";
const NEED: ConsentNeed = ConsentNeed::marketing_of(164);

/// The record of Outbrain.
pub const OUTBRAIN: Vendor = Vendor {
    sync: Some(SyncVendor {
        name: NAME,
        field: "outbrain_obuid",
        partner_label: "Marketer ID",
        help: SyncHelp {
            partner: "Outbrain Amplify, Pixel or account settings: the Marketer ID of 34 letters and digits. Reports over \
             its API ask for a user and a password besides.",
            setup: "Nothing public shows that Outbrain sends browsers back from this address: agree with Outbrain on it \
             before you rely on it. The sync that is public is that of Zemanta, an Outbrain company, which issues a \
             partner name and takes other parameters than are sent here.",
            delivery: "Outbrain's conversions go by the click ID (dicbo); no member for this ID is documented.",
        },
        ttl_days: 90,
        need: NEED,
        endpoint: "https://widgets.outbrain.com/external/sync",
        chain_hosts: &["b1sync.zemanta.com"],
        partner: PartnerIn::Param("pid"),
        fixed_params: &[],
        privacy: PrivacyParams::IAB_BEFORE_GPP,
        mode: Mode::Redirect { param: "redirect", uid_macro: None },
        uid_param: "uid",
        uid_shape: UidShape::Opaque,
        sentinels: &[],
        evidence: Evidence::SpecOnly,
        evidence_source: "",
        conversions_field: None,
    }),
    click_ids: &[ClickId {
        conversions_field: Some("ob_click_id"),
        signs: "-_.~=+/",
        ..ClickId::new(NAME, "dicbo", &["dicbo"], NEED)
    }],
    ..Vendor::new(NAME, "Outbrain")
};
