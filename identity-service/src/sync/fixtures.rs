//! Runs `fixtures/sync/{vendor}.json`: the URL a vendor is sent, and what its callbacks mean. One file a
//! vendor; the cases that hold for all are in `_every.json`.

use std::{fs, path::PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::{
    privacy,
    uid::{self, Uid},
};
use crate::{
    consent::Forwarded,
    vendors::{
        self, SyncVendor,
        sync_url::{self, Errand},
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    /// The vendor's cookie and an ID as it assigns them; the simulator of the tests and the demo has them.
    simulator: Simulated,
    partner_id: String,
    /// The URL that the browser is sent to with the state `STATE` from `https://collect.example`.
    location: String,
    /// The parameters behind it that hand on a visitor's consent: `gdprApplies`, `TCF`, `USP`, `GPP` and the sections 2
    /// and 6.
    privacy: String,
    /// IDs as the vendor assigns them.
    good: Vec<String>,
    /// Texts that are no IDs of the vendor's, each with `missing` or `invalid`.
    bad: Vec<(String, String)>,
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

fn refused(why: &str) -> Uid {
    match why {
        "missing" => Uid::Missing,
        "invalid" => Uid::Invalid,
        other => panic!("an ID is missing or invalid, not {other}"),
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn location(vendor: &SyncVendor, partner_id: &str, said: Forwarded<'_>) -> String {
    let errand = Errand {
        endpoint: vendor.endpoint,
        partner_id,
        collect_url: "https://collect.example",
        state: "STATE",
        privacy: &privacy::params(&vendor.privacy, said),
    };
    sync_url::vendor_url(vendor, &errand)
}

/// Checks one callback, in which `THE_ID` stands for `id`.
fn check(vendor: &SyncVendor, case: &Callback, id: &str) {
    let query = case.query.replace("PARAM", vendor.uid_param).replace("THE_ID", &encoded(id));
    let callback = uid::read(vendor, &query);
    let expected = match (case.stored.as_deref(), case.refused.as_deref()) {
        (Some(value), None) => Uid::Value(value.replace("THE_ID", id)),
        (None, Some(why)) => refused(why),
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
        assert_eq!(
            location(vendor, &fixture.partner_id, Forwarded::default()),
            fixture.location,
            "{}",
            vendor.name
        );
        let said = Forwarded {
            gdpr: Some(true),
            tcf: Some("TCF"),
            us_privacy: Some("USP"),
            gpp: Some("GPP"),
            gpp_sid: Some("2,6".to_owned()),
        };
        let separator = if fixture.location.contains('?') { '&' } else { '?' };
        let expected = format!("{}{separator}{}", fixture.location, fixture.privacy);
        assert_eq!(location(vendor, &fixture.partner_id, said), expected, "{}", vendor.name);
        let id = &fixture.simulator.id;
        assert!(!fixture.simulator.cookie.is_empty() && fixture.good.contains(id), "{}", vendor.name);
        for good in &fixture.good {
            assert_eq!(uid::parse_uid(vendor, &encoded(good)), Uid::Value(good.clone()), "{}", vendor.name);
        }
        for (bad, why) in &fixture.bad {
            assert_eq!(uid::parse_uid(vendor, &encoded(bad)), refused(why), "{}: {bad}", vendor.name);
        }
        for case in fixture.callbacks.iter().chain(&every) {
            check(vendor, case, id);
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
