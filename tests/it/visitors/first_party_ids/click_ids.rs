//! Click IDs of page URLs: delivered as they came, the newest of them, also from a customer's server.

use harness::{
    answers::assert_accepted,
    eventually,
    signature::sign,
    visits::{delivered, granted},
};
use serde_json::{Value, json};

use super::support::{GENERATING_VENDORS, PAGE_URL, both, collecting, lookup, visit};

#[tokio::test]
async fn a_click_id_is_delivered_as_it_came_and_the_newest_wins() {
    let world = collecting(&["pinterest"], &["google"]).await;
    let mut browser = world.browser();
    visit(&mut browser, &granted(), "?utm=x&gclid=CaSe%2DKept_1&epik=dj0&fbclid=IwAR1#gclid=no").await;
    let ids = world.vendor_ids(browser.aid()).await.vendor_ids;
    let gclid = &ids["gclid"];
    assert_eq!(
        (gclid.value.as_str(), gclid.source().as_str_name()),
        ("CaSe-Kept_1", "VENDOR_ID_SOURCE_CLICK")
    );
    let days = |field: &str| {
        let (from, until) = (ids[field].collected_at.unwrap(), ids[field].expires_at.unwrap());
        (until.seconds - from.seconds) / 86_400
    };
    assert_eq!((days("gclid"), days("epik")), (90, 365), "with Pinterest's sync come its click IDs");
    assert!(!ids.contains_key("fbclid"), "nothing of Meta's is enabled");
    let identity = format!("identity:{}:{}", world.customer.org_id, browser.aid());
    let plain: Option<String> = world.redis(&["HGET", &identity, "gclid"]).await;
    assert_eq!(plain.as_deref(), Some("CaSe-Kept_1"), "and the projection has it");

    visit(&mut browser, &granted(), "?gclid=second&gclsrc=aw.ds").await;
    assert_eq!(world.vendor_id(browser.aid(), "gclid").await.as_deref(), Some("second"));
    visit(&mut browser, &granted(), "?gclid=third&gclsrc=3p.ds").await;
    visit(&mut browser, &granted(), "").await;
    assert_eq!(world.vendor_id(browser.aid(), "gclid").await.as_deref(), Some("second"));
    world.flush_redis().await;
    assert_eq!(world.vendor_id(browser.aid(), "gclid").await.as_deref(), Some("second"));
    let person = lookup(&world, &browser).await;
    assert_eq!(person.vendor_ids["gclid"].anonymous_id.as_deref(), Some(browser.aid()));

    // Two pages of one batch: the later one counts.
    let mut events = [browser.page_view(&Value::Null), browser.page_view(&Value::Null)];
    for (event, click) in events.iter_mut().zip(["fourth", "fifth"]) {
        event["context"]["page"]["url"] = json!(format!("{PAGE_URL}?gclid={click}"));
    }
    assert_accepted(&browser.batch(&json!(events)).await, 2);
    assert_eq!(world.vendor_id(browser.aid(), "gclid").await.as_deref(), Some("fifth"));
}

/// A page with a canonical URL, a page behind a `#`, and one to which a landing page has redirected by script. Other
/// events of the batch hide none of it.
#[tokio::test]
async fn a_click_is_found_in_search_fragment_and_referrer_among_other_events() {
    let world = collecting(&[], &["google"]).await;
    for (page, click) in [
        (json!({"url": PAGE_URL, "search": "?gclid=in-search"}), "in-search"),
        (json!({"url": format!("{PAGE_URL}#/promo?gclid=in-fragment")}), "in-fragment"),
        (json!({"url": PAGE_URL, "referrer": format!("{PAGE_URL}landing?gclid=in-referrer")}), "in-referrer"),
    ] {
        let mut browser = world.browser();
        let mut events = vec![browser.page_view(&granted()); 3];
        events[1]["context"]["page"] = page;
        assert_accepted(&browser.batch(&json!(events)).await, 3);
        assert_eq!(world.vendor_id(browser.aid(), "gclid").await.as_deref(), Some(click));
    }
}

/// The click is usually in front, and half of an ID would be another one.
#[tokio::test]
async fn of_a_url_that_is_too_long_the_parameters_that_fit_count() {
    let world = collecting(&["pinterest"], &["google"]).await;
    let mut browser = world.browser();
    let filler = "f".repeat(4000);
    visit(&mut browser, &granted(), &format!("?gclid=in-front&filler={filler}&epik={}", "e".repeat(200)))
        .await;
    let ids = world.vendor_ids(browser.aid()).await.vendor_ids;
    assert_eq!(ids.keys().collect::<Vec<_>>(), ["gclid"]);
    assert_eq!(ids["gclid"].value, "in-front");
}

#[tokio::test]
async fn a_server_s_call_brings_click_ids_and_gets_no_cookies() {
    let world = collecting(&[], GENERATING_VENDORS).await;
    let mut browser = world.browser();
    let mut event = browser.page_view(&both());
    event["context"]["page"]["url"] = json!(format!("{PAGE_URL}?fbclid=IwAR1"));
    let body = json!({"batch": [event]}).to_string();
    let request = browser.request(reqwest::Method::POST, "/v1/batch").bearer_auth(&browser.key);
    let signature = sign(&world.customer.server_secret, &body);
    let request = request.header("x-datafly-signature", signature).body(body);
    let answer = browser.send(request).await;
    assert_accepted(&answer, 1);
    assert_eq!(answer.set_cookies(), [""; 0]);
    let ids = world.vendor_ids(browser.aid()).await.vendor_ids;
    assert_eq!(ids.keys().collect::<Vec<_>>(), ["fbclid"]);
}

#[tokio::test]
async fn without_postgres_a_known_visitor_s_events_count_and_what_they_bring_comes_later() {
    let world = collecting(&[], &["google"]).await;
    let mut browser = world.browser();
    visit(&mut browser, &granted(), "?gclid=first").await;
    let mut event = browser.page_view(&granted());
    event["context"]["page"]["url"] = json!(format!("{PAGE_URL}?gclid=late"));
    event["traits"] = json!({"email": "late@example.com"});
    world.postgres_proxy.blackhole().await;
    // A busy machine may read too late from Redis, and has nothing else to ask.
    let answer = eventually("the event to be taken", async || {
        let answer = browser.batch(&json!([event])).await;
        let taken = answer.status == 200 && answer.json()["accepted"] == json!(1);
        if taken { Ok(answer) } else { Err(answer.text()) }
    })
    .await;
    assert_accepted(&answer, 1);
    assert_eq!(delivered(&world, browser.aid()).await.vendor_ids["gclid"].value, "first");
    world.postgres_proxy.heal().await;
    eventually("the click and the digest to be stored", async || {
        assert_accepted(&browser.batch(&json!([event])).await, 1);
        let (click, digests) = (
            world.vendor_id(browser.aid(), "gclid").await,
            world.database.count("pii_digests", "true").await,
        );
        if (click.as_deref(), digests) == (Some("late"), 1) {
            Ok(())
        } else {
            Err(format!("{click:?} {digests}"))
        }
    })
    .await;
}
