//! Attributes as they are in the context of an event.

use harness::{
    answers::assert_accepted,
    profile_sim::COLLECTION,
    providers::{Enriching, subject},
    world::Options,
};
use proto::v1::{ProfileResponse, Subject};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A world with the mappings of the specification, and a visitor with a profile.
async fn world() -> (Enriching, harness::browser::Browser) {
    let own = Enriching::with(Options::default(), &[]).await;
    own.set_profiles(&json!({"context_enabled": true, "context_mappings": [
        {"source": "properties.category", "target": "pageCategory"},
        {"source": "properties.value", "target": "cartValue"},
        {"source": "context.page.path", "target": "pagePath"},
        {"source": "partner_attrs.amperity.LifetimeTier", "target": "tierHint"},
    ]}))
    .await;
    let browser = own.visitor().await;
    let profile = json!({"LifetimeTier": "gold", "Persona": "P"});
    own.sim.profiles().add("amp-1", "device_cookie", browser.aid(), &profile);
    (own, browser)
}

fn event(category: &str) -> Value {
    json!({"type": "track", "event": "view_item", "properties": {"category": category, "value": 12.5},
        "context": {"page": {"path": "/shoes"}}})
}

fn personalized(profile: &ProfileResponse) -> Value {
    Value::Object(profile.personalized.clone().map(proto::json::object).unwrap_or_default())
}

/// The contexts that the store was asked with.
fn contexts(own: &Enriching) -> Vec<String> {
    let calls = own.sim.seen("profiles").into_iter();
    calls.filter_map(|call| call.target.split_once('?').map(|(_, query)| query.to_owned())).collect()
}

#[tokio::test]
async fn the_values_of_an_event_are_sent_once_for_each_context() {
    let (own, mut browser) = world().await;
    let told = own.profile(browser.aid(), Some(event("shoes"))).await;
    let hero = |category: &str| json!({"LifetimeTier": "gold", "Persona": "P", "Hero": format!("{category} for \"gold\"")});
    assert_eq!(personalized(&told), hero("shoes"));
    let sent = "cartValue=12.5&enrich=true&pageCategory=shoes&pagePath=%2Fshoes&tierHint=gold";
    assert_eq!(contexts(&own), [sent]);
    let call = own.sim.seen("profiles").pop().unwrap();
    assert!(call.target.starts_with(&format!("/prof/profiles/{COLLECTION}/amp-1?")), "{}", call.target);
    // The same again makes no call, another value does.
    assert_eq!(personalized(&own.profile(browser.aid(), Some(event("shoes"))).await), hero("shoes"));
    assert_eq!(contexts(&own).len(), 1);
    assert_eq!(personalized(&own.profile(browser.aid(), Some(event("hats"))).await), hero("hats"));
    assert_eq!(contexts(&own).len(), 2);
    assert_eq!(personalized(&own.profile(browser.aid(), None).await), json!({}));

    // The page sees what its own last event was personalised for, of what it may see, and can ask for nothing else.
    let mut page = hero("hats");
    assert_eq!(own.page_profile(&mut browser, "amperity").await, page);
    let path = "/v1/enrich?provider=amperity&pageCategory=ties&properties.category=ties";
    let request = browser.request(reqwest::Method::GET, path).bearer_auth(&browser.key);
    assert_eq!(browser.send(request).await.json()["attributes"], page);
    assert_eq!(contexts(&own).len(), 2);
    own.profile(browser.aid(), Some(event("shoes"))).await;
    page = hero("shoes");
    assert_eq!(own.page_profile(&mut browser, "amperity").await, page);
    // Another browser of nobody's sees none of it.
    let mut other = own.visitor().await;
    assert_eq!(own.page_profile(&mut other, "amperity").await, json!({}));
}

#[tokio::test]
async fn a_page_sees_no_context_of_somebody_whom_its_browser_only_claims_to_be() {
    let (own, _) = world().await;
    let mut claimant = own.visitor().await;
    own.sim.profiles().add("amp-2", "customer_id", "jane", &json!({"LifetimeTier": "gold", "Persona": "J"}));
    own.sim.profiles().add(
        "amp-3",
        "email_sha256",
        &hex::encode(Sha256::digest("jane@example.com")),
        &json!({"LifetimeTier": "gold"}),
    );
    let login = json!({"type": "identify", "anonymousId": claimant.aid(), "userId": "jane"});
    assert_accepted(&claimant.batch(&json!([login])).await, 1);
    let told = own.profile(claimant.aid(), Some(event("shoes"))).await;
    assert_eq!((told.id.as_str(), personalized(&told)["Persona"].as_str()), ("amp-2", Some("J")));
    assert_eq!(own.page_profile(&mut claimant, "amperity").await, json!({}));
    // Nor where the event carries an email.
    let carrying = Subject { email: Some("jane@example.com".to_owned()), ..subject(claimant.aid()) };
    let told = own.profiles(0, vec![(carrying, Some(event("hats")))]).await.remove(0);
    assert_eq!((told.id.as_str(), personalized(&told)["Hero"].is_string()), ("amp-3", true));
    assert_eq!(own.page_profile(&mut claimant, "amperity").await, json!({}));
    // With a proof it is theirs.
    own.prove(&mut claimant, "jane", "other@example.com").await;
    own.profile(claimant.aid(), Some(event("ties"))).await;
    let seen = own.page_profile(&mut claimant, "amperity").await;
    assert_eq!((seen["Persona"].as_str(), seen["Hero"].as_str()), (Some("J"), Some("ties for \"gold\"")));
}

#[tokio::test]
async fn a_context_that_never_comes_again_is_bounded() {
    let (own, browser) = world().await;
    own.profile(browser.aid(), None).await;
    for chunk in 0..6 {
        let events =
            (0..100).map(|number| (subject(browser.aid()), Some(event(&format!("c-{chunk}-{number}")))));
        own.profiles(0, events.collect()).await;
    }
    assert!(contexts(&own).len() <= 500, "{}", contexts(&own).len());
    let labels = [("provider", "amperity"), ("outcome", "contexts")];
    let refused = own.world.metric("datafly_profile_personalized_total", &labels).await;
    assert!(refused >= 100.0, "{refused}");
}

#[tokio::test]
async fn where_it_is_off_no_context_is_sent() {
    let (own, browser) = world().await;
    own.set_profiles(&json!({"context_enabled": false,
        "context_mappings": [{"source": "properties.category", "target": "pageCategory"}]}))
        .await;
    let told = own.profile(browser.aid(), Some(event("shoes"))).await;
    assert_eq!((told.id.as_str(), personalized(&told)), ("amp-1", json!({})));
    assert!(contexts(&own).is_empty());
}
