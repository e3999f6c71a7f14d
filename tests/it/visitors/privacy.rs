//! Data that must not be seen: by vendors, in logs, by other customers.

use harness::{
    answers::{assert_accepted, assert_gif},
    visits::granted,
    world::{Options, World, all_vendors},
};
use proto::v1::{IdentityRef, VendorIdsRequest, identity_ref::Id};
use serde_json::json;

#[tokio::test]
async fn a_vendor_sees_neither_the_visitor_nor_the_key() {
    let world = World::with(Options { vendors: all_vendors().leak(), ..Options::default() }).await;
    let mut browser = world.browser();
    browser.anonymous_id = Some("visible-visitor".to_owned());
    browser.view(&granted()).await;
    for name in all_vendors() {
        assert_gif(browser.sync(name).await.last().unwrap());
    }
    let seen = world.vendors.seen();
    assert_eq!(seen.len(), all_vendors().len());
    let canonical = world.vendor_ids(browser.aid()).await.canonical_id;
    let customer = &world.customer;
    for request in &seen {
        // In clear, or in the encodings that a state could be mistaken for.
        let text = format!("{} {:?}", request.target, request.headers);
        let plain: Vec<u8> = opened(&text).concat();
        for secret in [browser.aid(), &browser.key, &canonical, &customer.org_id.to_string()] {
            assert!(!text.contains(secret), "{} sees {secret}: {text}", request.vendor);
            assert!(!text.contains(&hex::encode(secret)), "{} sees {secret} in hex: {text}", request.vendor);
            let found = plain.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} can decode {secret}: {text}", request.vendor);
        }
        for id in [customer.org_id, customer.source_id] {
            let found = plain.windows(16).any(|window| window == id.as_bytes());
            assert!(!found, "{} can decode the bytes of {id}: {text}", request.vendor);
        }
        assert!(!request.headers.contains_key("referer"), "{text}");
    }
}

/// Bytes of all words in a text that base64 opens.
fn opened(text: &str) -> Vec<Vec<u8>> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let text = percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
    words.filter_map(|word| URL_SAFE_NO_PAD.decode(word).ok()).collect()
}

#[tokio::test]
async fn secrets_and_personal_data_are_in_no_log() {
    let world = World::with(Options { log_level: "trace", ..Options::default() }).await;
    let mut browser = world.browser();
    let canaries =
        ["canary.person@example.com", "+15550100777", "canary-user-42", "canaryUid4711", "203.0.113.77"];
    let event = json!({
        "type": "identify", "anonymousId": browser.aid(), "userId": canaries[2],
        "traits": {"email": canaries[0], "phone": canaries[1]},
        "context": {"consent": granted(), "page": {"url": "https://shop.example.com/?email=canary.person@example.com"}},
    });
    let answer = browser.batch(&json!([event, {"type": "\u{0}", "email": canaries[0]}, event])).await;
    assert_eq!((answer.status, &answer.json()["accepted"]), (200, &json!(2)), "{}", answer.text());
    let fault = harness::vendor_sim::Fault::Id(canaries[3].to_owned());
    world.vendors.misbehave("pinterest", Some(fault));
    let callback = browser.sync_to_vendor("pinterest").await;
    assert_gif(&browser.get(callback.as_str()).await);
    assert_gif(&browser.get(callback.as_str()).await);
    // And the ways that fail.
    world.redis_proxy.refuse().await;
    browser.batch(&json!([event])).await;
    world.postgres_proxy.refuse().await;
    browser.batch(&json!([event])).await;
    browser.get(callback.as_str()).await;
    browser.key = "dk_live_canary_unknown_key".to_owned();
    browser.batch(&json!([event])).await;

    let secrets = &world.cluster.secrets;
    let state = callback.query_pairs().find(|(key, _)| key == "state").unwrap().1.into_owned();
    let mut hidden: Vec<&str> = canaries.to_vec();
    let live = &world.customer.live_key;
    hidden.extend([browser.aid(), &browser.key, live, &world.customer.server_secret, &state]);
    hidden
        .extend([&secrets.encryption_key, &secrets.edge_token, &secrets.internal_token].map(String::as_str));
    let password = world.database.url.split([':', '@']).nth(2).unwrap().to_owned();
    hidden.push(&password);
    let services = [("core", &world.cluster.cores[0]), ("edge", &world.cluster.edge)];
    for (name, service) in services {
        let log = service.log();
        assert!(log.len() > 2, "{name} logged {} lines", log.len());
        for secret in &hidden {
            let line = log.iter().find(|line| line.contains(secret));
            assert!(line.is_none(), "{name} logs {secret}: {line:?}");
        }
        let metrics = service.metrics().await;
        for secret in &hidden {
            assert!(!metrics.text().contains(secret), "{name} has {secret} in its metrics");
        }
    }
}

#[tokio::test]
async fn customers_are_apart_even_with_one_anonymous_id() {
    let world = World::start().await;
    let other = world.another_customer("explicit").await;
    let (mut ours, mut theirs) = (world.browser(), world.browser_of(&other));
    for browser in [&mut ours, &mut theirs] {
        browser.anonymous_id = Some("the-same-id".to_owned());
        assert_eq!(browser.view(&granted()).await.offered(), ["pinterest"]);
    }
    assert_gif(ours.sync("pinterest").await.last().unwrap());
    let (a, b) = (world.customer.org_id.to_string(), other.org_id.to_string());
    let (mine, their) =
        (world.vendor_ids_in(&a, "the-same-id").await, world.vendor_ids_in(&b, "the-same-id").await);
    assert_ne!(mine.canonical_id, their.canonical_id);
    assert!(!mine.canonical_id.is_empty() && !their.canonical_id.is_empty(), "{mine:?} {their:?}");
    assert_eq!((mine.vendor_ids.len(), their.vendor_ids.len()), (1, 0));

    let request = VendorIdsRequest {
        org_id: b.clone(),
        identities: vec![IdentityRef { id: Some(Id::CanonicalId(mine.canonical_id.clone())), browser: None }],
        fields: Vec::new(),
        ..VendorIdsRequest::default()
    };
    let crossed =
        world.internal().resolve().vendor_ids(request).await.unwrap().into_inner().identities.remove(0);
    assert!(crossed.canonical_id.is_empty() && crossed.vendor_ids.is_empty(), "{crossed:?}");
    theirs.origin = Some("https://elsewhere.example".to_owned());
    assert_eq!(theirs.view(&granted()).await.status, 403);
}

#[tokio::test]
async fn data_of_test_keys_are_apart() {
    let world = World::start().await;
    let mut live = world.browser();
    let mut test = live.clone();
    test.key.clone_from(&world.customer.test_key);
    assert_eq!(live.view(&granted()).await.offered(), ["pinterest"]);
    test.jar.clear();
    assert_eq!(test.view(&granted()).await.offered(), ["pinterest"], "not synced there");
    assert_gif(test.sync("pinterest").await.last().unwrap());

    let (org, sibling) = (world.customer.org_id.to_string(), world.customer.test_org_id.to_string());
    assert_eq!(world.vendor_ids_in(&org, live.aid()).await.vendor_ids.len(), 0);
    assert_eq!(world.vendor_ids_in(&sibling, live.aid()).await.vendor_ids.len(), 1);
    for key in world.redis::<Vec<String>>(&["KEYS", "cvid:*"]).await {
        let ours = key.contains(&org) || key.contains(&sibling);
        assert!(ours, "{key} belongs to no organisation");
    }
}

#[tokio::test]
async fn identifiers_cannot_reach_other_keys_of_redis() {
    let world = World::start().await;
    let mut canonicals = std::collections::HashSet::new();
    let awkward = [
        "a:b",
        "a",
        "{4a}",
        "a b",
        "*",
        "a\\nb",
        "anonymous_id:a",
        "ünï",
        "~a",
        &"x".repeat(128),
        "../a",
        "%61",
    ];
    for id in awkward {
        let mut browser = world.browser();
        browser.anonymous_id = Some(id.to_owned());
        assert_accepted(&browser.view(&granted()).await, 1);
        let canonical = world.vendor_ids(id).await.canonical_id;
        assert!(!canonical.is_empty() && canonicals.insert(canonical), "{id:?} is nobody, or somebody else");
    }
    for key in world.redis::<Vec<String>>(&["KEYS", "canonical:*"]).await {
        let value = key.rsplit(':').next().unwrap_or_default();
        let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '~');
        assert!(plain && key.matches(':').count() == 3, "{key}");
    }
}
