//! What a stream of Amperity is sent, and what comes of its answers.

use std::time::Duration;

use harness::{
    answers::assert_accepted,
    delivery::{Delivering, INGEST_KEY, replace_key},
    delivery_sim::Reaction,
    eventually,
    visits::granted,
    world::Options,
};
use serde_json::json;

fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_view_and_a_purchase_arrive_as_the_specification_says() {
    let options = Options { trusted_proxies: "127.0.0.0/8", ..Options::default() };
    let delivering = Delivering::with(options, &json!({})).await;
    let mut browser = delivering.world.browser();
    browser.user_agent = Some("Shop-Browser/1.0".to_owned());
    browser.address = Some("203.0.113.77".to_owned());
    let consent = json!({"analytics": true, "marketing": true, "categories": {"C0001": true}, "google": {"ad_storage": "granted"}});
    let purchase = r#"{"type":"track","event":"Order Completed","messageId":"m-2","properties":{"order_id":"o-1","value":129.90,"currency":"EUR","products":[{"sku":"s-1","price":129.90}]},"traits":{"email":"jane@example.com"}}"#;
    assert_accepted(&browser.view(&consent).await, 1);
    assert_accepted(&browser.post("/v1/batch", format!(r#"{{"batch":[{purchase}]}}"#)).await, 1);
    let received = delivering.sim.wait_for(2).await;
    for request in &received {
        assert_eq!(
            (request.method.as_str(), request.target.as_str()),
            ("POST", "/prof/events/esm-2VP6va3Zn")
        );
        assert_eq!(request.headers["amperity-tenant"], "acme-tenant");
        assert_eq!(request.headers["authorization"], format!("Bearer {INGEST_KEY}"));
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!(request.headers["content-length"], request.body.len().to_string());
    }
    let (view, bought) = (received[0].json(), received[1].json());
    let cookie = browser.jar.value(&browser.collect, "_dfid").unwrap();
    for event in [&view, &bought] {
        assert_eq!((&event["source"], &event["cookieid"]), (&json!("DATAFLY"), &json!(cookie)));
        assert_eq!(
            (&event["ip_address"], &event["user_agent"]),
            (&json!("203.0.113.77"), &json!("Shop-Browser/1.0"))
        );
        // The purchase brings none of its own: the stored one.
        assert_eq!(event["consent"], consent);
    }
    assert_eq!((&view["type"], &view["page_url"]), (&json!("pageview"), &json!("https://shop.example.com/")));
    assert_eq!(
        (&bought["type"], &bought["message_id"], &bought["transaction_id"]),
        (&json!("purchase"), &json!("m-2"), &json!("o-1"))
    );
    assert!(received[1].body.contains(r#""value":129.90"#), "{}", received[1].body);
    assert_eq!(
        (&bought["email"], &bought["items"]),
        (&json!("jane@example.com"), &json!([{"item_id": "s-1", "price": 129.9}]))
    );
    delivering.settled().await;
    assert_eq!(delivering.cursor("reason").await, "");
    assert_ne!(delivering.cursor("last_success_at").await, "");
    let lag =
        "SELECT (h.events - c.events)::text FROM delivery_cursors c JOIN event_heads h USING (source_id)";
    eventually("the count to be exact", async || {
        let lag = delivering.world.database.text(lag).await;
        if lag == "0" { Ok(()) } else { Err(lag) }
    })
    .await;
}

/// One that the stream never takes is listed, and holds up nobody.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_refused_is_given_up_at_once() {
    let delivering = Delivering::start().await;
    delivering.sim.behave(|request| Reaction::Status(if request.body.contains("bad-0") { 400 } else { 202 }));
    let mut browser = delivering.world.browser();
    delivering.send(&mut browser, &["one".to_owned(), "bad-0".to_owned(), "two".to_owned()]).await;
    let large = json!({"type": "track", "event": "x", "messageId": "big", "properties": {"a": "y".repeat(31_000)}, "traits": {"first_name": "z".repeat(500)}});
    assert_accepted(&browser.batch(&json!([large])).await, 1);
    delivering.settled().await;
    assert_eq!(delivering.sim.message_ids(), ["one", "two", "big"]);
    let dead = "SELECT concat_ws(' ', reason, last_status, attempts, dead_at IS NOT NULL, next_at IS NULL) FROM deliveries";
    assert_eq!(delivering.world.database.text(dead).await, "bad_request 400 1 t t");
    assert_eq!(delivering.sim.received().len(), 4, "and is not tried again");
    let body = "position('bad-0'::bytea IN sealed) > 0";
    assert_eq!(delivering.world.database.count("deliveries", body).await, 0, "sealed");
}

/// Refused credentials stop a destination after one request; a new key has it go on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_stop_it_until_they_are_replaced() {
    let delivering = Delivering::start().await;
    delivering.sim.behave(|request| {
        let is_new = request.headers["authorization"] == "Bearer another-key";
        Reaction::Status(if is_new { 202 } else { 401 })
    });
    let mut browser = delivering.world.browser();
    delivering.send(&mut browser, &ids("m", 5)).await;
    eventually("the destination to be paused", async || {
        let reason = delivering.cursor("reason").await;
        if reason == "credentials" { Ok(()) } else { Err(reason) }
    })
    .await;
    delivering.send(&mut browser, &ids("n", 5)).await;
    let mut processor_log = delivering.processors[0].log();
    processor_log.retain(|line| line.contains(INGEST_KEY));
    assert!(processor_log.is_empty(), "{processor_log:?}");
    assert_eq!(delivering.sim.received().len(), 1, "no second request");
    replace_key(&delivering.world, &delivering.sim.base_url(), "another-key").await;
    delivering.sim.wait_for(11).await;
    delivering.settled().await;
    assert_eq!(delivering.sim.message_ids(), [ids("m", 5), ids("n", 5)].concat());
    assert_eq!(delivering.world.database.count("deliveries", "true").await, 0);
}

/// A limit is heeded for as long as is asked, and costs no event a try.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_heeded() {
    let delivering = Delivering::start().await;
    let refused = std::sync::atomic::AtomicUsize::new(0);
    delivering.sim.behave(move |_| {
        let number = refused.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if number < 2 { Reaction::With(429, "Retry-After", "3".to_owned()) } else { Reaction::Status(202) }
    });
    let mut browser = delivering.world.browser();
    delivering.send(&mut browser, &ids("m", 3)).await;
    let received = delivering.sim.wait_for(5).await;
    for pair in received[..3].windows(2) {
        let pause = pair[1].at - pair[0].at;
        assert!(pause >= Duration::from_millis(2900), "{pause:?}");
    }
    delivering.settled().await;
    assert_eq!(delivering.sim.message_ids(), ids("m", 3));
    assert_eq!(delivering.world.database.count("deliveries", "true").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_drops_everything_is_told() {
    let delivering = Delivering::start().await;
    delivering.sim.behave(|_| Reaction::Status(204));
    let mut browser = delivering.world.browser();
    delivering.send(&mut browser, &ids("m", 2)).await;
    delivering.settled().await;
    assert_ne!(delivering.cursor("dropping_at").await, "");
    delivering.sim.behave(|_| Reaction::Status(202));
    delivering.send(&mut browser, &ids("n", 1)).await;
    delivering.settled().await;
    assert_eq!(delivering.cursor("dropping_at").await, "");
}

/// A connection that is cut after the event was taken, an answer that is too large, one that never comes: the event is
/// sent again with the same ID, and no redirect is followed.
#[tokio::test(flavor = "multi_thread")]
async fn odd_answers_are_tried_again_with_the_same_id() {
    let delivering = Delivering::start().await;
    let seen = std::sync::Mutex::new(std::collections::HashSet::<String>::new());
    delivering.sim.behave(move |request| {
        let id = request.json()["message_id"].as_str().unwrap_or_default().to_owned();
        if !seen.lock().unwrap().insert(id.clone()) {
            return Reaction::Status(202);
        }
        match id.as_str() {
            "cut" => Reaction::Cut,
            "huge" => Reaction::Huge(100 * 1024 * 1024),
            "stall" => Reaction::Stall,
            "moved" => Reaction::With(307, "Location", "http://127.0.0.1:9/".to_owned()),
            _ => Reaction::Status(202),
        }
    });
    let odd = ["cut", "huge", "stall", "moved"];
    for id in odd {
        delivering.send(&mut delivering.world.browser(), &[id.to_owned()]).await;
    }
    delivering.send(&mut delivering.world.browser(), &ids("fine", 3)).await;
    delivering.settled().await;
    let received = delivering.sim.received();
    for id in odd {
        let tries: Vec<_> = received.iter().filter(|request| request.json()["message_id"] == id).collect();
        assert_eq!(tries.len(), 2, "{id}");
        assert_eq!(tries[0].body, tries[1].body, "{id}: the same event");
    }
    assert_eq!(delivering.world.database.count("deliveries", "true").await, 0);
}

/// A test key's events are sent nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn test_keys_send_nothing() {
    let delivering = Delivering::start().await;
    let customer = &delivering.world.customer;
    delivering
        .world
        .database
        .execute(&format!(
            "INSERT INTO live_watches (source_id, org_id, until) VALUES ('{}', '{}', now() + interval '10 minutes')",
            customer.source_id, customer.org_id
        ))
        .await;
    let mut browser = delivering.world.browser();
    delivering.send(&mut browser, &ids("live", 1)).await;
    delivering.settled().await;
    browser.key = customer.test_key.clone();
    assert_accepted(&browser.view(&granted()).await, 1);
    delivering.settled().await;
    assert_eq!(delivering.sim.message_ids(), ids("live", 1));
    eventually("the test event to be shown", async || {
        let shown = delivering.world.database.count("live_events", "true").await;
        if shown >= 1 { Ok(()) } else { Err(shown.to_string()) }
    })
    .await;
    let plain = "position('DATAFLY'::bytea IN body) > 0";
    assert_eq!(delivering.world.database.count("live_events", plain).await, 0, "sealed");
}
