//! The golden table: the rows of the product specification, as `fixtures/specification.json` has them, against the
//! records.

use serde::Deserialize;
use serve::catalogue::METRICS;

use super::{click_ids, find_enrichment, find_sync, generated_ids, is_reserved, syncs};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Specification {
    sync: Vec<SyncRow>,
    enrichment: Vec<EnrichmentRow>,
    click: Vec<ClickRow>,
    generated: Vec<GeneratedRow>,
    metrics: Vec<MetricRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SyncRow {
    vendor: String,
    field: String,
    /// Host and path, or what the specification names of them.
    endpoint: String,
    partner_label: String,
    ttl_days: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnrichmentRow {
    vendor: String,
    /// Host and path, or what the specification names of them; empty where it depends on the region.
    endpoint: String,
    credentials: Vec<String>,
    field: String,
    /// Empty where it is the vendor's to say.
    ttl: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClickRow {
    vendor: String,
    /// The field of the identity, and a parameter of the page's URL.
    field: String,
    days: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GeneratedRow {
    vendor: String,
    field: String,
    cookie: String,
    days: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MetricRow {
    name: String,
    labels: Vec<String>,
}

fn specification() -> Specification {
    serde_json::from_str(include_str!("../../fixtures/specification.json")).unwrap()
}

#[test]
fn syncs_are_as_specified() {
    let Specification { sync, .. } = specification();
    assert_eq!((sync.len(), syncs().count()), (15, 15));
    for row in sync {
        assert!(is_reserved(&row.field), "{}: anybody may take {}", row.vendor, row.field);
        let record = find_sync(&row.vendor).unwrap_or_else(|| panic!("{} has no record", row.vendor));
        assert_eq!(record.field, row.field, "{}", row.vendor);
        assert!(record.endpoint.starts_with(&format!("https://{}", row.endpoint)), "{}", row.vendor);
        assert_eq!(record.partner_label, row.partner_label, "{}", row.vendor);
        assert_eq!(record.ttl_days, row.ttl_days, "{}", row.vendor);
        assert_eq!(record.need.category, "marketing", "{}", row.vendor);
    }
}

#[test]
fn enrichments_are_as_specified() {
    let Specification { enrichment, .. } = specification();
    assert_eq!(enrichment.len(), 5);
    for row in enrichment {
        assert!(is_reserved(&row.field), "{}: anybody may take {}", row.vendor, row.field);
        let record = find_enrichment(&row.vendor).unwrap_or_else(|| panic!("{} has no record", row.vendor));
        assert_eq!(record.field, row.field, "{}", row.vendor);
        let url = format!("{}{}", record.base_url, record.path);
        assert!(url.starts_with(&format!("https://{}", row.endpoint)), "{}", row.vendor);
        let credentials: Vec<&str> = record.credentials.iter().map(|credential| credential.name).collect();
        assert_eq!(credentials, row.credentials, "{}", row.vendor);
        assert!(row.ttl.is_empty() || record.ttl == row.ttl, "{}", row.vendor);
    }
}

#[test]
fn collected_ids_are_as_specified() {
    let Specification { click, generated, .. } = specification();
    assert_eq!((click.len(), generated.len()), (15, 6));
    for row in click {
        let record = click_ids().find(|record| record.field == row.field).unwrap();
        assert_eq!((record.vendor, record.days), (row.vendor.as_str(), row.days), "{}", row.field);
        assert!(record.params.contains(&row.field.as_str()), "{}", row.field);
    }
    for row in generated {
        let record = generated_ids().find(|record| record.field == row.field).unwrap();
        let found = (record.vendor, record.cookie, record.days);
        assert_eq!(found, (row.vendor.as_str(), row.cookie.as_str(), row.days), "{}", row.field);
    }
}

#[test]
fn the_metrics_have_the_names_and_labels_that_are_specified() {
    for row in specification().metrics {
        let metric = METRICS.iter().find(|metric| metric.name == row.name);
        assert_eq!(
            metric.map(|metric| metric.labels),
            Some(&*row.labels.iter().map(String::as_str).collect::<Vec<_>>())
        );
    }
}
