//! Runs `fixtures/sync/{vendor}.json`: the URL a vendor is sent, and what its callbacks mean. One file a
//! vendor; the cases that hold for all are in `_every.json`.

use std::{fs, path::PathBuf};

use serde::Deserialize;

use super::uid::{self, Uid};
use crate::vendors::{self, SyncVendor, sync_url};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    /// The vendor's cookie and an ID as it assigns them; the simulator of the tests and the demo has them.
    simulator: Simulated,
    partner_id: String,
    /// The URL that the browser is sent to with the state `STATE` from `https://collect.example`.
    location: String,
    callbacks: Vec<Callback>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Simulated {
    cookie: String,
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Callback {
    /// `PARAM` stands for the vendor's own parameter.
    query: String,
    /// The ID that is stored, or `missing`, or `invalid`.
    #[serde(default)]
    stored: Option<String>,
    #[serde(default)]
    refused: Option<String>,
    /// The state that is read; `STATE` unless said else.
    #[serde(default)]
    state: Option<String>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/sync")
}

fn read<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    let path = folder().join(format!("{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn check(vendor: &SyncVendor, case: &Callback) {
    let query = case.query.replace("PARAM", vendor.uid_param);
    let callback = uid::read(vendor, &query);
    let expected = match (case.stored.as_deref(), case.refused.as_deref()) {
        (Some(value), None) => Uid::Value(value.to_owned()),
        (None, Some("missing")) => Uid::Missing,
        (None, Some("invalid")) => Uid::Invalid,
        other => panic!("{query}: a case is stored, or refused as missing or invalid, not {other:?}"),
    };
    assert_eq!(callback.uid, expected, "{}: {query}", vendor.name);
    let state = case.state.as_deref().unwrap_or("STATE");
    assert_eq!(callback.state.as_deref().unwrap_or("none"), state, "{}: {query}", vendor.name);
}

#[test]
fn every_vendor_behaves_as_its_fixture_says() {
    let every: Vec<Callback> = read("_every");
    for vendor in vendors::syncs() {
        let fixture: Fixture = read(vendor.name);
        let url = sync_url::vendor_url(
            vendor,
            vendor.endpoint,
            &fixture.partner_id,
            "https://collect.example",
            "STATE",
        );
        assert_eq!(url, fixture.location, "{}", vendor.name);
        assert!(!fixture.simulator.cookie.is_empty(), "{}", vendor.name);
        assert_eq!(uid::parse_uid(vendor, &fixture.simulator.id), Uid::Value(fixture.simulator.id.clone()));
        for case in fixture.callbacks.iter().chain(&every) {
            check(vendor, case);
        }
    }
}

#[test]
fn every_fixture_has_a_vendor() {
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let name = name.strip_suffix(".json").unwrap();
        assert!(name == "_every" || vendors::find_sync(name).is_some(), "{name} has no record");
    }
}
