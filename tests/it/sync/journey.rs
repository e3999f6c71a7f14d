//! A visitor's whole way: batch, offer, redirect, callback, delivery; and what comes after.

use harness::{
    answers::{assert_accepted, assert_gif},
    browser::Browser,
    system::now,
    vendor_sim::vendor,
    visits::granted,
    world::World,
};
use proto::v1::{IdentityRef, VendorIdSource, VendorIdsRequest, identity_ref::Id};
use serde_json::{Value, json};

#[tokio::test]
async fn a_visitor_is_synced_and_delivered() {
    let world = World::start().await;
    let mut browser = world.browser();

    let first = browser.view(&granted()).await;
    assert_accepted(&first, 1);
    let partner_id = world.customer.partner_id("pinterest");
    let offer = json!([{"vendor": "pinterest", "url": "/v1/sync/pinterest", "partner_id": partner_id}]);
    assert_eq!(first.json()["pending_syncs"], offer);
    assert_eq!(first.json()["anonymous_id"], json!(browser.aid()));
    assert_eq!(browser.view(&granted()).await.offered(), [""; 0], "offered a moment ago");

    let hops = browser.sync("pinterest").await;
    assert_eq!(hops.iter().map(|hop| hop.status).collect::<Vec<_>>(), [302, 302, 200]);
    assert_eq!(hops[0].header("cache-control"), Some("no-store"));
    assert_eq!(hops[0].header("referrer-policy"), Some("no-referrer"));
    let seen = world.vendors.seen();
    assert!(
        seen.len() == 1 && seen[0].target.contains(&format!("tid={partner_id}")),
        "the configured partner ID goes to the vendor, whatever the page says: {seen:?}"
    );
    assert_gif(&hops[2]);

    let ids = world.vendor_ids(browser.aid()).await;
    assert!(!ids.canonical_id.is_empty());
    let id = ids.vendor_ids.get("pin_unauth").unwrap_or_else(|| panic!("no pin_unauth in {ids:?}"));
    assert_eq!(id.value, vendor("pinterest").id);
    assert_eq!(id.source(), VendorIdSource::Sync);
    let (collected, expires) = (id.collected_at.unwrap().seconds, id.expires_at.unwrap().seconds);
    assert!((now().unix_timestamp() - collected).abs() < 60, "collected at {collected}");
    assert_eq!(expires - collected, 90 * 86_400, "the TTL is the pipeline's");
    assert_eq!(ids.consent.and_then(|consent| consent.json), Some(granted().to_string()));

    assert_eq!(browser.view(&granted()).await.offered(), [""; 0], "synced a moment ago");
    let labels = [("vendor", "pinterest")];
    for (metric, expected) in [("attempted", 1.0), ("succeeded", 1.0), ("failed", 0.0)] {
        let name = format!("datafly_sync_{metric}_total");
        assert_eq!(world.metric(&name, &labels).await, expected, "{name}");
    }
}

#[tokio::test]
async fn a_synced_vendor_is_offered_again_when_the_id_has_expired() {
    let world = World::start().await;
    let mut browser = synced(&world).await;
    world.age("80 days").await;
    assert_eq!(browser.view(&granted()).await.offered(), [""; 0], "80 of 90 days have passed");
    assert!(world.vendor_id(browser.aid(), "pin_unauth").await.is_some(), "80 of 90 days have passed");

    world.age("11 days").await;
    assert_eq!(world.vendor_id(browser.aid(), "pin_unauth").await, None, "91 of 90 days have passed");
    assert_eq!(browser.view(&granted()).await.offered(), ["pinterest"]);
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    assert!(world.vendor_id(browser.aid(), "pin_unauth").await.is_some(), "synced anew");
    assert_eq!(browser.view(&granted()).await.offered(), [""; 0]);
}

#[tokio::test]
async fn an_unanswered_redirect_is_tried_again_later_and_not_for_ever() {
    let world = World::start().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    // (time since the last try after which nothing is due, and after which it is)
    let waits = [("9 minutes", "2 minutes"), ("59 minutes", "2 minutes"), ("5 hours", "2 hours")];
    let daily = ("23 hours", "2 hours");
    for attempt in 0..8 {
        browser.get(&browser.sync_url("pinterest")).await;
        let (short, rest) = waits.get(attempt).copied().unwrap_or(daily);
        world.age(short).await;
        assert_eq!(browser.view(&granted()).await.offered(), [""; 0], "attempt {attempt}, after {short}");
        world.age(rest).await;
        let offered = browser.view(&granted()).await.offered();
        let due = attempt < 7;
        assert_eq!(offered.len(), usize::from(due), "attempt {attempt}, after {short} and {rest}");
    }
    assert_eq!(browser.get(&browser.sync_url("pinterest")).await.status, 204, "eight went unanswered");
    world.age("91 days").await;
    assert_eq!(browser.view(&granted()).await.offered(), ["pinterest"], "after 90 days the count is over");
}

#[tokio::test]
async fn a_person_is_delivered_by_user_id_and_canonical_id_too() {
    let world = World::start().await;
    let mut browser = world.browser();
    let mut event = browser.page_view(&granted());
    event["userId"] = json!("customer-7");
    assert_accepted(&browser.batch(&json!([event])).await, 1);
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    let canonical = world.vendor_ids(browser.aid()).await.canonical_id;

    let ids = [
        Id::UserId("customer-7".to_owned()),
        Id::CanonicalId(canonical.clone()),
        Id::UserId("nobody".to_owned()),
        Id::AnonymousId(browser.aid().to_owned()),
    ];
    let request = VendorIdsRequest {
        org_id: world.customer.org_id.to_string(),
        identities: ids.into_iter().map(|id| IdentityRef { id: Some(id), browser: None }).collect(),
        fields: vec!["pin_unauth".to_owned()],
        ..VendorIdsRequest::default()
    };
    let answer = world.internal().resolve().vendor_ids(request).await.unwrap().into_inner().identities;
    let canonicals: Vec<&str> = answer.iter().map(|entry| entry.canonical_id.as_str()).collect();
    assert_eq!(canonicals, [&canonical, &canonical, "", &canonical], "in the order of the request");
    for at in [0, 1, 3] {
        assert_eq!(answer[at].vendor_ids.len(), 1, "identity {at}: {:?}", answer[at]);
    }
    assert!(answer[2].vendor_ids.is_empty() && answer[2].consent.is_none(), "{:?}", answer[2]);
}

#[tokio::test]
async fn events_of_one_visitor_in_a_batch_are_one_identity() {
    let world = World::start().await;
    let mut browser = world.browser();
    let event = browser.page_view(&granted());
    let snake = json!({"type": "track", "event": "Viewed", "anonymous_id": browser.aid()});
    let other = json!({"type": "track", "event": "Viewed", "anonymousId": "someone-else"});
    let answer = browser.batch(&json!([event, snake, event, other, event])).await;
    assert_accepted(&answer, 5);
    assert_eq!(answer.offered(), ["pinterest"], "one offer a batch and vendor");
    assert_eq!(world.database.count("canonicals", "true").await, 2);
    assert_eq!(world.database.count("links", "kind = 0").await, 2);
}

#[tokio::test]
async fn single_event_paths_do_what_the_batch_does() {
    let world = World::start().await;
    for path in ["/v1/t", "/v1/p", "/v1/i"] {
        let mut browser = world.browser();
        let body = browser.page_view(&granted()).to_string();
        let answer = browser.post(path, body).await;
        assert_accepted(&answer, 1);
        assert_eq!(answer.offered(), ["pinterest"], "{path}");
    }
}

#[tokio::test]
async fn without_an_anonymous_id_the_cookie_counts_and_else_one_is_minted() {
    let world = World::start().await;
    let mut browser = world.browser();
    browser.anonymous_id = None;
    let minted = browser.view(&granted()).await.json()["anonymous_id"].clone();
    let minted = minted.as_str().unwrap_or_else(|| panic!("{minted}")).to_owned();
    assert_eq!(uuid::Uuid::parse_str(&minted).map(|id| id.get_version_num()), Ok(4), "{minted}");
    assert_eq!(browser.jar.value(&browser.collect, "_dfid"), Some(minted.as_str()));

    let answer = browser.view(&Value::Null).await;
    assert_eq!(answer.json()["anonymous_id"], json!(minted), "the cookie's");
    assert_eq!(world.database.count("canonicals", "true").await, 1);
}

/// Syncs a new visitor with Pinterest, and checks that the vendor was offered and its ID is stored.
async fn synced(world: &World) -> Browser {
    let mut browser = world.browser();
    assert_eq!(browser.view(&granted()).await.offered(), ["pinterest"]);
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    assert!(world.vendor_id(browser.aid(), "pin_unauth").await.is_some(), "the sync was not stored");
    browser
}
