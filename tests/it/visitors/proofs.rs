//! Proofs of who is whom: link tokens between a customer's domains, and hashes of user IDs.

use harness::{
    answers::assert_accepted,
    browser::{Answer, Browser},
    people::named,
    seed::Customer,
    signature::{hmac, sign, user_hash},
    visits::granted,
    world::World,
};
use proto::v1::{LookupRequest, Person, identity_ref::Id};
use serde_json::{Value, json};

async fn person(world: &World, id: Id) -> Person {
    let org_id = world.customer.org_id.to_string();
    let request = LookupRequest { org_id, identity: Some(named(id)) };
    world.admin().people().lookup(request).await.unwrap().into_inner().person.unwrap()
}

async fn canonical(world: &World, anonymous_id: &str) -> String {
    world.vendor_ids(anonymous_id).await.canonical_id
}

/// A visitor's browser on another domain of the same organisation, with a source of its own.
async fn other_domain(world: &World) -> Browser {
    let mut database = world.database.connection().await.unwrap();
    let (org, test) = (world.customer.org_id, world.customer.test_org_id);
    let key = &world.cluster.secrets.encryption_key;
    let other =
        Customer::seed_in(&mut database, org, test, key, "explicit", "outlet.example.com").await.unwrap();
    world.cluster.open(&mut database, &other, &world.vendors, &[]).await.unwrap();
    world.browser_of(&other)
}

/// Opens a page to which a link with `token` has led, on a page of `referrer`.
async fn arrive_from(browser: &mut Browser, token: &str, referrer: &Value) -> Answer {
    let mut event = browser.page_view(&granted());
    event["context"]["page"]["url"] = json!(format!("https://outlet.example.com/?a=1&_dfl={token}"));
    event["context"]["page"]["referrer"] = referrer.clone();
    // Both events of the page carry its URL.
    let again = event.clone();
    browser.batch(&json!([event, again])).await
}

/// The same from a page of the shop, of which browsers tell another origin no more than its own.
async fn arrive(browser: &mut Browser, token: &str) -> Answer {
    arrive_from(browser, token, &json!("https://shop.example.com/")).await
}

#[tokio::test]
async fn a_link_token_carries_a_visitor_to_another_domain_once() {
    let world = World::start().await;
    let (mut shop, mut outlet) = (world.browser(), other_domain(&world).await);
    assert_accepted(&shop.view(&granted()).await, 1);
    shop.sync("pinterest").await;
    let id = world.vendor_id(shop.aid(), "pin_unauth").await.unwrap();
    assert_accepted(&outlet.view(&granted()).await, 1);
    assert_ne!(canonical(&world, shop.aid()).await, canonical(&world, outlet.aid()).await);

    let answer = shop.post("/v1/link", "").await;
    assert_eq!(
        (answer.status, answer.json()["parameter"].as_str()),
        (200, Some("_dfl")),
        "{}",
        answer.text()
    );
    let token = answer.json()["link_token"].as_str().unwrap().to_owned();
    assert!(!token.contains(shop.aid()));
    assert_accepted(&arrive(&mut outlet, &token).await, 2);
    assert_eq!(canonical(&world, shop.aid()).await, canonical(&world, outlet.aid()).await);
    assert_eq!(world.vendor_id(outlet.aid(), "pin_unauth").await.as_ref(), Some(&id));

    // Copied from the address bar, it links nobody else; neither does one of another organisation.
    let mut thief = outlet.clone();
    thief.anonymous_id = Some(uuid::Uuid::new_v4().to_string());
    thief.jar.clear();
    assert_accepted(&arrive(&mut thief, &token).await, 2);
    assert_ne!(canonical(&world, shop.aid()).await, canonical(&world, thief.aid()).await);
    let reason = [("reason", "invalid_proof")];
    assert!(world.metric("datafly_link_refusals_total", &reason).await >= 1.0);
    let elsewhere = world.another_customer("explicit").await;
    let mut stranger = world.browser_of(&elsewhere);
    assert_accepted(&stranger.view(&granted()).await, 1);
    let foreign = stranger.post("/v1/link", "").await.json()["link_token"].as_str().unwrap().to_owned();
    assert_accepted(&arrive(&mut thief, &foreign).await, 2);
    assert_eq!(person(&world, Id::AnonymousId(thief.aid().to_owned())).await.identifiers.len(), 1);
}

/// The attacker has a token made for themselves, and puts it into a link to the shop: whoever follows it must not
/// become them.
#[tokio::test]
async fn a_token_in_another_s_link_joins_nobody() {
    let world = World::start().await;
    let mut attacker = world.browser();
    assert_accepted(&attacker.view(&granted()).await, 1);
    attacker.sync("pinterest").await;
    let own = world.vendor_id(attacker.aid(), "pin_unauth").await.unwrap();
    let page = attacker.origin.take();
    let refused = attacker.post("/v1/link", "").await;
    assert_eq!((refused.status, refused.code()), (403, "ORIGIN_NOT_ALLOWED".to_owned()), "no page asks");
    assert_eq!(refused.header("access-control-allow-origin"), None);
    // What is no browser sends any Origin.
    attacker.origin = page;
    let token = attacker.post("/v1/link", "").await.json()["link_token"].as_str().unwrap().to_owned();

    let alone = person(&world, Id::AnonymousId(attacker.aid().to_owned())).await.identifiers;
    for referrer in [
        json!(null),
        json!(""),
        json!(5),
        json!("https://evil.example/"),
        json!("https://shop.example.com.evil.example/"),
        json!("https://evil.example/?https://shop.example.com/"),
        json!("https://shop.example.com@evil.example/"),
        json!("http://shop.example.com/"),
        json!("https://shop.example.com:8443/"),
        json!(format!("https://shop.example.com/{}", "a".repeat(5000))),
    ] {
        let mut victim = world.browser();
        assert_accepted(&arrive_from(&mut victim, &token, &referrer).await, 2);
        assert_ne!(
            canonical(&world, victim.aid()).await,
            canonical(&world, attacker.aid()).await,
            "{referrer}"
        );
        assert_eq!(world.vendor_id(victim.aid(), "pin_unauth").await, None, "{referrer}");
    }
    // Another event of the same batch may well have come from the shop.
    let mut victim = world.browser();
    let mut landing = victim.page_view(&granted());
    landing["context"]["page"]["url"] = json!(format!("https://shop.example.com/?_dfl={token}"));
    let mut next = victim.page_view(&granted());
    next["context"]["page"]["referrer"] = json!("https://shop.example.com/");
    assert_accepted(&victim.batch(&json!([landing, next])).await, 2);
    assert_ne!(canonical(&world, victim.aid()).await, canonical(&world, attacker.aid()).await);
    let now = person(&world, Id::AnonymousId(attacker.aid().to_owned())).await.identifiers;
    assert_eq!(now.len(), alone.len(), "{now:?}");
    let refused = world.metric("datafly_link_refusals_total", &[("reason", "invalid_proof")]).await;
    assert!(refused >= 11.0, "{refused}");

    // The token was good, and no such visit has used it up.
    let mut friend = world.browser();
    assert_accepted(&arrive(&mut friend, &token).await, 2);
    assert_eq!(canonical(&world, friend.aid()).await, canonical(&world, attacker.aid()).await);
    assert_eq!(world.vendor_id(friend.aid(), "pin_unauth").await, Some(own));
}

#[tokio::test]
async fn a_link_token_is_for_whoever_has_the_cookie() {
    let world = World::start().await;
    let mut browser = world.browser();
    let answer = browser.post("/v1/link", json!({"anonymousId": browser.aid()}).to_string()).await;
    assert_eq!((answer.status, answer.code()), (400, "INVALID_ARGUMENT".to_owned()));
    let no_key = browser.request(reqwest::Method::POST, "/v1/link").header("cookie", "_dfid=me");
    assert_eq!(browser.send(no_key).await.status, 401);
    let mut foreign = world.browser();
    foreign.origin = Some("https://evil.example".to_owned());
    foreign.jar.set(&foreign.collect.clone(), "_dfid", "me");
    assert_eq!(foreign.post("/v1/link", "").await.status, 403);
}

#[tokio::test]
async fn a_server_asks_for_a_link_token_with_a_signature_over_whatever_it_sends() {
    let world = World::start().await;
    let mut server = world.browser();
    server.jar.set(&server.collect.clone(), "_dfid", "me");
    for body in ["", "{}"] {
        let signature = sign(&world.customer.server_secret, body);
        let mut ask = async |signature: &str| {
            let request = server.request(reqwest::Method::POST, "/v1/link").bearer_auth(&server.key);
            server.send(request.header("x-datafly-signature", signature).body(body)).await
        };
        let answer = ask(&signature).await;
        assert_eq!(answer.status, 200, "{body:?}: {}", answer.text());
        assert_eq!(
            answer.header("access-control-allow-origin"),
            None,
            "no page reads a signed call's answer"
        );
        let forged = ask(&signature.replace('a', "b").replace('0', "1")).await;
        assert_eq!((forged.status, forged.code()), (401, "INVALID_SIGNATURE".to_owned()));
        assert_eq!(forged.header("access-control-allow-origin"), None);
    }
}

#[tokio::test]
async fn a_hash_of_the_user_id_vouches_for_it() {
    let world = World::start().await;
    let secret = world.customer.server_secret.clone();
    let mut seen = Vec::new();
    for (user, hash) in [
        ("anna", Some(user_hash(&secret, "anna"))),
        ("bert", None),
        // Of somebody else, none at all, without the `user:`, and what would sign a body.
        ("carl", Some(user_hash(&secret, "anna"))),
        ("dora", Some("zz".to_owned())),
        ("erna", Some(hmac(&secret, "erna"))),
        ("fred", Some(sign(&secret, "user:fred"))),
    ] {
        let mut browser = world.browser();
        let mut event = browser.page_view(&granted());
        event["userId"] = json!(user);
        event["context"]["userHash"] = hash.map_or(Value::Null, Value::String);
        assert_accepted(&browser.batch(&json!([event])).await, 1);
        let person = person(&world, Id::UserId(user.to_owned())).await;
        let mut ways: Vec<_> =
            person.identifiers.iter().map(|one| format!("{} {}", one.kind, one.via)).collect();
        ways.sort();
        seen.push((user, ways.join(", ")));
        // Claimed before, vouched for now.
        if user == "bert" {
            let mut event = browser.page_view(&granted());
            event["userId"] = json!(user);
            event["context"]["userHash"] = json!(user_hash(&secret, "bert"));
            assert_accepted(&browser.batch(&json!([event])).await, 1);
        }
    }
    let by = |way: &str| format!("anonymous_id {way}, user_id {way}");
    assert_eq!(seen[0], ("anna", by("user_hash")));
    let claims = ["bert", "carl", "dora", "erna", "fred"].map(|user| (user, by("claim")));
    assert_eq!(seen[1..], claims, "who is not vouched for is linked all the same");
    let bert = person(&world, Id::UserId("bert".to_owned())).await;
    assert!(bert.identifiers.iter().all(|one| one.via == "user_hash"), "{bert:?}");
    let refused = world.metric("datafly_link_refusals_total", &[("reason", "invalid_proof")]).await;
    assert!((refused - 4.0).abs() < f64::EPSILON, "{refused}");
}
