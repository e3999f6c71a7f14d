//! LiveRamp: the ID of its graph by gateway sync, at the host of LiveIntent.

use crate::vendors::{
    ConsentNeed, Evidence, SyncVendor, Vendor,
    sync::{Mode, PartnerIn, PrivacyParams, SyncHelp, UidShape},
};

const NAME: &str = "liveramp";
/// LiveIntent is on the list for selecting and measuring advertisements alone (purposes 2 and 7).
const NEED: ConsentNeed = ConsentNeed { asks_for_access: false, ..ConsentNeed::marketing_of(148) };

/// The record of LiveRamp.
pub const LIVERAMP: Vendor = Vendor {
    sync: Some(SyncVendor {
        name: NAME,
        field: "liveramp_id",
        partner_label: "Publisher ID",
        help: SyncHelp {
            partner: "LiveIntent issues it to publishers; ask your account manager. It is not the placement ID of \
             LiveRamp's ATS, which is another product.",
            setup: "Nothing public shows that LiveIntent sends browsers back from this address: agree with LiveIntent on \
             it before you rely on it. The host is LiveIntent's, another company than LiveRamp. On TCF's \
             list (148) it asks for no access to the device, so where a TCF string is in force nobody is synced.",
            delivery: "No conversions API takes this ID. For a RampID use the enrichment liveramp_ats.",
        },
        ttl_days: 60,
        need: NEED,
        endpoint: "https://usersync.liveintent.com/sync",
        chain_hosts: &["i.liadm.com"],
        partner: PartnerIn::Param("pid"),
        fixed_params: &[],
        privacy: PrivacyParams::IAB_BEFORE_GPP,
        mode: Mode::Redirect { param: "redirect", uid_macro: None },
        uid_param: "uid",
        uid_shape: UidShape::Opaque,
        sentinels: &["none", "sha1=none"],
        evidence: Evidence::SpecOnly,
        evidence_source: "",
        conversions_field: None,
    }),
    ..Vendor::new(NAME, "LiveRamp")
};
