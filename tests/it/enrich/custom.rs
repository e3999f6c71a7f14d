//! Providers of the customer's own, as the specification writes them.

use std::time::{Duration, Instant};

use harness::{
    enrich_sim::{CREDENTIAL, Fault},
    providers::{Enriching, assert_skipped},
    world::Options,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

#[tokio::test]
async fn the_specification_s_example_is_asked_and_its_value_kept() {
    let own = Enriching::with(Options::default(), &[]).await;
    own.add_custom("internal_cdp", &json!({"timeout": "2s"})).await;
    own.settle().await;
    let mut browser = own.visitor_with("Jane@Example.com").await;
    let answer = own.enrich(&mut browser, "internal_cdp").await;
    // The browser only claims the email, and the number is a customer's.
    assert_skipped(&answer, "unverified");
    let digest = hex::encode(Sha256::digest("jane@example.com"));
    let calls = own.sim.seen("internal_cdp");
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].header("authorization"), format!("Bearer internal_cdp-{CREDENTIAL}"));
    assert_eq!(calls[0].json(), json!({"anonymous_id": browser.aid(), "email_hash": digest}));
    let value = own.world.vendor_id(browser.aid(), "cdp_customer_id").await.unwrap();
    assert_eq!(value, format!("cdp-{}", &digest[..12]));
    let days = "SELECT extract(day FROM expires_at - collected_at)::text FROM vendor_ids WHERE field = 'cdp_customer_id'";
    assert_eq!(own.world.database.text(days).await, "30");
}

#[tokio::test]
async fn templates_take_the_event_at_hand_and_no_value_leaves_its_place() {
    let own = Enriching::with(Options::default(), &[]).await;
    let template = json!({
        "a": "{{properties.order}}", "b": {"c": ["x-{{traits.plan}}", "{{context.page.title}}"]}, "n": 1,
        "none": "{{properties.absent}}", "agent": "{{user_agent}}", "id": "{{anonymous_id}}",
    });
    own.add_custom("cdp", &json!({"request_template": template, "authentication": {"type": "none"}})).await;
    own.add_custom("by_path", &json!({
        "method": "GET", "endpoint": format!("{}/v1/{{{{properties.order}}}}/x?q={{{{traits.plan}}}}", own.sim.base_url("by_path")),
        "request_template": {"extra": "{{anonymous_id}}"}, "response_mapping": {"redis_field": "other", "json_path": "$.id"},
    }))
    .await;
    own.settle().await;
    own.sim.misbehave("cdp", Some(Fault::Says(json!({"customer_id": 42}))));
    own.sim.misbehave("by_path", Some(Fault::Says(json!({"id": "7"}))));
    let mut browser = own.visitor().await;
    browser.user_agent = Some("Test/1".to_owned());
    let (order, plan) = ("\"}, {{user_id}}\n../..", "a&b=c#d e");
    let event = json!({"properties": {"order": order}, "traits": {"plan": plan}, "context": {"page": {"title": true}}});
    for vendor in ["cdp", "by_path"] {
        let body = json!({"vendor": vendor, "anonymous_id": browser.aid(), "event": event});
        let answer = browser.post("/v1/enrich", body.to_string()).await.json();
        own.id_of(&answer);
    }
    let sent = own.sim.seen("cdp")[0].json();
    let expected = json!({"a": order, "b": {"c": [format!("x-{plan}"), "true"]}, "n": 1, "agent": "Test/1",
        "id": browser.aid()});
    assert_eq!(sent, expected);
    let target = own.sim.seen("by_path")[0].target.clone();
    let encoded = "%22%7D%2C%20%7B%7Buser_id%7D%7D%0A..%2F..";
    assert_eq!(target, format!("/v1/{encoded}/x?q=a%26b%3Dc%23d%20e&extra={}", browser.aid()));
    // Without an order there is no such path.
    let mut other = own.visitor().await;
    assert_skipped(&own.enrich(&mut other, "by_path").await, "no_input");
}

#[tokio::test]
async fn headers_and_basic_authentication_and_a_timeout_of_its_own() {
    let own = Enriching::with(Options::default(), &[]).await;
    let header =
        json!({"type": "header", "header": "X-Api-Key", "token_secret_ref": "secret:by_header_token"});
    let basic = json!({"type": "basic", "username": "me", "token_secret_ref": "secret:by_basic_token"});
    own.add_custom("by_header", &json!({"authentication": header, "timeout": "300ms"})).await;
    let mapping = json!({"redis_field": "other", "json_path": "$.customer_id"});
    own.add_custom("by_basic", &json!({"authentication": basic, "response_mapping": mapping})).await;
    own.settle().await;
    let mut browser = own.visitor().await;
    for provider in ["by_header", "by_basic"] {
        own.sim.misbehave(provider, Some(Fault::Says(json!({"customer_id": "c"}))));
        let answer = own.enrich(&mut browser, provider).await;
        assert_eq!(own.id_of(&answer), "c");
    }
    assert_eq!(own.sim.seen("by_header")[0].header("x-api-key"), format!("by_header-{CREDENTIAL}"));
    use base64::{Engine, engine::general_purpose::STANDARD};
    let pair = STANDARD.encode(format!("me:by_basic-{CREDENTIAL}"));
    assert_eq!(own.sim.seen("by_basic")[0].header("authorization"), format!("Basic {pair}"));

    own.sim.misbehave("by_header", Some(Fault::Hang));
    let began = Instant::now();
    let mut browser = own.visitor().await;
    assert_skipped(&own.enrich(&mut browser, "by_header").await, "timeout");
    assert!(began.elapsed() >= Duration::from_millis(250));
}

#[tokio::test]
async fn a_host_that_is_not_open_is_not_called_nor_is_one_that_the_secret_is_not_for() {
    let own = Enriching::with(Options::default(), &[]).await;
    let port = own.sim.addr.port();
    let endpoints = [
        ("at_v6", format!("http://[::1]:{port}/v1/resolve"), "not_allowed"),
        ("at_metadata", "http://169.254.169.254/latest".to_owned(), "not_allowed"),
        ("at_private", format!("http://10.0.0.1:{port}/"), "not_allowed"),
        ("elsewhere", format!("http://127.0.0.2:{port}/v1/resolve"), "credentials"),
    ];
    for (name, endpoint, _) in &endpoints {
        let mapping = json!({"redis_field": format!("field_{name}"), "json_path": "$.x"});
        own.add_custom(name, &json!({"endpoint": endpoint, "response_mapping": mapping})).await;
    }
    own.settle().await;
    let mut browser = own.visitor().await;
    for (name, _, reason) in &endpoints {
        assert_skipped(&own.enrich(&mut browser, name).await, reason);
    }
    let seen: Vec<Value> = Vec::new();
    assert_eq!(own.sim.seen("v1").len(), seen.len());
}
