//! Magnite, formerly Rubicon: its cookie ID by gateway sync.

use crate::vendors::{
    ConsentNeed, Evidence, SyncVendor, Vendor,
    sync::{Mode, PartnerIn, PrivacyParams, SyncHelp, UidShape},
};

const NAME: &str = "magnite";
const NEED: ConsentNeed = ConsentNeed::marketing_of(52);

/// The record of Magnite.
pub const MAGNITE: Vendor = Vendor {
    sync: Some(SyncVendor {
        name: NAME,
        field: "magnite_id",
        partner_label: "Account ID",
        help: SyncHelp {
            partner: "Magnite issues a key for the callback that you register; enter that key. The number of your Magnite \
             account alone starts no sync.",
            setup: "Register https://<collect host>/v1/sync/magnite/callback?uid=$UID with Magnite first, for every \
             collect host; until then browsers do not come back.",
            delivery: "No conversions API takes this ID: it is of use in bidding.",
        },
        ttl_days: 30,
        need: NEED,
        endpoint: "https://pixel.rubiconproject.com/exchange/sync.php",
        chain_hosts: &[],
        partner: PartnerIn::Param("p"),
        fixed_params: &[],
        privacy: PrivacyParams::IAB_BEFORE_GPP,
        mode: Mode::Registered { uid_macro: "$UID" },
        uid_param: "uid",
        uid_shape: UidShape::Opaque,
        sentinels: &[],
        evidence: Evidence::Observed,
        evidence_source: "github.com/prebid/prebid-server static/bidder-info/rubicon.yaml",
        conversions_field: None,
    }),
    ..Vendor::new(NAME, "Magnite")
};
