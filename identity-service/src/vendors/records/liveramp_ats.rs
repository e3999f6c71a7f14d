//! LiveRamp's Authenticated Traffic Solution.

use serde_json::Value;

use crate::vendors::{
    ConsentNeed, Credential, EnrichmentVendor, Evidence, Vendor,
    enrichment::{BEARER, Preset, Protocol},
};

const NAME: &str = "liveramp_ats";
const NEED: ConsentNeed = ConsentNeed::MARKETING;

/// Type of an envelope that is a RampID's, in answers of the second version.
const RAMP_ID: u64 = 19;

/// Finds the RampID envelope in an answer of the second version of the public API: by its type, and where no error
/// stands beside it.
fn envelope(answer: &Value) -> Option<&str> {
    let envelopes = answer.get("envelopes")?.as_array()?;
    let is_ramp_id = |envelope: &&Value| {
        envelope.get("type").and_then(Value::as_u64) == Some(RAMP_ID)
            && envelope.get("err").is_none_or(Value::is_null)
    };
    envelopes.iter().find(is_ramp_id)?.get("value")?.as_str()
}

/// The API that LiveRamp documents for its Authenticated Traffic Solution, which knows a site by its placement and its
/// origin. An envelope lives for longer than a day; LiveRamp asks for it to be renewed every half hour.
const PUBLIC_API: Preset = Preset {
    name: "public_api",
    help: "Put your Placement ID and the Origin that LiveRamp has approved in their places. There is no API key.",
    settings: r#"{"method": "GET", "path": "/api/identity/v2/envelope", "headers": {"origin": "https://YOUR_SITE"},
        "request_template": {"pid": "YOUR_PLACEMENT_ID", "it": "4", "iv": "{{sha256_email}}"},
        "json_path": "$.envelope"}"#,
    evidence: Evidence::Documented,
    evidence_source: "developers.liveramp.com/authenticatedtraffic-api",
};

/// The record of LiveRamp ATS.
pub const LIVERAMP_ATS: Vendor = Vendor {
    enrichment: Some(EnrichmentVendor {
        name: NAME,
        help: "Gives a RampID envelope for a hashed email (SHA-256). LiveRamp's public ATS API takes the same path with \
               GET, a Placement ID and an approved Origin instead of a key: begin with the preset public_api for it.",
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
        basic: None,
        request: r#"{"identifiers": ["{{sha256_email}}"]}"#,
        inputs: &["sha256_email"],
        json_path: "$.envelope",
        other_shape: Some(envelope),
        attributes: None,
        no_match: &[451],
        protocol: Protocol::Json,
        is_own_number: false,
        ttl: "24h",
        evidence: Evidence::SpecOnly,
        evidence_source: "",
        presets: &[PUBLIC_API],
        need: NEED,
    }),
    ..Vendor::new(NAME, "LiveRamp ATS")
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_several_envelopes_the_ramp_id_s_counts() {
        let answer = json!({"envelopes": [
            {"type": 24, "value": "meta", "err": null}, {"type": 19, "value": "ramp", "err": null}]});
        assert_eq!(envelope(&answer), Some("ramp"));
        for none in [
            json!({"envelopes": [{"type": 19, "value": "x", "err": "denied"}]}),
            json!({"envelopes": []}),
            json!({"envelopes": {"type": 19, "value": "x"}}),
            json!({}),
        ] {
            assert_eq!(envelope(&none), None, "{none}");
        }
    }
}
