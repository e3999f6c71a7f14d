//! What a page is told of its visitor's profile: what the source allows, found by what is vouched for.

use harness::{
    answers::assert_accepted,
    browser::Browser,
    providers::{Enriching, subject},
    signature::user_hash,
    world::Options,
};
use proto::v1::Subject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const EMAIL: &str = "alice@example.com";

/// A world in which an email, a user and a device each have a profile of their own.
async fn world() -> Enriching {
    let own = Enriching::with(Options::default(), &[]).await;
    own.set_profiles(&json!({})).await;
    let profile = |tier: &str| json!({"LifetimeTier": tier, "Persona": "P", "Secret": "canary-attribute"});
    own.sim.profiles().add(
        "amp-email",
        "email_sha256",
        &hex::encode(Sha256::digest(EMAIL)),
        &profile("email"),
    );
    own.sim.profiles().add("amp-user", "customer_id", "user-123", &profile("user"));
    own
}

async fn identify(own: &Enriching, browser: &mut Browser, hash: bool) {
    let mut event = json!({"type": "identify", "anonymousId": browser.aid(), "userId": "user-123", "traits": {"email": EMAIL}});
    if hash {
        event["context"]["userHash"] = json!(user_hash(&own.world.customer.server_secret, "user-123"));
    }
    assert_accepted(&browser.batch(&json!([event])).await, 1);
}

fn seen(tier: &str) -> Value {
    json!({"LifetimeTier": tier, "Persona": "P"})
}

#[tokio::test]
async fn a_page_sees_the_allowlisted_attributes_of_its_own_visitor() {
    let own = world().await;
    let mut browser = own.visitor().await;
    own.sim.profiles().add(
        "amp-device",
        "device_cookie",
        browser.aid(),
        &json!({"Persona": {"deep": [1, "x"]}, "persona": 1, "Secret": "s"}),
    );
    assert_eq!(own.page_profile(&mut browser, "amperity").await, json!({"Persona": {"deep": [1, "x"]}}));
    // A stranger, and where nothing is allowed, not set up or unknown.
    let mut stranger = own.world.browser();
    stranger.anonymous_id = Some("nobody".to_owned());
    assert_eq!(own.page_profile(&mut stranger, "amperity").await, json!({}));
    assert_eq!(own.page_profile(&mut browser, "acxiom").await, json!({}));
    let request =
        browser.request(reqwest::Method::GET, "/v1/enrich?provider=nobody").bearer_auth(&browser.key);
    let answer = browser.send(request).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "VENDOR_NOT_FOUND"));
    // Nothing that a page says widens it.
    for more in ["&audience=server", "&attributes=Secret", "&browser_attribute_allowlist=Secret"] {
        let path = format!("/v1/enrich?provider=amperity&aid={}{more}", browser.aid());
        let request = browser.request(reqwest::Method::GET, &path).bearer_auth(&browser.key);
        assert!(!browser.send(request).await.text().contains("Secret"), "{more}");
    }
    let without_key = browser.request(reqwest::Method::GET, "/v1/enrich?provider=amperity");
    assert_eq!(browser.send(without_key).await.status, 401);
    let mut elsewhere = own.world.browser();
    elsewhere.origin = Some("https://evil.example".to_owned());
    let request =
        elsewhere.request(reqwest::Method::GET, "/v1/enrich?provider=amperity").bearer_auth(&elsewhere.key);
    assert_eq!(elsewhere.send(request).await.status, 403);

    own.set_profiles(&json!({"browser_attribute_allowlist": null})).await;
    assert_eq!(own.page_profile(&mut browser, "amperity").await, json!({}));
}

#[tokio::test]
async fn what_a_browser_only_claims_finds_nothing_for_its_page() {
    let own = world().await;
    let mut browser = own.visitor().await;
    identify(&own, &mut browser, false).await;
    assert_eq!(own.page_profile(&mut browser, "amperity").await, json!({}));
    // Whoever delivers events has it, and that changes nothing for the page.
    let carrying = Subject { email: Some(EMAIL.to_owned()), ..subject(browser.aid()) };
    assert_eq!(own.profiles(0, vec![(carrying, None)]).await[0].id, "amp-email");
    assert_eq!(own.profile(browser.aid(), None).await.id, "amp-email");
    assert_eq!(own.page_profile(&mut browser, "amperity").await, json!({}));

    // With a proof the user ID finds one, and the email beside it still none.
    identify(&own, &mut browser, true).await;
    assert_eq!(own.page_profile(&mut browser, "amperity").await, seen("user"));
    assert_eq!(own.profile(browser.aid(), None).await.id, "amp-email");
    // Another who claims both is no nearer, nor is one who types the email in.
    let mut claimant = own.visitor().await;
    identify(&own, &mut claimant, false).await;
    assert_eq!(own.page_profile(&mut claimant, "amperity").await, json!({}));
    let mut typist = own.visitor_with(EMAIL).await;
    assert_eq!(own.page_profile(&mut typist, "amperity").await, json!({}));

    // An email that the customer's server vouches for counts.
    own.prove(&mut browser, "user-123", EMAIL).await;
    assert_eq!(own.page_profile(&mut browser, "amperity").await, seen("email"));
    // And every match, where the source says so.
    own.world.database.execute("UPDATE sources SET browser_identity = 'claimed'").await;
    own.settle().await;
    assert_eq!(own.page_profile(&mut typist, "amperity").await, seen("email"));
    assert_eq!(own.page_profile(&mut claimant, "amperity").await, seen("email"));
}

#[tokio::test]
async fn attributes_that_came_with_an_enrichment_are_a_profile_too() {
    let own = Enriching::with(Options::default(), &[]).await;
    own.enable("acxiom_realid", &json!({"browser_attribute_allowlist": "age_band"})).await;
    own.settle().await;
    let mut owner = own.visitor().await;
    own.prove(&mut owner, "jane", EMAIL).await;
    assert_eq!(own.page_profile(&mut owner, "acxiom").await, json!({}), "nothing is asked for it");
    assert!(own.sim.seen("acxiom_realid").is_empty());
    let told = own.enrich(&mut owner, "acxiom_realid").await;
    own.id_of(&told);
    harness::eventually("the attributes to be told", async || {
        let told = own.page_profile(&mut owner, "acxiom").await;
        if told == json!({"age_band": "35-44"}) { Ok(()) } else { Err(told.to_string()) }
    })
    .await;
    // The same email, typed in by another.
    let mut typist = own.visitor_with(EMAIL).await;
    own.id_of(&own.enrich(&mut typist, "acxiom_realid").await);
    assert_eq!(own.page_profile(&mut typist, "acxiom").await, json!({}));
    assert_eq!(own.sim.seen("acxiom_realid").len(), 1);
}
