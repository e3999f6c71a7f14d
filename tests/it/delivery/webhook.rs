//! A customer's own endpoint: any other destination is a record and two pure functions.

use base64::{Engine, engine::general_purpose::STANDARD};
use harness::{
    control::Control,
    delivery::start_processor,
    delivery_sim::{DeliverySim, Reaction, Received},
    eventually,
    shop::Shop,
    visits::denied,
    world::Options,
};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Signatures that a receiver expects, by the specification of Standard Webhooks.
fn signature(request: &Received, secret: &str) -> String {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    let (id, at) = (&request.headers["webhook-id"], &request.headers["webhook-timestamp"]);
    mac.update(format!("{id}.{at}.{}", request.body).as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_arrives_signed_with_all_that_is_known_whatever_others_do() {
    let options = Options { open_networks: "127.0.0.0/8", generated: &["meta"], ..Options::default() };
    let control = Control::with(1, options).await;
    let (hook, amperity) = (DeliverySim::start().await.unwrap(), DeliverySim::start().await.unwrap());
    amperity.behave(|_| Reaction::Status(503));
    let owner = &control.owner;
    let shop = Shop::open(&control.world, owner).await;
    let tenant = json!({"tenant_subdomain": "acme", "tenant_id": "acme", "event_stream_id": "esm-x1",
        "source_value": "SHOP", "api_key": "key-1", "base_url": amperity.base_url()});
    owner.put(&format!("{}/profile-providers/amperity", shop.source), &tenant).await.expect(201);
    owner.put(&format!("{}/destinations/amperity", shop.source), &json!({})).await.expect(201);
    let path = format!("{}/destinations/webhook", shop.source);
    for (body, field) in [
        (json!({}), "url"),
        (json!({"url": "https://10.0.0.1/hook"}), "url"),
        (json!({"url": "https://hooks.internal/x"}), "url"),
        (json!({"url": hook.base_url(), "secret": "whsec_short"}), "secret"),
        (json!({"url": hook.base_url(), "match_keys": ["nobody"]}), "match_keys[0]"),
        (json!({"url": hook.base_url(), "preset": "retail"}), "preset"),
        (
            json!({"url": hook.base_url(), "mappings": [{"source": "properties.id", "target": "canonical_id"}]}),
            "mappings[0].target",
        ),
    ] {
        let refused = owner.put(&path, &body).await;
        refused.refused(422, "VALIDATION_FAILED");
        assert_eq!(refused.fields(), [field], "{body}");
    }
    let settings = json!({"url": format!("{}/hook", hook.base_url()), "match_keys": ["meta", "google"],
        "mappings": [{"source": "properties.order_id", "target": "order"}]});
    let made = owner.put(&path, &settings).await.expect(201);
    let secret = made["signing_secret"].as_str().unwrap().to_owned();
    assert_eq!(made["secret"], json!({"configured": true}));
    let read = owner.get(&path).await.expect(200);
    assert!(read["signing_secret"].is_null() && !read.to_string().contains(&secret), "{read}");

    let key = shop.issue(&control.world, owner, "live").await;
    let mut browser = shop.browser(&control.world, &key);
    let _processor = start_processor(&control.world, &[]).await;
    let send = async |browser: &mut harness::browser::Browser, id: &str, consent: &Value| {
        let event = json!({"type": "track", "event": "purchase", "messageId": id, "properties": {"order_id": id},
            "anonymousId": browser.anonymous_id, "traits": {"email": " Jane@Example.com "},
            "context": {"consent": consent, "page": {"url": "https://boutique.example.com/"}}});
        let answer = browser.batch(&json!([event])).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    send(&mut browser, "m-1", &json!({"marketing": true})).await;
    let request = hook.wait_for(1).await.remove(0);
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/hook"));
    assert_eq!(request.headers["webhook-id"], "m-1");
    assert_eq!(request.headers["webhook-signature"], signature(&request, &secret));
    let body = request.json();
    assert_eq!((&body["event"]["messageId"], &body["order"]), (&json!("m-1"), &json!("m-1")));
    assert_eq!(body["anonymous_id"], json!(browser.anonymous_id));
    let fbp = browser.jar.value(&browser.collect, "_fbp").unwrap();
    assert_eq!(body["vendor_ids"]["fbp"], fbp);
    let keys = &body["match_keys"]["meta"];
    let email = hex::encode(Sha256::digest("jane@example.com"));
    assert_eq!((&keys["user_data.fbp"], &keys["user_data.em"]), (&json!(fbp), &json!(email)));
    assert_eq!(body["consent"], json!({"marketing": true}));

    // Where it is denied there are no match keys, and the event arrives all the same.
    send(&mut browser, "m-2", &denied()).await;
    let second = hook.wait_for(2).await.remove(1).json();
    assert_eq!(second["match_keys"], json!({"meta": {}, "google": {}}));
    // What a vendor needs beside is asked for its contacts as well.
    let no_user_data =
        json!({"marketing": true, "google": {"ad_storage": "granted", "ad_user_data": "denied"}});
    send(&mut browser, "m-3", &no_user_data).await;
    let third = hook.wait_for(3).await.remove(2).json();
    assert_eq!(third["match_keys"]["google"], json!({}));
    assert_eq!(third["match_keys"]["meta"]["user_data.em"], json!(email));
    eventually("Amperity to be down", async || {
        let status = owner.get(&format!("{}/destinations/amperity/status", shop.source)).await.expect(200);
        if status["state"] == "down" { Ok(()) } else { Err(status.to_string()) }
    })
    .await;

    // While a secret is rotated both sign.
    let other = format!("whsec_{}", STANDARD.encode([9; 32]));
    owner.put(&path, &json!({"secret": other})).await.expect(200);
    let both = eventually("both to sign", async || {
        send(&mut browser, &format!("r-{}", uuid::Uuid::new_v4()), &json!({"marketing": true})).await;
        let last = hook.received().pop().unwrap();
        let signatures = last.headers["webhook-signature"].clone();
        if signatures.contains(' ') { Ok(last) } else { Err(signatures) }
    })
    .await;
    let signatures = format!("{} {}", signature(&both, &other), signature(&both, &secret));
    assert_eq!(both.headers["webhook-signature"], signatures);
    owner.put(&path, &json!({"previous_secret": null})).await.expect(200);
    eventually("the new one alone to sign", async || {
        send(&mut browser, &format!("s-{}", uuid::Uuid::new_v4()), &json!({"marketing": true})).await;
        let last = hook.received().pop().unwrap();
        if last.headers["webhook-signature"] == signature(&last, &other) {
            Ok(())
        } else {
            Err(String::new())
        }
    })
    .await;
    // It is bound to where it was given for.
    let elsewhere = owner.put(&path, &json!({"url": "https://hooks.example.com/x"})).await;
    elsewhere.refused(422, "CREDENTIAL_NOT_FOR_HOST");
    hook.behave(|_| Reaction::Status(410));
    send(&mut browser, "gone", &json!({"marketing": true})).await;
    eventually("the endpoint to be gone", async || {
        let status = owner.get(&format!("{path}/status")).await.expect(200);
        if status["reason"] == "gone" { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}
