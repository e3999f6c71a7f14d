//! The catalogue of metrics against the manual, the code that counts, and what is exported.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use harness::{
    answers::assert_accepted,
    visits::{granted, synced},
    world::World,
};
use serve::catalogue::{Kind, METRICS};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The words in backticks of a table's cell.
fn words(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_manual_lists_the_catalogue() {
    let manual = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let mut listed = BTreeMap::new();
    for row in manual.lines().filter(|line| line.starts_with("| `datafly_")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        assert!(listed.insert(words(cells[0])[0], words(cells[1])).is_none(), "{row} stands twice");
    }
    let catalogue: BTreeMap<&str, Vec<&str>> =
        METRICS.iter().map(|metric| (metric.name, metric.labels.to_vec())).collect();
    assert_eq!(catalogue.len(), METRICS.len(), "a metric stands twice");
    assert_eq!(listed, catalogue);
    for metric in METRICS {
        assert!(metric.help.ends_with('.') && metric.help.contains(' '), "{}: no sentence", metric.name);
        assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
    }
}

/// Names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split(|c| !is_part(c)).filter(|word| word.starts_with("datafly_")).collect()
}

#[test]
fn rules_and_dashboard_name_metrics_of_the_catalogue() {
    for file in ["alerts.yml", "alerts_test.yml", "dashboard.json"] {
        let text = fs::read_to_string(root().join("docs/monitoring").join(file)).unwrap();
        let names = names(&text);
        assert!(names.len() > 6, "{file}: {names:?}");
        for name in names {
            let of_histogram = name.strip_suffix("_bucket").or_else(|| name.strip_suffix("_count"));
            let is_known = METRICS.iter().any(|own| own.name == name || Some(own.name) == of_histogram);
            assert!(is_known, "{file}: {name}");
        }
    }
    let dashboard = fs::read_to_string(root().join("docs/monitoring/dashboard.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&dashboard).unwrap();
}

/// The source files of the crates that are served.
fn sources() -> Vec<PathBuf> {
    let crates = [
        "identity-service",
        "identity-service/processor",
        "http-edge",
        "http-edge/serve",
        "management",
        "migrations",
    ];
    let mut folders: Vec<PathBuf> = crates.iter().map(|name| root().join(name).join("src")).collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn what_is_counted_is_in_the_catalogue_and_the_other_way_round() {
    let mut counted = BTreeSet::new();
    for path in sources().into_iter().filter(|path| !path.ends_with("catalogue.rs")) {
        let code = fs::read_to_string(&path).unwrap();
        for (macro_name, kind) in
            [("counter!(", Kind::Counter), ("gauge!(", Kind::Gauge), ("histogram!(", Kind::Histogram)]
        {
            for (at, _) in code.match_indices(macro_name) {
                let argument = code[at + macro_name.len()..].trim_start();
                let Some(name) = argument.strip_prefix('"').and_then(|text| text.split('"').next()) else {
                    continue;
                };
                let metric = METRICS.iter().find(|metric| metric.name == name);
                let metric =
                    metric.unwrap_or_else(|| panic!("{name} is in no catalogue: {}", path.display()));
                assert_eq!(metric.kind, kind, "{name}: {}", path.display());
                counted.insert(name.to_owned());
            }
        }
    }
    let catalogue: BTreeSet<String> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(counted, catalogue);
}

#[tokio::test]
async fn what_is_exported_has_its_help_and_its_labels() {
    let world = World::start().await;
    let mut browser = synced(&world).await;
    assert_accepted(&browser.view(&granted()).await, 1);
    for service in [&world.cluster.cores[0], &world.cluster.edge] {
        let metrics = service.metrics().await;
        let samples = metrics.text().lines().filter(|line| line.starts_with("datafly_"));
        let mut exported = BTreeSet::new();
        for sample in samples {
            let (series, _) = sample.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let part = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
            let find = |name: &str| METRICS.iter().find(|metric| metric.name == name);
            let metric =
                find(name).or_else(|| find(part?)).unwrap_or_else(|| panic!("{sample} is in no catalogue"));
            let labels = labels.split(',').filter_map(|label| label.split_once('=')).map(|(label, _)| label);
            let labels: Vec<&str> = labels.filter(|label| *label != "le").collect();
            assert_eq!(labels, metric.labels, "{sample}");
            exported.insert(metric.name);
        }
        assert!(exported.len() > 3, "{exported:?}");
        for name in exported {
            let help = METRICS.iter().find(|metric| metric.name == name).unwrap().help;
            let line = format!("# HELP {name} {help}");
            assert!(metrics.text().lines().any(|own| own == line), "{line}");
        }
    }
}
