//! No consent, no sync: at the offer, at the redirect and at the callback.

use harness::{
    answers::{assert_accepted, assert_gif},
    visits::{denied, granted},
    world::{Options, World},
};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn in_explicit_mode_silence_and_anything_but_true_deny() {
    let world = World::start().await;
    let signals = [
        Value::Null,
        json!({}),
        json!({"analytics": true}),
        json!({"marketing": false}),
        json!({"marketing": "true"}),
        json!({"marketing": 1}),
        json!({"marketing": null}),
        json!({"marketing": [true]}),
        json!({"marketing": true, "us_privacy": "1YYN"}),
        json!({"marketing": true, "google": {"ad_storage": "denied"}}),
        json!({"marketing": true, "categories": {"marketing": false}}),
    ];
    for consent in signals {
        let mut browser = world.browser();
        let answer = browser.view(&consent).await;
        assert_accepted(&answer, 1);
        assert_eq!(answer.offered(), [""; 0], "{consent}");
        let direct = browser.get(&browser.sync_url("pinterest")).await;
        assert_eq!((direct.status, direct.body.len()), (204, 0), "{consent}: {}", direct.text());
    }
    assert_eq!(world.vendors.seen().len(), 0, "no browser was sent to a vendor");
    assert_eq!(world.metric("datafly_sync_attempted_total", &[]).await, 0.0);
    assert_eq!(world.database.count("sync_attempts", "true").await, 0);
}

#[tokio::test]
async fn in_implicit_mode_silence_grants_and_a_denial_denies() {
    let world = World::with(Options { consent_mode: "implicit", ..Options::default() }).await;
    for (consent, offers) in [
        (Value::Null, 1),
        (json!({"analytics": false}), 1),
        (denied(), 0),
        (json!({"us_privacy": "1YYN"}), 0),
    ] {
        let mut browser = world.browser();
        assert_eq!(browser.view(&consent).await.offered().len(), offers, "{consent}");
        let redirect = browser.get(&browser.sync_url("pinterest")).await;
        assert_eq!(redirect.status, if offers == 1 { 302 } else { 204 }, "{consent}");
    }
}

#[tokio::test]
async fn global_privacy_control_denies_whatever_the_page_says() {
    let world = World::start().await;
    let mut browser = world.browser();
    let body = json!({"batch": [browser.page_view(&granted())]}).to_string();
    let request = browser.request(Method::POST, "/v1/batch").bearer_auth(&browser.key);
    let answer = browser.send(request.header("sec-gpc", "1").body(body)).await;
    assert_accepted(&answer, 1);
    assert_eq!(answer.offered(), [""; 0]);

    let mut other = world.browser();
    assert_eq!(other.view(&granted()).await.offered(), ["pinterest"]);
    let url = other.sync_url("pinterest").replace(&other.collect, "");
    let request = other.request(Method::GET, &url).header("sec-gpc", "1");
    assert_eq!(other.send(request).await.status, 204, "the signal came with the image");
}

#[tokio::test]
async fn consent_is_remembered_until_an_event_says_otherwise() {
    let world = World::start().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    world.age("1 hour").await;
    assert_eq!(browser.view(&Value::Null).await.offered(), ["pinterest"], "granted an hour ago");
    world.age("1 hour").await;
    assert_eq!(browser.view(&denied()).await.offered(), [""; 0], "withdrawn now");
    world.age("1 hour").await;
    assert_eq!(browser.view(&Value::Null).await.offered(), [""; 0], "withdrawn an hour ago");
    assert_eq!(browser.view(&granted()).await.offered(), ["pinterest"], "granted again");

    let stored = world.vendor_ids(browser.aid()).await.consent.and_then(|consent| consent.json);
    assert_eq!(stored, Some(granted().to_string()), "verbatim, the newest");
}

#[tokio::test]
async fn consent_withdrawn_on_the_way_stores_nothing() {
    let world = World::start().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    let callback = browser.sync_to_vendor("pinterest").await;
    assert_accepted(&browser.view(&denied()).await, 1);

    assert_gif(&browser.get(callback.as_str()).await);
    assert_eq!(world.vendor_id(browser.aid(), "pin_unauth").await, None);
    assert_eq!(world.database.count("vendor_ids", "true").await, 0);
    assert_eq!(world.sync_failures("pinterest", "consent").await, 1.0);
    assert_eq!(world.metric("datafly_sync_succeeded_total", &[]).await, 0.0);
}

#[tokio::test]
async fn what_was_stored_under_consent_stays_until_it_expires() {
    let world = World::start().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    browser.sync("pinterest").await;
    browser.view(&denied()).await;
    assert!(world.vendor_id(browser.aid(), "pin_unauth").await.is_some());
    world.age("91 days").await;
    assert_eq!(browser.view(&Value::Null).await.offered(), [""; 0], "expired, and consent stays withdrawn");
}
