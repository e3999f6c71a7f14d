//! Amazon AAX: its cookie ID by gateway sync.

use crate::vendors::{
    ConsentNeed, Evidence, SyncVendor, Vendor,
    sync::{Mode, PartnerIn, PrivacyParams, SyncHelp, UidShape},
};

const NAME: &str = "amazon_aax";
const NEED: ConsentNeed = ConsentNeed::marketing_of(793);

/// The record of Amazon AAX.
pub const AMAZON_AAX: Vendor = Vendor {
    sync: Some(SyncVendor {
        name: NAME,
        field: "amazon_aax_id",
        partner_label: "Publisher ID",
        help: SyncHelp {
            partner: "Amazon Publisher Services, Account: the Publisher ID. It is neither the advertiser ID of Amazon Ads \
             nor its AMC instance.",
            setup: "Nothing public shows that Amazon sends browsers back from this address: agree with Amazon on it \
             before you rely on it. Its public matching goes the other way: it takes an ID of yours.",
            delivery: "No member of Amazon's conversions API is documented for this ID.",
        },
        ttl_days: 30,
        need: NEED,
        endpoint: "https://aax.amazon-adsystem.com/x/px/usersync",
        chain_hosts: &["s.amazon-adsystem.com", "aax-eu.amazon-adsystem.com"],
        partner: PartnerIn::Param("pid"),
        fixed_params: &[],
        privacy: PrivacyParams::IAB_TCF,
        mode: Mode::Redirect { param: "redirect", uid_macro: None },
        uid_param: "uid",
        uid_shape: UidShape::Opaque,
        sentinels: &[],
        evidence: Evidence::SpecOnly,
        evidence_source: "",
        conversions_field: None,
    }),
    ..Vendor::new(NAME, "Amazon AAX")
};
