//! Accepted means kept: what is answered 200 of a source with a destination is in the log.

use diesel_async::SimpleAsyncConnection;
use futures_util::future::join_all;
use harness::{
    answers::assert_accepted,
    browser::Browser,
    eventually,
    people::{self, People},
    signature::sign,
    visits::granted,
    world::{Options, World},
};
use migrations::diesel_async;
use proto::event::Envelope;
use reqwest::Method;
use serde_json::{Value, json};

fn event(name: &str, message_id: &str) -> Value {
    json!({"type": "track", "event": name, "messageId": message_id, "properties": {"value": 1.10}})
}

fn names(events: &[Envelope]) -> Vec<String> {
    let name = |event: &Envelope| {
        let json: Value = serde_json::from_slice(&event.json).unwrap();
        json["event"].as_str().unwrap_or_default().to_owned()
    };
    events.iter().map(name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_destination_nothing_is_kept() {
    let world = World::start().await;
    let mut browser = world.browser();
    let answer = browser.view(&granted()).await;
    assert_accepted(&answer, 1);
    assert_eq!(world.database.count("events", "true").await, 0);
    assert_eq!(world.database.count("event_heads", "true").await, 0);
}

/// Of three events one is invalid: two are accepted, and kept as they came, with what was known on arrival.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_accepted_is_kept_as_it_came_and_sealed() {
    let world = World::with(Options { trusted_proxies: "127.0.0.0/8", ..Options::default() }).await;
    world.keep_events().await;
    let mut browser = world.browser();
    browser.user_agent = Some("Canary-Agent/1.0".to_owned());
    browser.address = Some("203.0.113.77".to_owned());
    let raw = r#"{"type":"track","event":"purchase","messageId":"m1","properties":{"value":129.90,"big":9007199254740993,"email":"canary@example.com"}}"#;
    let body = format!(
        r#"{{"batch":[{raw},{{"type":"track","event":"a\u0000b"}},{}],"context":{{"page":{{"title":"Canary"}}}}}}"#,
        event("second", "m2")
    );
    let answer = browser.post("/v1/batch", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = answer.json();
    assert_eq!((&told["accepted"], &told["errors"][0]["index"]), (&json!(2), &json!(1)), "{told}");

    let kept = world.kept(&browser).await;
    assert_eq!(names(&kept), ["purchase", "second"]);
    let [first, second] = kept.try_into().unwrap();
    assert_eq!(std::str::from_utf8(&first.json).unwrap(), raw, "to the letter");
    assert_eq!(first.batch_context, br#"{"page":{"title":"Canary"}}"#);
    assert_eq!((first.client_ip.as_str(), first.user_agent.as_str()), ("203.0.113.77", "Canary-Agent/1.0"));
    assert_eq!((first.schema, first.test, first.signed), (1, false, false));
    assert_eq!(first.source_id, world.customer.source_id.to_string());
    assert_ne!(first.event_id, second.event_id);
    let person = People::of(&world).canonical(people::browser(first.anonymous_id.clone())).await;
    assert_eq!(first.canonical_id, person);
    // A store that is read by somebody else tells nothing.
    for canary in ["canary@example.com", "203.0.113.77", "Canary"] {
        let found = format!("position('{canary}'::bytea IN body) > 0");
        assert_eq!(world.database.count("events", &found).await, 0, "{canary}");
    }
    let head =
        "SELECT concat_ws(' ', events >= 2, bytes > 0, seq = (SELECT max(seq) FROM events)) FROM event_heads";
    assert_eq!(world.database.text(head).await, "t t t");
}

/// The same message of one browser counts once, at once or later; of another browser it is another's.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_message_is_kept_once_a_visitor() {
    let world = World::with(Options { cores: 2, ..Options::default() }).await;
    world.keep_events().await;
    let mut browser = world.browser();
    assert_accepted(&browser.view(&granted()).await, 1);
    let batch = json!({"batch": [event("purchase", "m1"), event("purchase", "m1")]}).to_string();
    let sends = (0..5).map(|_| {
        let (mut own, batch) = (browser.clone(), batch.clone());
        async move { own.post("/v1/batch", batch).await }
    });
    for answer in join_all(sends).await {
        assert_accepted(&answer, 2);
    }
    assert_accepted(&browser.post("/v1/batch", batch.clone()).await, 2);
    let purchases = |events: &[Envelope]| names(events).iter().filter(|name| *name == "purchase").count();
    assert_eq!(purchases(&world.kept(&browser).await), 1);
    let mut other = world.browser();
    assert_accepted(&other.post("/v1/batch", batch).await, 2);
    assert_eq!(purchases(&world.kept(&other).await), 1, "another's own");
}

/// While the log can't be written, events are refused for now and identity is resolved, the cookie set; the same batch is
/// taken when the log is back, once and for the same person.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_away_refuses_events_and_loses_nobody() {
    let world = World::start().await;
    world.keep_events().await;
    let mut browser = world.browser();
    let batch = json!({"batch": [event("one", "m1"), event("two", "m2")]}).to_string();
    let mut held = world.database.connection().await.unwrap();
    held.batch_execute("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE").await.unwrap();
    for _ in 0..3 {
        let answer = browser.post("/v1/batch", batch.clone()).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "UNAVAILABLE"), "{}", answer.text());
        assert_eq!(answer.header("retry-after"), Some("2"));
        assert!(answer.header("access-control-allow-origin").is_some(), "the page can read it");
        let single = browser.post("/v1/t", event("single", "m3").to_string()).await;
        assert_eq!(single.status, 503);
    }
    let id = browser.jar.value(&browser.collect, "_dfid").map(str::to_owned);
    assert!(id.is_some(), "the cookie is set all the same");
    held.batch_execute("COMMIT").await.unwrap();
    eventually("the log to be tried again", async || {
        let answer = browser.post("/v1/batch", batch.clone()).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    assert_eq!(browser.jar.value(&browser.collect, "_dfid").map(str::to_owned), id);
    let mut kept = names(&world.kept(&browser).await);
    kept.retain(|name| name != "single");
    assert_eq!(kept, ["one", "two"]);
    let own = format!("value = '{}'", id.unwrap());
    assert_eq!(world.database.count("links", &own).await, 1, "one person");
}

/// A source of which too much waits is refused; others are not, and it is taken again when its destination has caught up.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_destination_is_too_far_behind_is_refused_alone() {
    let mut world = World::start().await;
    let other = world.another_customer("explicit").await;
    let core = &mut world.cluster.cores[0];
    core.terminate().await;
    core.restart_with(&[("EVENT_LOG_SOURCE_BYTES", "20000")]).await.unwrap();
    world.keep_events().await;
    world.keep_events_of(&other).await;
    let (mut browser, mut neighbour) = (world.browser(), world.browser_of(&other));
    let padding = "x".repeat(30_000);
    let large = json!({"type": "track", "event": "large", "properties": {"padding": padding}});
    assert_accepted(&browser.batch(&json!([large])).await, 1);
    eventually("the source to be full", async || {
        let answer = browser.view(&granted()).await;
        if answer.status == 503 && answer.code() == "OVERLOADED" { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    assert_accepted(&neighbour.view(&granted()).await, 1);
    world.database.execute("UPDATE delivery_cursors own SET bytes = head.bytes FROM event_heads head WHERE head.source_id = own.source_id").await;
    eventually("it to be taken again", async || {
        let answer = browser.view(&granted()).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
}

/// Who is erased has no event left, in the log or wherever one waits.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_takes_events_along() {
    let world = World::start().await;
    world.keep_events().await;
    let (mut browser, mut other) = (world.browser(), world.browser());
    for own in [&mut browser, &mut other] {
        assert_accepted(&own.batch(&json!([event("one", "m1"), event("two", "m2")])).await, 2);
    }
    assert_eq!(world.kept(&browser).await.len(), 2);
    let id = browser.jar.value(&browser.collect, "_dfid").unwrap().to_owned();
    People::of(&world).delete(0, people::browser(id)).await.unwrap();
    assert_eq!(world.kept(&browser).await.len(), 0);
    assert_eq!(world.kept(&other).await.len(), 2);
}

/// A signed call brings no address and no browser of its own; a test key's events are marked and its sibling's.
#[tokio::test(flavor = "multi_thread")]
async fn servers_and_test_keys_are_told_apart() {
    let world = World::start().await;
    world.keep_events().await;
    let body = json!({"batch": [{"type": "track", "event": "signed", "userId": "u1", "messageId": "s1"}]});
    let mut server = world.browser();
    server.origin = None;
    let signature = sign(&world.customer.server_secret, &body.to_string());
    let request = server.request(Method::POST, "/v1/batch").bearer_auth(&server.key);
    let answer = server.send(request.header("x-datafly-signature", signature).body(body.to_string())).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let all = harness::delivery::envelopes(&world.database, &world.cluster.secrets.encryption_key).await;
    let signed: Vec<&Envelope> = all.iter().filter(|event| event.signed).collect();
    assert_eq!(signed.len(), 1);
    assert_eq!(
        (signed[0].client_ip.as_str(), signed[0].user_agent.as_str(), signed[0].anonymous_id.as_str()),
        ("", "", "")
    );
    let mut tester =
        Browser::new(&world.cluster.collect_url(), &world.customer.test_key, &world.customer.origin);
    assert_accepted(&tester.view(&granted()).await, 1);
    let kept = world.kept(&tester).await;
    assert_eq!((kept.len(), kept[0].test), (1, true));
    assert_ne!(kept[0].org_id, world.customer.org_id.to_string());
}

/// The context of a batch is kept with each of its events, and so is bounded by their number.
#[tokio::test(flavor = "multi_thread")]
async fn a_context_is_not_multiplied_without_bound() {
    let world = World::start().await;
    world.keep_events().await;
    let mut browser = world.browser();
    for (events, status, kept) in [(100, 413, 0), (50, 200, 50)] {
        let event = json!({"type": "track", "event": "small"});
        let batch = json!({"batch": vec![event; events], "context": {"large": "x".repeat(30_000)}});
        let answer = browser.post("/v1/batch", batch.to_string()).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(world.kept(&browser).await.len(), kept);
    }
}
