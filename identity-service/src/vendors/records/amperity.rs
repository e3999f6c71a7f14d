//! Amperity, as a vendor of enrichment.

use crate::vendors::{
    ConsentNeed, Credential, EnrichmentVendor, Evidence, Vendor,
    enrichment::{Preset, Protocol},
};

const NAME: &str = "amperity";
const NEED: ConsentNeed = ConsentNeed::MARKETING;

/// The look-up of profiles that Amperity documents. A profile's ID is the Amperity ID.
const PROFILE_API: Preset = Preset {
    name: "profile_api",
    help: "Put your tenant and your profile collection in their places, and in `keys` the one key that the collection is \
           looked up by. On Azure the host is https://YOUR_TENANT.amperity.com.",
    settings: r#"{"base_url": "https://app.amperity.com", "path": "/prof/lookup/YOUR_COLLECTION/keychain",
        "headers": {"authorization": "Bearer {{token}}", "amperity-tenant": "YOUR_TENANT"},
        "request_template": {"keys": {"cookieid": "{{anonymous_id}}"}, "enrich": false},
        "json_path": "$.profile_id"}"#,
    evidence: Evidence::Documented,
    evidence_source: "github.com/amperity/amperity-docs amperity_reference/source/api.rst",
};

/// The record of Amperity.
pub const AMPERITY: Vendor = Vendor {
    enrichment: Some(EnrichmentVendor {
        name: NAME,
        help: "Gives the Amperity ID of a visitor. Hosts differ from tenant to tenant. Amperity documents its profile \
               API under /prof instead: begin with the preset profile_api for it. For attributes of visitors configure \
               the profile provider.",
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
        basic: None,
        request: r#"{"anonymous_id": "{{anonymous_id}}", "user_id": "{{user_id}}", "email_sha256": "{{sha256_email}}", "phone_sha256": "{{sha256_phone}}"}"#,
        inputs: &["anonymous_id", "user_id", "sha256_email", "sha256_phone"],
        json_path: "$.amperity_id",
        other_shape: None,
        attributes: Some("$.attributes"),
        no_match: &[404],
        protocol: Protocol::Json,
        is_own_number: true,
        ttl: "30d",
        evidence: Evidence::SpecOnly,
        evidence_source: "",
        presets: &[PROFILE_API],
        need: NEED,
    }),
    ..Vendor::new(NAME, "Amperity")
};
