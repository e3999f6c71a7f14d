//! Index Exchange: its cookie ID by gateway sync.

use crate::vendors::{
    ConsentNeed, Evidence, SyncVendor, Vendor,
    sync::{Mode, UidShape},
};

const NAME: &str = "index_exchange";
const NEED: ConsentNeed = ConsentNeed::marketing_of(10);

/// The record of Index Exchange.
pub const INDEX_EXCHANGE: Vendor = Vendor {
    sync: Some(SyncVendor {
        name: NAME,
        field: "ix_id",
        partner_label: "Partner Code",
        partner_help: "Your Index Exchange account team issues it (site ID of the user sync).",
        ttl_days: 30,
        need: NEED,
        // The specification names the host alone; the path is the one public code shows.
        endpoint: "https://ssum-sec.casalemedia.com/usermatchredir",
        partner_param: "s",
        fixed_params: &[],
        mode: Mode::Append { param: "cb" },
        uid_param: "uid",
        uid_shape: UidShape::Opaque,
        evidence: Evidence::Observed,
        evidence_source: "github.com/prebid/prebid-server static/bidder-info/ix.yaml",
        conversions_field: None,
    }),
    ..Vendor::new(NAME, "Index Exchange")
};
