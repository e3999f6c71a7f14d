//! The five built-in vendors by their defaults: what each is asked, and where its ID then is.

use harness::{
    enrich_sim::{CREDENTIAL, Fault},
    eventually, people,
    providers::{Enriching, VENDORS, assert_skipped},
};
use identity_service::vendors::find_enrichment;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const EMAIL: &str = "Jane.Doe@Example.com";

fn digest() -> String {
    hex::encode(Sha256::digest("jane.doe@example.com"))
}

/// Days between two times of a vendor ID as Redis has it.
fn days(entry: &Value) -> i64 {
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};
    let at = |name: &str| OffsetDateTime::parse(entry[name].as_str().unwrap(), &Rfc3339).unwrap();
    (at("expires_at") - at("collected_at")).whole_hours() / 24
}

#[tokio::test]
async fn each_vendor_is_asked_as_the_specification_says_and_its_id_is_everywhere_at_once() {
    let own = Enriching::start().await;
    let mut browser = own.visitor_with(EMAIL).await;
    let expected = [
        ("acxiom_realid", "POST", "/", json!({"email_sha256": digest()}), 30),
        (
            "amperity",
            "POST",
            "/v1/resolve",
            json!({"anonymous_id": browser.aid(), "email_sha256": digest()}),
            30,
        ),
        ("liveramp_ats", "POST", "/api/identity/v2/envelope", json!({"identifiers": [digest()]}), 1),
        ("trade_desk", "GET", "/track/rid", Value::Null, 30),
    ];
    for (vendor, method, path, body, ttl_days) in expected {
        let answer = own.enrich(&mut browser, vendor).await;
        let field = find_enrichment(vendor).unwrap().field;
        let redis = format!("identity:{}:{}", own.world.customer.org_id, browser.aid());
        let stored: Option<String> = own.world.redis(&["HGET", &redis, field]).await;
        // Amperity's is the customer's own number, and this browser only claims the email.
        let id = if vendor == "amperity" {
            assert_skipped(&answer, "unverified");
            stored.clone().unwrap()
        } else {
            own.id_of(&answer).to_owned()
        };
        assert_eq!(stored.as_deref(), Some(id.as_str()), "{vendor}: Redis has it when the answer is there");
        let canonical = own.world.vendor_ids(browser.aid()).await;
        let delivered = &canonical.vendor_ids[field];
        assert_eq!(
            (delivered.value.as_str(), delivered.source().as_str_name()),
            (id.as_str(), "VENDOR_ID_SOURCE_ENRICHMENT")
        );
        let cvid = format!("cvid:{}:{}", own.world.customer.org_id, canonical.canonical_id);
        let entry: String = own.world.redis(&["HGET", &cvid, field]).await;
        let entry: Value = serde_json::from_str(&entry).unwrap();
        assert_eq!((entry["source"].as_str(), days(&entry)), (Some("enrichment"), ttl_days), "{vendor}");
        let row = format!("SELECT value FROM vendor_ids WHERE field = '{field}' AND source = 'enrichment'");
        assert_eq!(own.world.database.text(&row).await, id, "{vendor}");

        let calls = own.sim.seen(vendor);
        let [call] = calls.as_slice() else { panic!("{vendor} was called {} times", calls.len()) };
        assert_eq!(
            (call.method.as_str(), call.target.split('?').next().unwrap()),
            (method, path),
            "{vendor}"
        );
        assert_eq!(call.json(), body, "{vendor}");
        assert!(call.header("user-agent").starts_with("Datafly-Signal"), "{vendor}");
    }
    let ttd = own.sim.seen("trade_desk").remove(0);
    assert_eq!(ttd.target, format!("/track/rid?email_sha256={}&fmt=json", digest()));
    let bearer = format!("Bearer liveramp_ats-{CREDENTIAL}");
    assert_eq!(own.sim.seen("liveramp_ats")[0].header("authorization"), bearer);
    assert_eq!(own.sim.seen("liveramp_ats")[0].header("content-type"), "application/json");
    let attributes = "SELECT string_agg(attributes->>'tier', '') FROM enrichments WHERE attributes ? 'tier'";
    assert_eq!(own.world.database.text(attributes).await, "gold");
}

#[tokio::test]
async fn a_live_answer_is_told_again_without_a_call_and_an_ended_one_is_asked_for_anew() {
    let own = Enriching::with(Default::default(), &["liveramp_ats"]).await;
    let mut browser = own.visitor_with(EMAIL).await;
    let first = own.enrich(&mut browser, "liveramp_ats").await;
    assert!(first["expires_at"].is_string(), "{first}");
    assert_eq!(own.enrich(&mut browser, "liveramp_ats").await, first);
    // Redis is no part of it.
    own.world.flush_redis().await;
    assert_eq!(own.enrich(&mut browser, "liveramp_ats").await, first);
    assert_eq!(own.sim.seen("liveramp_ats").len(), 1);

    own.world
        .database
        .execute("UPDATE enrichments SET expires_at = now() - interval '1 s', kept_until = now()")
        .await;
    let again = own.enrich(&mut browser, "liveramp_ats").await;
    assert_eq!(own.id_of(&again), own.id_of(&first));
    assert_eq!(own.sim.seen("liveramp_ats").len(), 2);
}

#[tokio::test]
async fn who_is_known_by_nothing_that_a_vendor_takes_is_not_asked_about() {
    let own = Enriching::start().await;
    let mut browser = own.visitor().await;
    for vendor in ["acxiom_realid", "liveramp_ats", "uid2", "trade_desk"] {
        assert_skipped(&own.enrich(&mut browser, vendor).await, "no_input");
        assert!(own.sim.seen(vendor).is_empty(), "{vendor}");
    }
    // Amperity takes the anonymous ID alone.
    let answer = own.enrich(&mut browser, "amperity").await;
    assert_eq!(own.sim.seen("amperity")[0].json(), json!({"anonymous_id": browser.aid()}));
    own.id_of(&answer);
}

#[tokio::test]
async fn a_device_is_an_input_of_signed_calls() {
    let own = Enriching::start().await;
    let device = "6D92078A-8246-4BA4-AE5B-76104861E7DC";
    for vendor in VENDORS {
        let event = json!({"context": {"device": {"advertisingId": device, "type": "idfa"}}});
        let body = json!({"vendor": vendor, "user_id": format!("user of {vendor}"), "event": event});
        // Their consent comes with an event of theirs.
        let consent = json!({"type": "identify", "userId": format!("user of {vendor}"), "anonymousId": format!("app-{vendor}"),
            "context": {"consent": {"marketing": true}}});
        own.signed("/v1/batch", &json!({"batch": [consent]})).await;
        let answer = own.signed("/v1/enrich", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let calls = own.sim.seen(vendor);
        let sent = calls.first().map(|call| format!("{} {}", call.target, call.body));
        let has_device =
            sent.is_some_and(|sent| sent.contains(&device.to_lowercase()) && sent.contains("idfa"));
        let takes_devices = ["acxiom_realid", "trade_desk"].contains(&vendor);
        assert_eq!(has_device, takes_devices, "{vendor}: {}", answer.text());
        if takes_devices {
            own.id_of(&answer.json());
        }
    }
    // A browser's say-so is none.
    let mut browser = own.visitor().await;
    let event = json!({"context": {"device": {"advertisingId": device, "type": "idfa"}}});
    let body = json!({"vendor": "acxiom_realid", "anonymous_id": browser.aid(), "event": event});
    let answer = browser.post("/v1/enrich", body.to_string()).await;
    assert_skipped(&answer.json(), "no_input");
}

/// When one ID of a browser has ended, the others stay where they are, also where nobody visits.
#[tokio::test]
async fn an_id_that_has_ended_takes_no_other_along() {
    let own = Enriching::with(Default::default(), &["acxiom_realid"]).await;
    own.enable("liveramp_ats", &json!({"ttl": "2s"})).await;
    own.settle().await;
    let mut browser = own.visitor_with(EMAIL).await;
    for vendor in ["acxiom_realid", "liveramp_ats"] {
        own.id_of(&own.enrich(&mut browser, vendor).await);
    }
    let key = format!("identity:{}:{}", own.world.customer.org_id, browser.aid());
    harness::within(
        std::time::Duration::from_secs(70),
        "the ended ID to be gone, and the other to be there",
        async || {
            let fields: Vec<String> = own.world.redis(&["HKEYS", &key]).await;
            let has = |field: &str| fields.iter().any(|own| own == field);
            if has("acxiom_person_id") && !has("ramp_id") { Ok(()) } else { Err(format!("{fields:?}")) }
        },
    )
    .await;
}

#[tokio::test]
async fn without_consent_nobody_is_asked_and_what_is_withdrawn_or_erased_meanwhile_is_not_stored() {
    let own = Enriching::with(Default::default(), &["liveramp_ats"]).await;
    let mut silent = own.world.browser();
    silent.view(&Value::Null).await;
    assert_skipped(&own.enrich(&mut silent, "liveramp_ats").await, "consent");
    assert!(own.sim.seen("liveramp_ats").is_empty());

    for withdraws in [true, false] {
        let go = std::sync::Arc::new(tokio::sync::Notify::new());
        own.sim.misbehave("liveramp_ats", Some(Fault::Held(go.clone())));
        let email = format!("meanwhile-{withdraws}@example.com");
        let mut browser = own.visitor_with(&email).await;
        let mut asking = browser.clone();
        let before = own.sim.seen("liveramp_ats").len();
        let (answer, ()) = tokio::join!(own.enrich(&mut asking, "liveramp_ats"), async {
            eventually("the call", async || match own.sim.seen("liveramp_ats").len() {
                seen if seen > before => Ok(()),
                seen => Err(seen.to_string()),
            })
            .await;
            if withdraws {
                browser.view(&json!({"marketing": false})).await;
            } else {
                let erased = people::People::of(&own.world).delete(0, people::browser(browser.aid())).await;
                erased.unwrap();
            }
            go.notify_one();
        });
        assert_skipped(&answer, if withdraws { "consent" } else { "erased" });
        let rows = format!("field = 'ramp_id' AND owner = '{}'", browser.aid());
        assert_eq!(own.world.database.count("vendor_ids", &rows).await, 0);
    }
    assert_eq!(
        own.world.database.count("enrichments", "value IS NOT NULL AND outcome = 'found'").await,
        1,
        "that of the browser which is still there"
    );
}

#[tokio::test]
async fn an_unknown_vendor_is_404_and_a_body_that_is_none_400() {
    let own = Enriching::with(Default::default(), &["uid2"]).await;
    let mut browser = own.visitor().await;
    let long = "x".repeat(8 * 1024);
    for (body, status, code) in [
        (json!({"vendor": "liveramp_ats", "anonymous_id": browser.aid()}), 404, "VENDOR_NOT_FOUND"),
        (json!({"vendor": "", "anonymous_id": browser.aid()}), 404, "VENDOR_NOT_FOUND"),
        (json!({"anonymous_id": browser.aid()}), 400, "INVALID_JSON"),
        (json!({"vendor": "uid2", "anonymous_id": browser.aid(), "event": []}), 400, "INVALID_ARGUMENT"),
        (
            json!({"vendor": "uid2", "anonymous_id": browser.aid(), "event": {"properties": long}}),
            400,
            "INVALID_ARGUMENT",
        ),
        (json!([]), 400, "INVALID_JSON"),
        (json!({"vendor": "uid2", "anonymous_id": "x".repeat(200)}), 400, "INVALID_IDENTIFIER"),
    ] {
        let answer = browser.post("/v1/enrich", body.to_string()).await;
        assert_eq!((answer.status, &*answer.code()), (status, code), "{body}");
    }
    let mut stranger = own.world.browser();
    stranger.origin = Some("https://evil.example".to_owned());
    let answer = stranger.post("/v1/enrich", json!({"vendor": "uid2"}).to_string()).await;
    assert_eq!((answer.status, &*answer.code()), (403, "ORIGIN_NOT_ALLOWED"));
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let answer = browser
        .post("/v1/enrich", json!({"vendor": "uid2", "anonymous_id": browser.aid()}).to_string())
        .await;
    assert_eq!(answer.header("access-control-allow-origin"), browser.origin.as_deref());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}
