//! The vendors of gateway sync. Endpoints, fields and lifetimes are the product specification's; parameters
//! are those that public evidence shows, and `evidence` says how good that is.

use super::sync::{Evidence, Mode, SyncVendor, UidShape};

/// The record of that name.
pub fn find(name: &str) -> Option<&'static SyncVendor> {
    VENDORS.iter().find(|vendor| vendor.name == name)
}

/// Every vendor, in the order of the specification.
pub const VENDORS: &[SyncVendor] = &[
    SyncVendor {
        name: "pinterest",
        label: "Pinterest",
        field: "pin_unauth",
        partner_label: "Pinterest Tag ID",
        partner_help: "Pinterest Ads Manager, Business, Conversions, Pinterest tag: the 13-digit tag ID.",
        ttl_days: 90,
        category: "marketing",
        gvl_id: None,
        endpoint: "https://ct.pinterest.com/user/",
        partner_param: "tid",
        fixed_params: &[],
        mode: Mode::Redirect { param: "redirect", uid_macro: None },
        uid_param: "uid",
        macros: &[],
        uid_shape: UidShape::Opaque,
        evidence: Evidence::SpecOnly,
        evidence_source: "",
    },
    SyncVendor {
        name: "criteo",
        label: "Criteo",
        field: "criteo_gum_id",
        partner_label: "Partner Code",
        partner_help: "Your Criteo account team issues it and allow-lists your collect host for callbacks.",
        ttl_days: 30,
        category: "marketing",
        gvl_id: Some(91),
        endpoint: "https://gum.criteo.com/sync",
        partner_param: "c",
        fixed_params: &[("r", "1"), ("a", "1")],
        mode: Mode::Redirect { param: "u", uid_macro: Some("@USERID@") },
        uid_param: "uid",
        macros: &["@USERID@"],
        uid_shape: UidShape::Opaque,
        evidence: Evidence::Observed,
        evidence_source: "github.com/prebid/prebid-server static/bidder-info/criteo.yaml",
    },
    SyncVendor {
        name: "trade_desk",
        label: "The Trade Desk",
        field: "ttd_uid",
        partner_label: "Partner ID",
        partner_help: "The Trade Desk issues it once you have registered the callback \
                       https://<collect host>/v1/sync/trade_desk/callback?ttd_id=%%TDID%% with them.",
        ttl_days: 90,
        category: "marketing",
        gvl_id: Some(21),
        endpoint: "https://match.adsrvr.org/track/cmf/generic",
        partner_param: "ttd_pid",
        fixed_params: &[("ttd_tpi", "1")],
        mode: Mode::Registered { uid_macro: "%%TDID%%" },
        uid_param: "ttd_id",
        macros: &["%%TDID%%"],
        uid_shape: UidShape::Uuid,
        evidence: Evidence::Observed,
        evidence_source: "github.com/prebid/prebid-server static/bidder-info/thetradedesk.yaml",
    },
    SyncVendor {
        name: "index_exchange",
        label: "Index Exchange",
        field: "ix_id",
        partner_label: "Partner Code",
        partner_help: "Your Index Exchange account team issues it (site ID of the user sync).",
        ttl_days: 30,
        category: "marketing",
        gvl_id: Some(10),
        // The specification names the host alone; the path is the one public code shows.
        endpoint: "https://ssum-sec.casalemedia.com/usermatchredir",
        partner_param: "s",
        fixed_params: &[],
        mode: Mode::Append { param: "cb" },
        uid_param: "uid",
        macros: &[],
        uid_shape: UidShape::Opaque,
        evidence: Evidence::Observed,
        evidence_source: "github.com/prebid/prebid-server static/bidder-info/ix.yaml",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn records_are_sound() {
        let mut names = HashSet::new();
        let mut fields = HashSet::new();
        for vendor in VENDORS {
            assert!(names.insert(vendor.name), "{}: name taken", vendor.name);
            assert!(fields.insert(vendor.field), "{}: field taken", vendor.name);
            // The longest name that a sync state has room for.
            assert!(vendor.name.len() <= 16, "{}", vendor.name);
            assert!((1..=400).contains(&vendor.ttl_days), "{}", vendor.name);
            let url = url::Url::parse(vendor.endpoint).unwrap();
            assert_eq!(url.scheme(), "https", "{}", vendor.name);
            assert!(url.query().is_none() && url.fragment().is_none(), "{}", vendor.name);
            if let Mode::Redirect { uid_macro: Some(uid_macro), .. } | Mode::Registered { uid_macro } =
                vendor.mode
            {
                assert!(vendor.macros.contains(&uid_macro), "{}", vendor.name);
            }
            assert_eq!(
                vendor.evidence == Evidence::SpecOnly,
                vendor.evidence_source.is_empty(),
                "{}: evidence and its source go together",
                vendor.name
            );
        }
    }
}
