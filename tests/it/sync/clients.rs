//! Programs that are sent to no vendor: crawlers, speculative loads, and browsers that a pipeline keeps out.

use harness::{
    answers::{assert_accepted, assert_gif},
    browser::Browser,
    control::Control,
    eventually,
    shop::Shop,
    visits::granted,
    world::World,
};
use reqwest::Method;
use serde_json::json;

const BLINK: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/157.0.0.0 Safari/537.36";
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:160.0) Gecko/20100101 Firefox/160.0";
const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 27_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
    CriOS/157.0.0.0 Mobile/15E148 Safari/604.1";
const CRAWLER: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";

async fn refusals(world: &World, reason: &str) -> f64 {
    world.metric("datafly_sync_refused_total", &[("vendor", "pinterest"), ("reason", reason)]).await
}

/// Asks for the image of Pinterest, with one more header.
async fn image(browser: &mut Browser, method: Method, header: Option<(&str, &str)>) -> u16 {
    let url = browser.sync_url("pinterest");
    let path = url.strip_prefix(&browser.collect).unwrap().to_owned();
    let mut request = browser.request(method, &path);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    browser.send(request).await.status
}

#[tokio::test]
async fn a_declared_crawler_is_neither_offered_nor_sent_out() {
    let world = World::start().await;
    let mut crawler = world.browser();
    crawler.user_agent = Some(CRAWLER.to_owned());
    let answer = crawler.view(&granted()).await;
    assert_accepted(&answer, 1);
    assert_eq!(answer.offered(), [""; 0]);
    assert_eq!(image(&mut crawler, Method::GET, None).await, 204);
    assert_eq!(refusals(&world, "crawler").await, 1.0);
    assert_eq!(world.database.count("sync_attempts", "true").await, 0, "it costs no try");

    // The same visitor by a browser: nothing was taken from it.
    crawler.user_agent = Some(BLINK.to_owned());
    assert_eq!(crawler.view(&granted()).await.offered(), ["pinterest"]);
    assert_gif(crawler.sync("pinterest").await.last().unwrap());
}

#[tokio::test]
async fn a_speculative_load_and_a_head_are_neither_offered_nor_sent_out() {
    let world = World::start().await;
    let mut browser = world.browser();
    let body = json!({"batch": [browser.page_view(&granted())]}).to_string();
    for (name, value) in
        [("sec-purpose", "prefetch"), ("sec-purpose", "prefetch;prerender"), ("purpose", "prefetch")]
    {
        let request = browser.request(Method::POST, "/v1/batch").header(name, value);
        let request = request.bearer_auth(&browser.key).body(body.clone());
        let answer = browser.send(request).await;
        assert_accepted(&answer, 1);
        assert_eq!(answer.json()["pending_syncs"], json!([]), "{name}: {value}");
        assert_eq!(image(&mut browser, Method::GET, Some((name, value))).await, 204, "{name}: {value}");
    }
    assert_eq!(image(&mut browser, Method::HEAD, None).await, 204);
    assert_eq!(world.metric("datafly_sync_attempted_total", &[]).await, 0.0);
    assert_eq!(world.database.count("sync_attempts", "true").await, 0);
    assert_eq!(browser.view(&granted()).await.offered(), ["pinterest"], "and no lease was taken");
}

/// By default every browser is synced; a pipeline may keep out, of one vendor, those whose engine blocks third parties.
#[tokio::test(flavor = "multi_thread")]
async fn browsers_that_block_third_parties_are_kept_out_where_the_pipeline_says_so() {
    let control = Control::start().await;
    let (world, owner) = (&control.world, &control.owner);
    let shop = Shop::open(world, owner).await;
    let path = |vendor: &str| format!("{}/identity-sources/{vendor}", shop.pipeline);
    for vendor in ["pinterest", "criteo"] {
        let sync = json!({"partner_id": "1", "endpoint": world.vendors.endpoint(vendor)});
        let made = owner.put(&path(vendor), &sync).await.expect(201);
        assert_eq!(made["supported_browsers_only"], json!(false), "off by default");
    }
    let key = shop.issue(world, owner, "live").await;
    let of = |agent: &str| {
        let mut browser = shop.browser(world, &key);
        browser.user_agent = Some(agent.to_owned());
        browser
    };
    for agent in [BLINK, FIREFOX, IPHONE] {
        assert_eq!(of(agent).view(&granted()).await.offered(), ["criteo", "pinterest"], "{agent}");
    }

    let only = json!({"partner_id": "1", "supported_browsers_only": true});
    let changed = owner.put(&path("pinterest"), &only).await.expect(200);
    assert_eq!(changed["supported_browsers_only"], json!(true));
    let kept = owner.put(&path("pinterest"), &json!({"partner_id": "2"})).await.expect(200);
    assert_eq!(kept["supported_browsers_only"], json!(true), "what is left out stays as it is");
    eventually("the core to know of the switch", async || {
        let offered = of(FIREFOX).view(&granted()).await.offered();
        if offered == ["criteo"] { Ok(()) } else { Err(format!("{offered:?}")) }
    })
    .await;
    for (agent, offered, status) in [
        (FIREFOX, vec!["criteo"], 204),
        (IPHONE, vec!["criteo"], 204),
        (BLINK, vec!["criteo", "pinterest"], 302),
    ] {
        let mut browser = of(agent);
        let before = refusals(world, "unsupported_browser").await;
        assert_eq!(browser.view(&granted()).await.offered(), offered, "{agent}");
        assert_eq!(image(&mut browser, Method::GET, None).await, status, "{agent}");
        let refused = refusals(world, "unsupported_browser").await - before;
        assert_eq!(refused, f64::from(u8::from(status == 204)), "{agent}");
    }
}
