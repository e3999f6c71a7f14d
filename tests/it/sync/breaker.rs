//! A vendor whose answers keep being no IDs: its visitors are spared it for a while, and a stranger can't bring that
//! about.

use harness::{
    answers::assert_gif,
    browser::Browser,
    clock::TimedWorld,
    eventually,
    vendor_sim::Fault,
    visits::{explained, granted},
    world::{Options, World},
};
use proto::v1::VendorSyncStatus;

async fn timed() -> TimedWorld {
    let options =
        Options { vendors: &["criteo", "snapchat"], trusted_proxies: "127.0.0.1/32", ..Options::default() };
    TimedWorld::start(options).await.unwrap()
}

/// A new visitor in a network of its own, who has just been offered both vendors.
async fn visitor(world: &World, network: u8) -> Browser {
    let mut browser = world.browser();
    browser.address = Some(format!("203.0.{network}.1"));
    browser.view(&granted()).await;
    browser
}

async fn opened(world: &World, vendor: &str) -> f64 {
    world.metric("datafly_sync_breaker_opened_total", &[("vendor", vendor)]).await
}

/// A visitor in each of the networks comes back from the vendor with what its habit is.
async fn come_back(world: &World, networks: std::ops::Range<u8>, vendor: &str) {
    for network in networks {
        assert_gif(visitor(world, network).await.sync(vendor).await.last().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_never_fills_in_its_macro_is_left_alone_for_an_hour() {
    let mut timed = timed().await;
    let before = visitor(&timed.world, 100).await;
    timed.world.vendors.misbehave("criteo", Some(Fault::RawMacro));
    come_back(&timed.world, 0..19, "criteo").await;
    timed.advance(600).await;
    assert_eq!(opened(&timed.world, "criteo").await, 0.0);
    come_back(&timed.world, 19..20, "criteo").await;
    let world = &timed.world;
    assert_eq!(opened(world, "criteo").await, 1.0);

    // Neither offered nor sent out, whether asked for by a page that was open before or not; and it costs no try.
    let mut spared = world.browser();
    assert_eq!(spared.view(&granted()).await.offered(), ["snapchat"]);
    for mut browser in [spared.clone(), before] {
        assert_eq!(browser.get(&browser.sync_url("criteo")).await.status, 204);
    }
    let refused = [("vendor", "criteo"), ("reason", "breaker_open")];
    assert_eq!(world.metric("datafly_sync_refused_total", &refused).await, 2.0);
    let told = explained(world, &spared, "criteo").await;
    assert_eq!((told.status(), told.until.is_some()), (VendorSyncStatus::BreakerOpen, true));
    assert_eq!(explained(world, &spared, "snapchat").await.status(), VendorSyncStatus::Pending);
    assert_gif(spared.sync("snapchat").await.last().unwrap());
    // Another thread writes the log.
    eventually("one line in the log", async || {
        let log = world.cluster.cores[0].log();
        let lines = log.iter().filter(|line| line.contains("keeps answering")).count();
        if lines == 1 { Ok(()) } else { Err(format!("{lines} lines")) }
    })
    .await;

    // By itself it is tried again.
    timed.world.vendors.misbehave("criteo", None);
    timed.advance(3600).await;
    assert_eq!(explained(&timed.world, &spared, "criteo").await.status(), VendorSyncStatus::Pending);
    assert_eq!(spared.view(&granted()).await.offered(), ["criteo"]);
    assert_gif(spared.sync("criteo").await.last().unwrap());
    assert!(timed.world.vendor_id(spared.aid(), "criteo_gum_id").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_id_ends_the_count_and_closes_what_is_open() {
    let mut timed = timed().await;
    let invalid = || Some(Fault::Id("no-id-of-snapchat".to_owned()));
    for network in 50..52 {
        timed.world.vendors.misbehave("snapchat", invalid());
        come_back(&timed.world, 1..20, "snapchat").await;
        timed.advance(600).await;
        timed.world.vendors.misbehave("snapchat", None);
        come_back(&timed.world, network..network + 1, "snapchat").await;
    }
    timed.world.vendors.misbehave("snapchat", invalid());
    come_back(&timed.world, 1..20, "snapchat").await;
    timed.advance(300).await;
    come_back(&timed.world, 20..22, "snapchat").await;
    assert_eq!(opened(&timed.world, "snapchat").await, 0.0, "an ID came in between, or it was a burst");

    // A browser that is at the vendor meanwhile comes back with an ID after all.
    timed.world.vendors.misbehave("snapchat", None);
    let mut away = visitor(&timed.world, 100).await;
    let callback = away.sync_to_vendor("snapchat").await;
    timed.world.vendors.misbehave("snapchat", invalid());
    timed.advance(300).await;
    come_back(&timed.world, 22..23, "snapchat").await;
    assert_eq!(opened(&timed.world, "snapchat").await, 1.0);
    let mut next = visitor(&timed.world, 101).await;
    assert_eq!(next.get(&next.sync_url("snapchat")).await.status, 204);
    assert_gif(&away.get(callback.as_str()).await);
    assert_eq!(next.get(&next.sync_url("snapchat")).await.status, 302, "an ID closes it");
}

/// What is forged has no state, and whoever has one is one browser in one network.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_can_not_switch_a_vendor_off() {
    let mut timed = timed().await;
    let mut stranger = visitor(&timed.world, 0).await;
    for round in 0..2 {
        let callback = stranger.sync_to_vendor("criteo").await;
        let (sealed, _) = callback.as_str().split_once("uid=").unwrap();
        let forged = format!("{}/v1/sync/criteo/callback?state=AAAA&uid=%24UID", stranger.collect);
        let raw = format!("{sealed}uid=a%00b");
        for network in 0..40 {
            // One state from many networks, no state from many, and many visitors of one network.
            stranger.address = Some(format!("203.0.{network}.1"));
            for url in [&forged, &raw] {
                assert_gif(&stranger.get(url).await);
            }
            let mut other = timed.world.browser();
            other.address = Some(format!("198.51.100.{network}"));
            timed.world.vendors.misbehave("snapchat", Some(Fault::RawMacro));
            other.view(&granted()).await;
            other.sync("snapchat").await;
        }
        if round == 0 {
            timed.advance(605).await;
        }
    }
    let world = &timed.world;
    assert_eq!(world.sync_failures("criteo", "invalid_id").await, 80.0);
    assert_eq!(world.sync_failures("snapchat", "no_id").await, 80.0);
    assert_eq!((opened(world, "criteo").await, opened(world, "snapchat").await), (0.0, 0.0));
    let mut honest = world.browser();
    assert_eq!(honest.view(&granted()).await.offered(), ["criteo", "snapchat"]);
}
