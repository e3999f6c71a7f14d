//! Amperity, as a vendor of enrichment.

use crate::vendors::{ConsentNeed, Credential, EnrichmentVendor, Evidence, Vendor};

const NAME: &str = "amperity";
const NEED: ConsentNeed = ConsentNeed::MARKETING;

/// The record of Amperity.
pub const AMPERITY: Vendor = Vendor {
    enrichment: Some(EnrichmentVendor {
        name: NAME,
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
        need: NEED,
    }),
    ..Vendor::new(NAME, "Amperity")
};
