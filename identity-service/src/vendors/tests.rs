//! Rules that hold for every record.

use std::collections::{HashMap, HashSet};

use super::{
    sync::{Mode, SyncHelp},
    *,
};
use crate::identifiers::placeholder::is_placeholder;

/// Evidence and its source go together.
fn is_evidenced(evidence: Evidence, source: &str) -> bool {
    (evidence == Evidence::SpecOnly) == source.is_empty()
}

#[test]
fn records_are_sound() {
    let mut names = HashSet::new();
    for vendor in ALL {
        let name = vendor.name;
        assert!(names.insert(name), "{name}: name taken");
        assert!(proto::is_vendor_name(name) && !vendor.label.is_empty(), "{name}");
        let own = (vendor.sync.iter().map(|sync| sync.name))
            .chain(vendor.click_ids.iter().map(|id| id.vendor))
            .chain(vendor.generated_ids.iter().map(|id| id.vendor))
            .chain(vendor.enrichment.iter().map(|enrichment| enrichment.name));
        assert!(own.clone().count() > 0 && own.clone().all(|part| part == name), "{name}: another's part");
    }
}

#[test]
fn syncs_are_sound() {
    let mut fields = HashSet::new();
    for vendor in syncs() {
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
            assert!(is_placeholder(uid_macro), "{}: unreplaced, it must not become an ID", vendor.name);
        }
        assert!(is_evidenced(vendor.evidence, vendor.evidence_source), "{}", vendor.name);
        let SyncHelp { partner, setup, delivery } = vendor.help;
        assert!(![partner, setup, delivery].contains(&""), "{}", vendor.name);
        if let Some(field) = vendor.conversions_field {
            assert!(delivery.contains(field), "{}: {delivery}", vendor.name);
        }
        assert!(vendor.sentinels.iter().all(|sentinel| *sentinel == sentinel.to_lowercase()));
        assert!(vendor.uid_shape.fits(vendor.uid_shape.example()), "{}", vendor.name);
        let url = |host: &&str| url::Url::parse(&format!("https://{host}/"));
        assert!(vendor.chain_hosts.iter().all(|host| url(host).unwrap().host_str() == Some(*host)));
    }
}

#[test]
fn collected_ids_are_sound() {
    let (mut fields, mut params) = (HashSet::new(), HashSet::new());
    for record in click_ids() {
        assert!(fields.insert(record.field), "{}: field taken", record.field);
        assert!((1..=400).contains(&record.days), "{}", record.field);
        assert!(!record.params.is_empty(), "{}", record.field);
        for param in record.params {
            assert!(params.insert(*param), "{}: parameter {param} taken", record.field);
        }
    }
    let mut cookies = HashSet::new();
    for record in generated_ids() {
        assert!(fields.insert(record.field), "{}: field taken", record.field);
        assert!(cookies.insert(record.cookie), "{}: cookie taken", record.cookie);
        assert!((1..=400).contains(&record.days), "{}", record.field);
    }
}

#[test]
fn enrichments_are_sound() {
    let mut fields = HashSet::new();
    for vendor in ALL.iter().filter_map(|vendor| vendor.enrichment.as_ref()) {
        assert!(fields.insert(vendor.field), "{}: field taken", vendor.name);
        assert!(!vendor.help.is_empty() && !vendor.credentials.is_empty(), "{}", vendor.name);
        assert!(is_evidenced(vendor.evidence, vendor.evidence_source), "{}", vendor.name);
        for preset in vendor.presets {
            assert!(proto::is_vendor_name(preset.name) && !preset.help.is_empty(), "{}", preset.name);
            assert!(is_evidenced(preset.evidence, preset.evidence_source), "{}", preset.name);
            assert!(proto::json::of_text(preset.settings).is_some(), "{}", preset.name);
        }
    }
}

#[test]
fn a_field_has_one_vendor_and_one_need() {
    let mut owners = HashMap::new();
    for vendor in ALL {
        let synced = vendor.sync.iter().map(|sync| (sync.field, sync.need));
        let clicks = vendor.click_ids.iter().map(|id| (id.field, id.need));
        let generated = vendor.generated_ids.iter().map(|id| (id.field, id.need));
        let enriched = vendor.enrichment.iter().map(|enrichment| (enrichment.field, enrichment.need));
        for (field, need) in synced.chain(clicks).chain(generated).chain(enriched) {
            assert_eq!(*owners.entry(field).or_insert((vendor.name, need)), (vendor.name, need), "{field}");
        }
    }
    for field in reserved() {
        assert_eq!(field, field.to_ascii_lowercase(), "fields are compared with lower-case ones");
    }
}
