//! LiveRamp's Authenticated Traffic Solution.

use crate::vendors::{ConsentNeed, Credential, EnrichmentVendor, Evidence, Vendor, enrichment::BEARER};

const NAME: &str = "liveramp_ats";
const NEED: ConsentNeed = ConsentNeed::MARKETING;

/// The record of LiveRamp ATS.
pub const LIVERAMP_ATS: Vendor = Vendor {
    enrichment: Some(EnrichmentVendor {
        name: NAME,
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
        need: NEED,
    }),
    ..Vendor::new(NAME, "LiveRamp ATS")
};
