//! Consent objects as platforms send them: what is mapped, what is not understood, and what a browser alone can take
//! back.

use harness::{
    answers::assert_accepted,
    browser::Browser,
    eventually,
    signature::sign,
    visits::granted,
    world::{Options, World},
};
use proto::v1::{Caller, ExplainRequest, IdentityRef, VendorSyncStatus, caller::Kind, identity_ref::Id};
use reqwest::Method;
use serde_json::{Value, json};

/// Warnings of the answer to a page view with this consent object: index and code.
async fn view(browser: &mut Browser, consent: &Value) -> (Vec<String>, Vec<(u64, String)>) {
    let answer = browser.view(consent).await;
    assert_accepted(&answer, 1);
    let body = answer.json();
    let warnings = body["warnings"].as_array().cloned().unwrap_or_default();
    let told = |warning: &Value| {
        (warning["index"].as_u64().unwrap(), warning["code"].as_str().unwrap_or_default().to_owned())
    };
    (answer.offered(), warnings.iter().map(told).collect())
}

/// What an engineer is told of the browser's consent: unknown names, and Pinterest's status.
async fn explained(world: &World, browser: &Browser) -> (Vec<String>, VendorSyncStatus) {
    let id = Id::AnonymousId(browser.aid().to_owned());
    let request = ExplainRequest {
        caller: Some(Caller { kind: Some(Kind::OrgId(world.customer.org_id.to_string())) }),
        identity: Some(IdentityRef { id: Some(id), browser: None }),
        pipeline_id: Some(world.customer.pipeline_id.to_string()),
    };
    let explained = world.internal().sync().explain(request).await.unwrap().into_inner();
    let own = explained.vendors.iter().find(|own| own.vendor == "pinterest").unwrap();
    (explained.consent_not_understood.clone(), own.status())
}

#[tokio::test]
async fn an_object_that_is_not_understood_denies_and_says_so() {
    let world = World::with(Options { consent_mode: "implicit", ..Options::default() }).await;
    for (consent, names) in [
        (json!({"categories": {"C0002": true, "C0004": true}}), vec!["C0002", "C0004"]),
        (json!({"categoryPreferences": {"Advertising": false}}), vec!["Advertising"]),
        (json!({"cmp": {"choice": "all"}}), vec!["cmp"]),
    ] {
        let mut browser = world.browser();
        let (offered, warnings) = view(&mut browser, &consent).await;
        assert_eq!(offered, [""; 0], "{consent}");
        assert_eq!(warnings, [(0, "CONSENT_NOT_UNDERSTOOD".to_owned())], "{consent}");
        let (told, status) = explained(&world, &browser).await;
        assert_eq!(
            (told, status),
            (names.iter().map(|n| (*n).to_owned()).collect(), VendorSyncStatus::Consent)
        );
    }
    assert_eq!(world.metric("datafly_consent_not_understood_total", &[]).await, 3.0);
    // Told of the event that brings it, not of those that go with it.
    let mut browser = world.browser();
    let events = [Value::Null, json!({"cmp": "all"}), Value::Null].map(|consent| browser.page_view(&consent));
    let answer = browser.batch(&json!(events)).await;
    assert_accepted(&answer, 3);
    let told: Vec<Value> = answer.json()["warnings"].as_array().unwrap().clone();
    assert_eq!((told.len(), &told[0]["index"]), (1, &json!(1)), "{told:?}");
    // Nothing said, and what is only empty, is silence.
    for silent in [json!({}), json!({"marketing": null, "categories": [], "tcf": ""}), Value::Null] {
        let mut browser = world.browser();
        assert_eq!(view(&mut browser, &silent).await, (vec!["pinterest".to_owned()], vec![]), "{silent}");
    }
}

#[tokio::test]
async fn codes_count_as_the_pipeline_maps_them() {
    let world = World::start().await;
    let mapping = r#"{"preset": "onetrust", "codes": {"Ads": "marketing"}}"#;
    let sql = format!(
        "UPDATE pipelines SET consent_mapping = '{mapping}' WHERE id = '{}'",
        world.customer.pipeline_id
    );
    world.database.execute(&sql).await;
    eventually("the mapping to count", async || {
        let mut browser = world.browser();
        let (offered, _) = view(&mut browser, &json!({"categories": {"C0004": true}})).await;
        if offered == ["pinterest"] { Ok(()) } else { Err("not offered".to_owned()) }
    })
    .await;
    for (consent, is_offered) in [
        (json!({"categories": {"c0004": true, "C0005": true, "C0002": false}}), true),
        (json!({"categories": {"C0004": true, "C0005": false}}), false),
        (json!({"categories": {"ADS": true}}), true),
        (json!({"categoryPreferences": {"advertising": true}}), true),
        (json!({"categories": {"C0002": true}}), false),
        (json!({"marketing": true, "categories": {"C0004": false}}), false),
    ] {
        let mut browser = world.browser();
        let (offered, warnings) = view(&mut browser, &consent).await;
        assert_eq!((offered.len(), warnings.len()), (usize::from(is_offered), 0), "{consent}");
    }
}

#[tokio::test]
async fn a_stored_gpc_ends_with_the_browser_s_own_word_alone() {
    let world = World::start().await;
    let mut browser = world.browser();
    let body = json!({"batch": [browser.page_view(&granted())]}).to_string();
    let request = browser.request(Method::POST, "/v1/batch").bearer_auth(&browser.key).header("sec-gpc", "1");
    assert_accepted(&browser.send(request.body(body.clone())).await, 1);
    let stored = async || {
        world.vendor_ids(browser.aid()).await.consent.map(|consent| consent.sec_gpc).unwrap_or_default()
    };
    assert!(stored().await);

    // A server can't carry the header, and says what is stored.
    let signature = sign(&world.customer.server_secret, &body);
    let request = world.browser().request(Method::POST, "/v1/batch").bearer_auth(&browser.key);
    assert_accepted(
        &world.browser().send(request.header("x-datafly-signature", signature).body(body)).await,
        1,
    );
    assert!(stored().await, "a signed call takes nothing back");
    let mut page = browser.clone();
    // The same object says nothing new; one that denies is no reason to share more; none at all changes nothing.
    for consent in [granted(), json!({"marketing": false}), json!({"functional": true}), Value::Null] {
        let (offered, _) = view(&mut page, &consent).await;
        assert_eq!((offered.len(), stored().await), (0, true), "{consent}");
    }
    assert_eq!(view(&mut page, &json!({"marketing": true, "analytics": false})).await.0, ["pinterest"]);
    assert!(!stored().await, "the visitor has decided anew");
    // A script that reads the browser's property says the same as the header.
    view(&mut page, &json!({"marketing": true, "gpc": true})).await;
    assert!(stored().await);
}

#[tokio::test]
async fn what_is_pending_or_unreadable_purges_nothing() {
    let options = Options { purge_on_withdrawal: true, generated: &["google"], ..Options::default() };
    let world = World::with(options).await;
    let mut browser = world.browser();
    let mut event = browser.page_view(&granted());
    event["context"]["page"]["url"] = json!("https://shop.example.com/?gclid=1");
    assert_accepted(&browser.batch(&json!([event])).await, 1);
    let aid = browser.aid().to_owned();
    let gclid = async || world.vendor_id(&aid, "gclid").await;
    assert_eq!(gclid().await.as_deref(), Some("1"));
    for consent in [
        json!({"marketing": true, "tcf": "CPXxRfAPXxRfAAfKABENB"}),
        json!({"marketing": true, "gpp": "DBABMA", "gpp_sid": [0]}),
        json!({"marketing": "false"}),
        json!({"unknown": {"ads": false}}),
        json!({"google": {"ad_storage": "pending"}}),
        json!({}),
    ] {
        view(&mut browser, &consent).await;
        assert_eq!(gclid().await.as_deref(), Some("1"), "{consent}");
    }
    // Google's own word on user data takes what is Google's advertising's.
    view(&mut browser, &json!({"marketing": true, "google": {"ad_user_data": "denied"}})).await;
    assert_eq!(gclid().await, None);
}

#[tokio::test]
async fn google_s_user_data_denies_google_s_click_ids_alone() {
    let world =
        World::with(Options { generated: &["google", "meta"], vendors: &[], ..Options::default() }).await;
    let mut browser = world.browser();
    let google = json!({"ad_storage": "granted", "analytics_storage": "granted", "ad_user_data": "denied"});
    let mut event = browser.page_view(&json!({"google": google}));
    event["context"]["page"]["url"] = json!("https://shop.example.com/?gclid=1&wbraid=2&dclid=3&fbclid=4");
    assert_accepted(&browser.batch(&json!([event])).await, 1);
    let mut fields: Vec<String> = world.vendor_ids(browser.aid()).await.vendor_ids.into_keys().collect();
    fields.sort();
    assert_eq!(fields, ["client_id", "fbc", "fbclid", "fbp"]);
}

#[tokio::test]
async fn an_object_that_is_too_large_denies_and_costs_no_event() {
    let world = World::with(Options { consent_mode: "implicit", ..Options::default() }).await;
    let mut browser = world.browser();
    let large = json!({"marketing": true, "note": "x".repeat(9000)});
    let (offered, warnings) = view(&mut browser, &large).await;
    assert_eq!(offered, [""; 0]);
    assert!(warnings.iter().any(|(_, code)| code == "CONSENT_NOT_UNDERSTOOD"), "{warnings:?}");
    assert!(!world.vendor_ids(browser.aid()).await.canonical_id.is_empty());
}
