//! Acxiom Real ID: a Person ID by enrichment.

use crate::vendors::{
    ConsentNeed, Credential, EnrichmentVendor, Evidence, Vendor,
    enrichment::{Preset, Protocol},
};

const NAME: &str = "acxiom_realid";
const NEED: ConsentNeed = ConsentNeed::MARKETING;

/// The API that Acxiom's own module for websites calls.
const EID_API: Preset = Preset {
    name: "eid_api",
    help: "Put your Partner ID in its place. There is no API key, and the ID is the one that Acxiom's module for Prebid.js \
           gets, an EID for bidding.",
    settings: r#"{"base_url": "https://ids.api.gcprivacy.id", "path": "/v1/eid/l", "headers": {},
        "request_template": {"partnerId": "YOUR_PARTNER_ID", "sourceId": "acxiom.id", "ip": "",
            "userAgent": "{{user_agent}}", "hem": "{{sha256_email}}"},
        "json_path": "$.user.eids[0].uids[0].id"}"#,
    evidence: Evidence::Observed,
    evidence_source: "github.com/prebid/Prebid.js modules/acxiomRealIdSystem.ts",
};

/// The record of Acxiom Real ID.
pub const ACXIOM_REALID: Vendor = Vendor {
    enrichment: Some(EnrichmentVendor {
        name: NAME,
        help: "Gives Acxiom's Person ID for a hashed email. Acxiom publishes no description of this interface: \
               take host, header, path and JSON path from your contract, or begin with the preset eid_api.",
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
        basic: None,
        request: r#"{"email_sha256": "{{sha256_email}}", "device_id": "{{device_id}}", "device_type": "{{device_type}}"}"#,
        inputs: &["sha256_email", "device_id"],
        json_path: "$.acxiom_person_id",
        other_shape: None,
        attributes: Some("$.attributes"),
        no_match: &[404],
        protocol: Protocol::Json,
        is_own_number: false,
        ttl: "30d",
        evidence: Evidence::SpecOnly,
        evidence_source: "",
        presets: &[EID_API],
        need: NEED,
    }),
    ..Vendor::new(NAME, "Acxiom Real ID")
};
