//! Counters that can be alerted on: every series is there from the start, and a browser that blocks a vendor pulls the
//! match rate down once.

use harness::{
    answers::assert_gif,
    visits::{granted, make_due},
    world::{Options, World},
};

async fn rate(world: &World) -> (f64, f64) {
    let count = async |name: &str| world.metric(name, &[("vendor", "pinterest")]).await;
    (count("datafly_sync_first_attempts_total").await, count("datafly_sync_first_successes_total").await)
}

#[tokio::test]
async fn every_series_of_an_enabled_vendor_is_there_from_the_start() {
    let world = World::with(Options { vendors: &["criteo", "pinterest"], ..Options::default() }).await;
    let page = world.cluster.cores[0].metrics().await;
    let text = page.text();
    for vendor in ["criteo", "pinterest"] {
        for name in ["attempted", "succeeded", "first_attempts", "first_successes"] {
            let series = format!("datafly_sync_{name}_total{{vendor=\"{vendor}\"}} 0");
            assert!(text.contains(&series), "{series} in\n{text}");
        }
        for reason in ["no_id", "no_canonical", "store_failed", "bad_state", "invalid_id", "consent"] {
            let series = format!("datafly_sync_failed_total{{vendor=\"{vendor}\",reason=\"{reason}\"}} 0");
            assert!(text.contains(&series), "{series} in\n{text}");
        }
    }
    assert!(!text.contains("vendor=\"trade_desk\""), "it is enabled nowhere");
}

#[tokio::test]
async fn tries_of_a_browser_that_blocks_the_vendor_count_as_one() {
    let world = World::start().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    for attempted in 1..=3 {
        assert_eq!(browser.get(&browser.sync_url("pinterest")).await.status, 302);
        assert_eq!(rate(&world).await, (1.0, 0.0));
        let all = world.metric("datafly_sync_attempted_total", &[("vendor", "pinterest")]).await;
        assert_eq!(all, f64::from(attempted), "the specification's counter has every try");
        // Who is not due is sent nowhere, which costs no try.
        assert_eq!(browser.get(&browser.sync_url("pinterest")).await.status, 204);
        make_due(&world, &browser).await;
    }
    let refused = [("vendor", "pinterest"), ("reason", "not_due")];
    assert_eq!(world.metric("datafly_sync_refused_total", &refused).await, 3.0);
    assert_eq!(world.database.text("SELECT attempts::text FROM sync_attempts").await, "3");
    // The blocker is switched off: the period has its success, once.
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    assert_eq!(rate(&world).await, (1.0, 1.0));
    // The refresh, up to 5 % early, belongs to the period and ends it; the one after begins another.
    make_due(&world, &browser).await;
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    assert_eq!(rate(&world).await, (1.0, 1.0));
    make_due(&world, &browser).await;
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    assert_eq!(rate(&world).await, (2.0, 2.0));
    // A period in which nothing came ends with the TTL.
    let mut other = world.browser();
    other.view(&granted()).await;
    other.get(&other.sync_url("pinterest")).await;
    assert_eq!(rate(&world).await, (3.0, 2.0));
    world.database.execute("UPDATE sync_attempts SET period_since = period_since - interval '91 days'").await;
    make_due(&world, &other).await;
    other.get(&other.sync_url("pinterest")).await;
    assert_eq!(rate(&world).await, (4.0, 2.0));
}
