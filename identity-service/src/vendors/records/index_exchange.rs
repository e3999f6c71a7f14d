//! Index Exchange: its cookie ID by gateway sync.

use crate::vendors::{
    ConsentNeed, Evidence, SyncVendor, Vendor,
    sync::{Mode, PartnerIn, PrivacyParams, SyncHelp, UidShape},
};

const NAME: &str = "index_exchange";
const NEED: ConsentNeed = ConsentNeed::marketing_of(10);

/// Parameters behind an appended ID, which may hold `&` itself: what the vendor was sent of consent, and proxies' marks.
const TAIL: &[&str] =
    &["gdpr", "gdpr_consent", "us_privacy", "gpp", "gpp_sid", "gppsid", "opt_out", "optout"];

/// The record of Index Exchange.
pub const INDEX_EXCHANGE: Vendor = Vendor {
    sync: Some(SyncVendor {
        name: NAME,
        field: "ix_id",
        partner_label: "Partner Code",
        help: SyncHelp {
            partner: "Your Index Exchange account team issues it: the site ID of the user sync. It is not the ID of a \
             placement.",
            setup: "Ask your Index Exchange account team to enable user syncs for that site ID.",
            delivery: "No conversions API takes this ID: it is of use in bidding.",
        },
        ttl_days: 30,
        need: NEED,
        // The specification names the host alone; the path is the one public code shows.
        endpoint: "https://ssum-sec.casalemedia.com/usermatchredir",
        chain_hosts: &[],
        partner: PartnerIn::Param("s"),
        fixed_params: &[],
        privacy: PrivacyParams { gpp_sid: Some("gppsid"), ..PrivacyParams::IAB },
        mode: Mode::Append { param: "cb", tail: TAIL },
        uid_param: "uid",
        uid_shape: UidShape::Opaque,
        sentinels: &[],
        evidence: Evidence::Observed,
        evidence_source: "github.com/prebid/prebid-server static/bidder-info/ix.yaml",
        conversions_field: None,
    }),
    ..Vendor::new(NAME, "Index Exchange")
};
