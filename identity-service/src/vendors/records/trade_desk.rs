//! The Trade Desk: its cookie ID by gateway sync, and its TDID by enrichment.

use crate::vendors::{
    ConsentNeed, Credential, EnrichmentVendor, Evidence, SyncVendor, Vendor,
    enrichment::Protocol,
    sync::{Mode, PartnerIn, PrivacyParams, SyncHelp, UidShape},
};

const NAME: &str = "trade_desk";
const NEED: ConsentNeed = ConsentNeed::marketing_of(21);

/// The record of The Trade Desk.
pub const TRADE_DESK: Vendor = Vendor {
    sync: Some(SyncVendor {
        name: NAME,
        field: "ttd_uid",
        partner_label: "Partner ID",
        help: SyncHelp {
            partner: "The Trade Desk issues it to partners of its cookie mapping. It is not the advertiser ID of your \
             seat.",
            setup: "Register https://<collect host>/v1/sync/trade_desk/callback?ttd_id=%%TDID%% with The Trade Desk \
             first, for every collect host; until then browsers do not come back.",
            delivery: "No conversions API takes this ID: it is of use in bidding and in audiences.",
        },
        ttl_days: 90,
        need: NEED,
        endpoint: "https://match.adsrvr.org/track/cmf/generic",
        chain_hosts: &[],
        partner: PartnerIn::Param("ttd_pid"),
        fixed_params: &[("ttd_tpi", "1")],
        privacy: PrivacyParams::IAB_TCF,
        mode: Mode::Registered { uid_macro: "%%TDID%%" },
        uid_param: "ttd_id",
        uid_shape: UidShape::Uuid,
        sentinels: &[],
        evidence: Evidence::Observed,
        evidence_source: "github.com/prebid/prebid-server static/bidder-info/thetradedesk.yaml",
        conversions_field: None,
    }),
    enrichment: Some(EnrichmentVendor {
        name: NAME,
        help: "Gives the TDID. The Trade Desk knows a browser by its own cookie, which a server does not have: without it \
               the answer may be a new ID each time. For hashed emails it takes UID2.",
        field: "tdid",
        credentials: &[
            Credential {
                name: "partner_id",
                label: "Partner ID",
                help: "The Trade Desk issues it to partners.",
            },
            Credential {
                name: "secret",
                label: "Secret",
                help: "The Trade Desk issues it with the Partner ID.",
            },
        ],
        base_url: "https://match.adsrvr.org",
        method: "GET",
        path: "/track/rid",
        headers: &[],
        basic: Some(["partner_id", "secret"]),
        request: r#"{"fmt": "json", "email_sha256": "{{sha256_email}}", "device_id": "{{device_id}}", "device_type": "{{device_type}}"}"#,
        inputs: &["sha256_email", "device_id"],
        json_path: "$.TDID",
        other_shape: None,
        attributes: None,
        no_match: &[],
        protocol: Protocol::Json,
        is_own_number: false,
        ttl: "30d",
        evidence: Evidence::Observed,
        evidence_source: "github.com/prebid/Prebid.js modules/unifiedIdSystem.js",
        presets: &[],
        need: NEED,
    }),
    ..Vendor::new(NAME, "The Trade Desk")
};
