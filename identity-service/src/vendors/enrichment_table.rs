//! The vendors of enrichment. Hosts, paths, fields and lifetimes are the product specification's; where it names no
//! JSON path, that is the field's own name. `evidence` says how good public evidence for the defaults is.

use super::enrichment::{Credential, EnrichmentVendor};
use super::sync::Evidence;

/// The record of that name.
pub fn find(name: &str) -> Option<&'static EnrichmentVendor> {
    VENDORS.iter().find(|vendor| vendor.name == name)
}

/// What most of them take the first credential in.
const BEARER: &[(&str, &str)] = &[("authorization", "Bearer {{api_key}}")];

/// Every vendor, in the order of the specification.
pub const VENDORS: &[EnrichmentVendor] = &[
    EnrichmentVendor {
        name: "acxiom_realid",
        label: "Acxiom Real ID",
        help: "Gives Acxiom's Person ID for a hashed email. Acxiom publishes no description of this interface: \
               take host, header, path and JSON path from your contract.",
        field: "acxiom_person_id",
        credentials: &[Credential {
            name: "api_key",
            label: "API Key",
            help: "Your Acxiom account team issues it with the address of your region.",
        }],
        base_url: "https://api.us-east-1.a.realid.rapid.acxiom.io",
        method: "POST",
        path: "/",
        headers: &[("x-api-key", "{{api_key}}")],
        json_path: "$.acxiom_person_id",
        ttl: "30d",
        evidence: Evidence::SpecOnly,
        evidence_source: "",
    },
    EnrichmentVendor {
        name: "amperity",
        label: "Amperity",
        help: "Gives the Amperity ID of a visitor. Hosts differ from tenant to tenant. Amperity documents its profile \
               API under /prof instead; for attributes of visitors configure the profile provider.",
        field: "amperity_id",
        credentials: &[Credential {
            name: "token",
            label: "API Token",
            help: "Amperity, Settings, Security, API keys: a token that may read profiles.",
        }],
        base_url: "https://api.amperity.com",
        method: "POST",
        path: "/v1/resolve",
        headers: &[("authorization", "Bearer {{token}}")],
        json_path: "$.amperity_id",
        ttl: "30d",
        evidence: Evidence::SpecOnly,
        evidence_source: "",
    },
    EnrichmentVendor {
        name: "liveramp_ats",
        label: "LiveRamp ATS",
        help: "Gives a RampID envelope for a hashed email (SHA-256). LiveRamp's public ATS API takes the same path with \
               GET, a Placement ID and an approved Origin instead of a key, and answers v2 in a list of envelopes.",
        field: "ramp_id",
        credentials: &[Credential {
            name: "api_key",
            label: "API Key",
            help: "Your LiveRamp representative issues it.",
        }],
        base_url: "https://api.rlcdn.com",
        method: "POST",
        path: "/api/identity/v2/envelope",
        headers: BEARER,
        json_path: "$.envelope",
        ttl: "24h",
        evidence: Evidence::SpecOnly,
        evidence_source: "",
    },
    EnrichmentVendor {
        name: "uid2",
        label: "Unified ID 2.0",
        help: "Gives a UID2 advertising token for a hashed email or phone. Take the operator of your region; keys of the \
               integration environment work with https://operator-integ.uidapi.com alone. Not for visitors from the EU.",
        field: "uid2_token",
        credentials: &[
            Credential {
                name: "api_key",
                label: "API Key",
                help: "UID2 Portal, API Keys: a key with the Generator role.",
            },
            Credential {
                name: "client_secret",
                label: "Client Secret",
                help: "UID2 Portal, API Keys: shown once, together with the API key. It encrypts requests and is not sent.",
            },
        ],
        base_url: "https://prod.uidapi.com",
        method: "POST",
        path: "/v2/token/generate",
        headers: BEARER,
        json_path: "$.body.advertising_token",
        // How long an operator lets pass before a token is to be refreshed.
        ttl: "1h",
        evidence: Evidence::Documented,
        evidence_source: "github.com/IABTechLab/uid2docs docs/endpoints/post-token-generate.md",
    },
    EnrichmentVendor {
        name: "trade_desk",
        label: "The Trade Desk",
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
        json_path: "$.TDID",
        ttl: "30d",
        evidence: Evidence::Observed,
        evidence_source: "github.com/prebid/Prebid.js modules/unifiedIdSystem.js",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::{Map, Value, json};
    use serve::Networks;

    use super::*;
    use crate::{egress::target::Reach, enrich::config, providers::validation::Problems};

    #[test]
    fn records_are_sound_and_their_defaults_pass_the_check() {
        let allowed = Networks::default();
        let reach = Reach { allowed: &allowed, is_ours: &|_| false };
        let mut names = HashSet::new();
        let mut fields = HashSet::new();
        for vendor in VENDORS {
            assert!(names.insert(vendor.name) && fields.insert(vendor.field), "{}: taken", vendor.name);
            assert!(!vendor.help.is_empty() && !vendor.credentials.is_empty(), "{}", vendor.name);
            let headers: Map<String, Value> =
                vendor.headers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
            let defaults = json!({
                "base_url": vendor.base_url, "method": vendor.method, "path": vendor.path, "headers": headers,
                "json_path": vendor.json_path, "ttl": vendor.ttl,
            });
            let mut problems = Problems::default();
            config::check(vendor, &defaults, &reach, &mut problems);
            assert_eq!(problems.into_list(), [], "{}", vendor.name);
            assert_eq!(
                vendor.evidence == Evidence::SpecOnly,
                vendor.evidence_source.is_empty(),
                "{}: evidence and its source go together",
                vendor.name
            );
        }
    }
}
