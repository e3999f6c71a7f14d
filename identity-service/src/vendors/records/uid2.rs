//! Unified ID 2.0: an advertising token by enrichment.

use crate::vendors::{
    ConsentNeed, Credential, EnrichmentVendor, Evidence, Vendor,
    enrichment::{BEARER, Protocol},
};

const NAME: &str = "uid2";
const NEED: ConsentNeed = ConsentNeed::MARKETING;

/// The record of Unified ID 2.0.
pub const UID2: Vendor = Vendor {
    enrichment: Some(EnrichmentVendor {
        name: NAME,
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
        basic: None,
        request: "{}",
        inputs: &["sha256_email", "sha256_phone"],
        json_path: "$.body.advertising_token",
        other_shape: None,
        attributes: None,
        no_match: &[],
        protocol: Protocol::Uid2,
        is_own_number: false,
        // How long an operator lets pass before a token is to be refreshed.
        ttl: "1h",
        evidence: Evidence::Documented,
        evidence_source: "github.com/IABTechLab/uid2docs docs/endpoints/post-token-generate.md",
        presets: &[],
        need: NEED,
    }),
    ..Vendor::new(NAME, "Unified ID 2.0")
};
