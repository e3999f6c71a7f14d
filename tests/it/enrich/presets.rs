//! Public contracts of vendors that differ from the specification, by the presets that the catalogue has for them.

use harness::providers::Enriching;
use identity_service::vendors::find_enrichment;
use serde_json::{Value, json};

/// Values for the places of `YOUR_…`.
const OWN: [(&str, &str); 5] = [
    ("YOUR_SITE", "shop.example"),
    ("YOUR_PLACEMENT_ID", "1234"),
    ("YOUR_PARTNER_ID", "partner"),
    ("YOUR_COLLECTION", "apc-1"),
    ("YOUR_TENANT", "acme"),
];

#[tokio::test]
async fn a_vendor_is_asked_by_its_public_contract_where_its_preset_is_chosen() {
    let own = Enriching::with(Default::default(), &[]).await;
    let vendors = ["liveramp_ats", "acxiom_realid", "amperity"];
    for vendor in vendors {
        let record = find_enrichment(vendor).unwrap();
        let [preset] = record.presets else { panic!("{vendor} has other presets") };
        let text = OWN.iter().fold(preset.settings.to_owned(), |text, (place, own)| text.replace(place, own));
        assert!(!text.contains("YOUR_"), "{text}");
        let mut settings: Value = serde_json::from_str(&text).unwrap();
        settings["base_url"] = json!(own.sim.base_url(vendor));
        // Of two of them there is no credential at all.
        let credentials = if vendor == "amperity" { own.sim.credentials(vendor) } else { json!({}) };
        own.give(vendor, &settings, &credentials).await;
    }
    own.settle().await;
    let mut browser = own.visitor_with("jane.doe@example.com").await;
    for vendor in vendors {
        let answer = own.enrich(&mut browser, vendor).await;
        let id = own.id_of(&answer);
        let field = find_enrichment(vendor).unwrap().field;
        assert_eq!(own.world.vendor_ids(browser.aid()).await.vendor_ids[field].value, id, "{vendor}");
        let calls = own.sim.seen(vendor);
        let [call] = calls.as_slice() else { panic!("{vendor} was called {} times", calls.len()) };
        let is_authorized = !call.header("authorization").is_empty();
        assert_eq!(is_authorized, vendor == "amperity", "{vendor}");
    }
}
