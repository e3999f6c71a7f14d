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
        for name in
            ["offered", "attempted", "succeeded", "first_attempts", "first_successes", "breaker_opened"]
        {
            let series = format!("datafly_sync_{name}_total{{vendor=\"{vendor}\"}} 0");
            assert!(text.contains(&series), "{series} in\n{text}");
        }
        for browser in ["chromium", "safari", "firefox", "in_app", "other"] {
            for name in ["browser_attempts", "browser_successes"] {
                let labels = format!("{{vendor=\"{vendor}\",browser=\"{browser}\"}} 0");
                assert!(text.contains(&format!("datafly_sync_{name}_total{labels}")), "{name}, {browser}");
            }
        }
        for reason in
            ["no_id", "no_canonical", "store_failed", "bad_state", "invalid_id", "consent", "shared_id"]
        {
            let series = format!("datafly_sync_failed_total{{vendor=\"{vendor}\",reason=\"{reason}\"}} 0");
            assert!(text.contains(&series), "{series} in\n{text}");
        }
    }
    assert!(!text.contains("vendor=\"trade_desk\""), "it is enabled nowhere");
}

#[tokio::test]
async fn a_period_counts_for_the_browser_s_family_and_a_chain_has_its_time() {
    let world = World::start().await;
    let agents = [
        ("chromium", "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko) Chrome/157.0.0.0 Safari/537.36"),
        ("firefox", "Mozilla/5.0 (X11; Linux x86_64; rv:160.0) Gecko/20100101 Firefox/160.0"),
        (
            "in_app",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 27_2 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
        ),
        ("other", "a made-up browser, of which no label is made"),
    ];
    for (at, (family, agent)) in agents.into_iter().enumerate() {
        let mut browser = world.browser();
        browser.user_agent = Some(agent.to_owned());
        browser.view(&granted()).await;
        // One is blocked, and asked again.
        for _ in 0..2 {
            match family {
                "firefox" => assert_eq!(browser.get(&browser.sync_url("pinterest")).await.status, 302),
                _ => assert_gif(browser.sync("pinterest").await.last().unwrap()),
            }
            make_due(&world, &browser).await;
        }
        let counted = async |what: &str| {
            let name = format!("datafly_sync_browser_{what}_total");
            let own = world.metric(&name, &[("vendor", "pinterest"), ("browser", family)]).await;
            (own, world.metric(&name, &[("vendor", "pinterest")]).await)
        };
        let so_far = |all: usize| u32::try_from(all).map(f64::from).unwrap();
        let stored = at + 1 - usize::from(at >= 1);
        assert_eq!(counted("attempts").await, (1.0, so_far(at + 1)), "{family}");
        let own = if family == "firefox" { 0.0 } else { 1.0 };
        assert_eq!(counted("successes").await, (own, so_far(stored)), "{family}");
    }
    let of = async |part: &str| {
        world.metric(&format!("datafly_sync_chain_seconds_{part}"), &[("vendor", "pinterest")]).await
    };
    assert_eq!(of("count").await, 6.0, "all that came back");
    let all = of("sum").await;
    assert!(all > 0.0 && all < 600.0, "{all} s, from the state's time in milliseconds");
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
