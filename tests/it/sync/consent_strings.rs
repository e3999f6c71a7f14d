//! Consent strings of TCF and GPP: what they allow is asked at the offer, at the redirect and at the callback, and only a
//! visitor's own refusal removes what is stored. Criteo is vendor 91 of the Global Vendor List; Pinterest is not on it.

use harness::{
    answers::{assert_accepted, assert_gif},
    consent_strings::{CRITEO_RESTRICTED, CRITEO_UNDISCLOSED, MANY, NO_ACCESS, TABOOLA, days_old},
    world::{Options, World},
};
use serde_json::{Value, json};

const VENDORS: &[&str] = &["criteo", "pinterest"];
const BOTH: &[&str] = VENDORS;
const PINTEREST: &[&str] = &["pinterest"];
const NONE: &[&str] = &[];

/// Consent objects, each with the vendors that it allows in mode `explicit`, and in mode `implicit`.
fn objects() -> Vec<(Value, &'static [&'static str], &'static [&'static str])> {
    let many = days_old(MANY, 1);
    let cut = &many[..many.len() - 50];
    vec![
        // TCF.
        (json!({"tcf": many}), BOTH, BOTH),
        (json!({"tcf": many, "gdpr_applies": true}), BOTH, BOTH),
        (json!({"tcf": days_old(TABOOLA, 1)}), PINTEREST, PINTEREST),
        (json!({"tcf": days_old(CRITEO_RESTRICTED, 1), "marketing": true}), PINTEREST, PINTEREST),
        (json!({"tcf": days_old(CRITEO_UNDISCLOSED, 1), "marketing": true}), PINTEREST, PINTEREST),
        (json!({"tcf": days_old(NO_ACCESS, 1), "marketing": true}), NONE, NONE),
        (json!({"tcf": cut, "marketing": true}), NONE, NONE),
        (json!({"tcf": days_old(MANY, 14 * 30 + 10), "marketing": true}), NONE, NONE),
        (json!({"tcf": format!("B{}", &many[1..]), "marketing": true}), NONE, NONE),
        (json!({"tcf": days_old(NO_ACCESS, 1), "gdpr_applies": false}), NONE, BOTH),
        // GPP: the European Union's section, then California's.
        (json!({"gpp": format!("DBABM~{many}"), "gpp_sid": [2]}), BOTH, BOTH),
        (json!({"gpp": format!("DBABM~{}", days_old(TABOOLA, 1)), "gpp_sid": "2"}), PINTEREST, PINTEREST),
        (json!({"gpp": format!("DBABM~{}", days_old(MANY, 430)), "marketing": true}), NONE, NONE),
        (json!({"gpp": "DBABBg~BVoYYYI", "gpp_sid": [8]}), NONE, BOTH),
        (json!({"gpp": "DBABBg~BVoYYYI", "gpp_sid": [8], "marketing": true}), BOTH, BOTH),
        (json!({"gpp": "DBABBg~BVVVVVVY", "gpp_sid": [8], "marketing": true}), NONE, NONE),
        (json!({"gpp": "DBABBg~BVqqqqpY.YA", "marketing": true}), NONE, NONE),
        (json!({"gpp": "DBABBg~BVVVVVVY", "gpp_sid": [-1], "marketing": true}), BOTH, BOTH),
        (json!({"gpp": "DBABBg~BVoYYYI", "gpp_sid": [0], "marketing": true}), NONE, NONE),
        (json!({"gpp": "DBABBg~BVoYYYI", "gpp_sid": [7], "marketing": true}), NONE, NONE),
        (json!({"gpp": "DBABBg~", "marketing": true}), NONE, NONE),
    ]
}

async fn offers_and_redirects_follow_the_strings(mode: &'static str) {
    let world = World::with(Options { consent_mode: mode, vendors: VENDORS, ..Options::default() }).await;
    for (consent, explicit, implicit) in objects() {
        let allowed = if mode == "explicit" { explicit } else { implicit };
        let mut browser = world.browser();
        let answer = browser.view(&consent).await;
        assert_accepted(&answer, 1);
        let mut offered = answer.offered();
        offered.sort();
        assert_eq!(offered, allowed, "{mode}: {consent}");
        for vendor in VENDORS {
            let redirect = browser.get(&browser.sync_url(vendor)).await;
            let status = if allowed.contains(vendor) { 302 } else { 204 };
            assert_eq!(redirect.status, status, "{mode}: {vendor}: {consent}");
        }
    }
}

#[tokio::test]
async fn in_explicit_mode_offers_and_redirects_follow_the_strings() {
    offers_and_redirects_follow_the_strings("explicit").await;
}

#[tokio::test]
async fn in_implicit_mode_offers_and_redirects_follow_the_strings() {
    offers_and_redirects_follow_the_strings("implicit").await;
}

/// Objects that take back what a TCF string has granted to Criteo, each with true where the visitor says so.
fn withdrawals() -> Vec<(Value, bool)> {
    let many = days_old(MANY, 1);
    vec![
        (json!({"tcf": &many[..many.len() - 50]}), false),
        (json!({"tcf": days_old(MANY, 14 * 30 + 10)}), false),
        (json!({"tcf": days_old(CRITEO_UNDISCLOSED, 1)}), false),
        (json!({"tcf": many, "gpp": "DBABBg~BVoYYYI", "gpp_sid": [0]}), false),
        (json!({"tcf": many, "gpp": "DBABBg~BV"}), false),
        (json!({"tcf": days_old(TABOOLA, 1)}), true),
        (json!({"tcf": days_old(CRITEO_RESTRICTED, 1)}), true),
        (json!({"tcf": days_old(NO_ACCESS, 1)}), true),
        (json!({"tcf": many, "gpp": "DBABBg~BVVVVVVY", "gpp_sid": [8]}), true),
        (json!({"gpp": format!("DBABM~{}", days_old(NO_ACCESS, 1))}), true),
    ]
}

#[tokio::test]
async fn what_a_string_takes_back_on_the_way_is_not_stored() {
    for mode in ["explicit", "implicit"] {
        let world = World::with(Options { consent_mode: mode, vendors: VENDORS, ..Options::default() }).await;
        let mut denied = 0.0;
        for (withdrawal, _) in withdrawals() {
            let mut browser = world.browser();
            assert_accepted(&browser.view(&json!({"tcf": days_old(MANY, 1)})).await, 1);
            let callback = browser.sync_to_vendor("criteo").await;
            assert_accepted(&browser.view(&withdrawal).await, 1);
            assert_gif(&browser.get(callback.as_str()).await);
            denied += 1.0;
            assert_eq!(world.vendor_id(browser.aid(), "criteo_gum_id").await, None, "{mode}: {withdrawal}");
            assert_eq!(world.sync_failures("criteo", "consent").await, denied, "{mode}: {withdrawal}");
        }
        assert_eq!(world.database.count("vendor_ids", "true").await, 0);
        assert_eq!(world.metric("datafly_sync_succeeded_total", &[]).await, 0.0);
        // The same chain with a consent that stays.
        let mut browser = world.browser();
        browser.view(&json!({"tcf": days_old(MANY, 1)})).await;
        assert_gif(browser.sync("criteo").await.last().unwrap());
        assert!(world.vendor_id(browser.aid(), "criteo_gum_id").await.is_some(), "{mode}");
    }
}

#[tokio::test]
async fn only_what_a_visitor_refuses_in_a_string_removes_what_is_stored() {
    let options = Options { purge_on_withdrawal: true, vendors: VENDORS, ..Options::default() };
    let world = World::with(options).await;
    for (withdrawal, is_made) in withdrawals() {
        let mut browser = world.browser();
        browser.view(&json!({"tcf": days_old(MANY, 1)})).await;
        assert_gif(browser.sync("criteo").await.last().unwrap());
        let stored = async || world.vendor_id(browser.aid(), "criteo_gum_id").await.is_some();
        assert!(stored().await);
        assert_accepted(&browser.clone().view(&withdrawal).await, 1);
        assert_eq!(stored().await, !is_made, "{withdrawal}");
    }
}

#[tokio::test]
async fn a_string_that_ages_where_it_is_stored_offers_nothing_and_removes_nothing() {
    let options = Options { purge_on_withdrawal: true, vendors: VENDORS, ..Options::default() };
    let world = World::with(options).await;
    let mut browser = world.browser();
    browser.view(&json!({"tcf": days_old(MANY, 1)})).await;
    assert_gif(browser.sync("criteo").await.last().unwrap());
    let aged = json!({"tcf": days_old(MANY, 14 * 30 + 10)});
    world.database.execute(&format!("UPDATE consent SET signals = '{aged}'")).await;
    world.age("2 hours").await;
    assert_eq!(browser.view(&Value::Null).await.offered(), [""; 0]);
    assert_eq!(browser.get(&browser.sync_url("pinterest")).await.status, 204);
    assert!(world.vendor_id(browser.aid(), "criteo_gum_id").await.is_some());
    // The platform asks anew, and has a new string made.
    assert_eq!(browser.view(&json!({"tcf": days_old(MANY, 0)})).await.offered(), PINTEREST);
}
