//! All vendors as their records say: what arrives, and what is no ID of theirs.

use std::collections::BTreeMap;

use harness::{
    answers::assert_gif,
    browser::Browser,
    vendor_sim::{Fault, vendor},
    visits::granted,
    world::{Options, World, all_vendors},
};
use identity_service::vendors;
use serde_json::{Value, json};
use url::Url;

/// Names of all vendors, each with the field its ID is stored in, by name.
fn fields() -> Vec<(&'static str, &'static str)> {
    let mut fields: Vec<_> = vendors::syncs().map(|vendor| (vendor.name, vendor.field)).collect();
    fields.sort_unstable();
    fields
}

async fn world() -> World {
    World::with(Options { vendors: all_vendors().leak(), ..Options::default() }).await
}

#[tokio::test]
async fn every_vendor_s_id_arrives_as_it_was_assigned_and_is_kept_for_its_days() {
    let world = world().await;
    let mut browser = world.browser();
    // An answer offers five at most, so that three batches offer all.
    let mut offered = Vec::new();
    for _ in 0..3 {
        let five = browser.view(&granted()).await.offered();
        assert_eq!(five.len(), 5, "{five:?}");
        offered.extend(five);
    }
    offered.sort();
    assert_eq!(offered, fields().into_iter().map(|(name, _)| name).collect::<Vec<_>>());
    for name in all_vendors() {
        let hops = browser.sync(name).await;
        assert_eq!(hops.iter().map(|hop| hop.status).collect::<Vec<_>>(), [302, 302, 200], "{name}");
        assert_gif(&hops[2]);
    }
    let known = world.vendor_ids(browser.aid()).await;
    assert_eq!(known.vendor_ids.len(), 15, "{known:?}");
    let cvid = format!("cvid:{}:{}", world.customer.org_id, known.canonical_id);
    for record in vendors::syncs() {
        let (name, field, id) = (record.name, record.field, vendor(record.name).id);
        let delivered = &known.vendor_ids[field];
        assert_eq!(delivered.value, id, "{name}");
        let (from, until) = (delivered.collected_at.unwrap(), delivered.expires_at.unwrap());
        assert_eq!(until.seconds - from.seconds, i64::from(record.ttl_days) * 86_400, "{name}");
        let cached: String = world.redis(&["HGET", &cvid, field]).await;
        let cached: Value = serde_json::from_str(&cached).unwrap();
        assert_eq!((&cached["value"], &cached["source"]), (&json!(id), &json!("sync")), "{name}");
        let row = format!(
            "SELECT value || ' ' || extract(day FROM expires_at - collected_at) FROM vendor_ids WHERE field = '{field}'"
        );
        assert_eq!(world.database.text(&row).await, format!("{id} {}", record.ttl_days), "{name}");
    }
    assert_eq!(browser.view(&granted()).await.offered(), [""; 0]);
}

/// A vendor is told what the visitor's site has said of consent, in the parameters that the vendor itself names.
#[tokio::test]
async fn consent_goes_along_under_the_vendor_s_own_names() {
    let world = world().await;
    let mut browser = world.browser();
    let said = json!({"marketing": true, "us_privacy": "1YNN", "gdpr_applies": false, "tcf": "CPsaid"});
    browser.view(&said).await;
    let mut silent = world.browser();
    silent.view(&granted()).await;
    let query = async |browser: &mut Browser, name: &str| {
        let redirect = browser.get(&browser.sync_url(name)).await;
        assert_eq!(redirect.status, 302, "{name}");
        let url = Url::parse(redirect.header("location").unwrap()).unwrap();
        url.query_pairs().into_owned().collect::<BTreeMap<String, String>>()
    };
    for record in vendors::syncs() {
        let names = &record.privacy;
        let (told, untold) = (query(&mut browser, record.name).await, query(&mut silent, record.name).await);
        for (name, value) in [(names.gdpr, "0"), (names.tcf, "CPsaid"), (names.us_privacy, "1YNN")] {
            let Some(name) = name else { continue };
            assert_eq!(told.get(name).map(String::as_str), Some(value), "{}: {name}", record.name);
            assert_eq!(untold.get(name), None, "{}: {name}", record.name);
        }
        assert!(names.gpp.is_none_or(|name| !told.contains_key(name)), "{}: it has not said", record.name);
    }
    assert!(vendors::find_sync("criteo").unwrap().privacy.tcf == Some("gdprString"));
}

#[tokio::test]
async fn a_vendor_without_an_id_is_left_alone_for_a_day() {
    let world = world().await;
    for fault in [Fault::NoId, Fault::OptOut, Fault::RawMacro] {
        let mut browser = world.browser();
        browser.view(&granted()).await;
        for name in all_vendors() {
            let before = world.sync_failures(name, "no_id").await;
            world.vendors.misbehave(name, Some(fault.clone()));
            assert_gif(browser.sync(name).await.last().unwrap());
            assert_eq!(world.sync_failures(name, "no_id").await - before, 1.0, "{name}, {fault:?}");
        }
        assert!(world.vendor_ids(browser.aid()).await.vendor_ids.is_empty(), "{fault:?}");
        world.age("23 hours").await;
        assert_eq!(browser.view(&granted()).await.offered(), [""; 0], "{fault:?}, after 23 hours");
        world.age("2 hours").await;
        assert_eq!(
            browser.view(&granted()).await.offered().len(),
            fields().len().min(5),
            "{fault:?}, after 25 hours"
        );
    }
    assert_eq!(world.database.count("vendor_ids", "true").await, 0);
}

#[tokio::test]
async fn sentinels_and_nonsense_are_not_stored() {
    let world = world().await;
    let long = "x".repeat(513);
    let cases = [
        ("pinterest", "0", "no_id"),
        ("pinterest", "null", "no_id"),
        ("pinterest", "optout", "no_id"),
        ("pinterest", "00000000-0000-0000-0000-000000000000", "no_id"),
        ("pinterest", "$UID", "no_id"),
        ("pinterest", "a\u{0}b", "invalid_id"),
        ("pinterest", "a\r\nb", "invalid_id"),
        ("pinterest", &long, "invalid_id"),
        ("criteo", "<TUID>", "no_id"),
        ("criteo", &long, "invalid_id"),
        ("index_exchange", "none", "no_id"),
        ("trade_desk", "not-a-uuid", "invalid_id"),
        // Each vendor's own words for nobody, and forms that are not its own.
        ("criteo", "CTO_OPTOUT", "no_id"),
        ("liveramp", "sha1=none", "no_id"),
        ("taboola", "0", "no_id"),
        ("microsoft", "00000000000000000000000000000000", "no_id"),
        ("microsoft", "6f1c2a34-5b6d-4e7f-8a9b-0c1d2e3f4a5b", "invalid_id"),
        ("reddit", "6f1c2a34-5b6d-4e7f-8a9b-0c1d2e3f4a5b", "invalid_id"),
        ("snapchat", "6f1c2a345b6d4e7f8a9b0c1d2e3f4a5b", "invalid_id"),
    ];
    for (name, id, reason) in cases {
        let mut browser = world.browser();
        browser.view(&granted()).await;
        let before = world.sync_failures(name, reason).await;
        world.vendors.misbehave(name, Some(Fault::Id(id.to_owned())));
        assert_gif(browser.sync(name).await.last().unwrap());
        assert_eq!(world.sync_failures(name, reason).await - before, 1.0, "{name}, {id:?}");
        assert!(world.vendor_ids(browser.aid()).await.vendor_ids.is_empty(), "{name}, {id:?}");
    }
}

#[tokio::test]
async fn an_id_sent_twice_is_invalid() {
    let world = world().await;
    for name in all_vendors() {
        let mut browser = world.browser();
        browser.view(&granted()).await;
        world.vendors.misbehave(name, Some(Fault::Twice));
        assert_gif(browser.sync(name).await.last().unwrap());
        assert!(world.vendor_ids(browser.aid()).await.vendor_ids.is_empty(), "{name}");
        assert_eq!(world.sync_failures(name, "invalid_id").await, 1.0, "{name}");
    }
}

#[tokio::test]
async fn parameters_after_the_id_are_not_part_of_it() {
    let world = world().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    for (name, field) in fields() {
        world
            .vendors
            .misbehave(name, Some(Fault::Tail("&gdpr=0&gdpr_consent=CPXxRfAPXxRfAAfKABENB&us_privacy=1---")));
        assert_gif(browser.sync(name).await.last().unwrap());
        let stored = world.vendor_id(browser.aid(), field).await;
        assert_eq!(stored.as_deref(), Some(vendor(name).id), "{name}");
    }
}

#[tokio::test]
async fn opaque_ids_are_kept_byte_for_byte() {
    let world = world().await;
    let awkward = ["4722255122219375043", "a+b/c==", "<script>alert(1)</script>", "ünï code", "%41"];
    for id in awkward {
        for (name, field) in [("pinterest", "pin_unauth"), ("criteo", "criteo_gum_id")] {
            let mut browser = world.browser();
            browser.view(&granted()).await;
            world.vendors.misbehave(name, Some(Fault::Id(id.to_owned())));
            let hops = browser.sync(name).await;
            assert_gif(hops.last().unwrap());
            assert_eq!(world.vendor_id(browser.aid(), field).await.as_deref(), Some(id), "{name}");
        }
    }
}
