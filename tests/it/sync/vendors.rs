//! All vendors by their own habits, good and bad.

use std::time::Duration;

use harness::{
    answers::assert_gif,
    vendor_sim::{Fault, vendor},
    visits::granted,
    world::{Options, World, all_vendors},
};
use identity_service::vendors;

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
async fn every_vendor_s_id_arrives_as_it_was_assigned() {
    let world = world().await;
    let mut browser = world.browser();
    // An answer offers five at most.
    let first: Vec<_> = fields().into_iter().map(|(vendor, _)| vendor).take(5).collect();
    assert_eq!(browser.view(&granted()).await.offered(), first);
    for name in all_vendors() {
        let hops = browser.sync(name).await;
        assert_eq!(hops.iter().map(|hop| hop.status).collect::<Vec<_>>(), [302, 302, 200], "{name}");
        assert_gif(&hops[2]);
    }
    let ids = world.vendor_ids(browser.aid()).await.vendor_ids;
    for (name, field) in fields() {
        assert_eq!(ids.get(field).map(|id| id.value.as_str()), Some(vendor(name).id), "{name}");
    }
    assert_eq!(ids.len(), fields().len(), "{ids:?}");
    assert_eq!(browser.view(&granted()).await.offered(), [""; 0]);
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
    for name in ["pinterest", "criteo", "trade_desk", "index_exchange"] {
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

#[tokio::test]
async fn a_vendor_that_never_redirects_and_a_slow_one() {
    let world = world().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    world.vendors.misbehave("pinterest", Some(Fault::NoRedirect));
    let hops = browser.sync("pinterest").await;
    assert_eq!(hops.iter().map(|hop| hop.status).collect::<Vec<_>>(), [302, 200]);
    assert_eq!(world.vendor_id(browser.aid(), "pin_unauth").await, None);

    world.vendors.misbehave("criteo", Some(Fault::Slow(Duration::from_millis(500))));
    assert_gif(browser.sync("criteo").await.last().unwrap());
    assert!(world.vendor_id(browser.aid(), "criteo_gum_id").await.is_some());

    world.vendors.misbehave("pinterest", None);
    world.age("11 minutes").await;
    let offered = browser.view(&granted()).await.offered();
    assert!(offered.contains(&"pinterest".to_owned()), "after the first back-off: {offered:?}");
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    assert!(world.vendor_id(browser.aid(), "pin_unauth").await.is_some());
}
