//! Vendor IDs of a user: what a signed call brings that names no browser.

use harness::{
    answers::assert_accepted,
    people::{People, browser, named, user},
    signature::sign,
    visits::granted,
    world::World,
};
use proto::v1::VendorId;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    super::support::assert_sound,
    support::{Proof, Values, claim, collecting, device, prove, send_signed, told, visit, with},
};

/// A purchase that the customer's server tells of, with the URL that the user has come by.
fn purchase(user_id: &str, query: &str, consent: &Value) -> Value {
    let mut event = json!({"type": "track", "event": "Order Completed", "userId": user_id,
        "context": {"page": {"url": format!("https://shop.example.com/{query}")}}});
    if !consent.is_null() {
        event["context"]["consent"] = consent.clone();
    }
    event
}

#[tokio::test]
async fn a_click_in_a_signed_call_that_names_no_browser_is_the_user_s() {
    let world = collecting().await;
    let people = People::of(&world);
    send_signed(&world, &purchase("anna", "?gclid=denied", &Value::Null)).await;
    assert!(told(&world, &people, named(user("anna"))).await.is_empty(), "nothing grants it");
    send_signed(&world, &purchase("anna", "?gclid=click-of-mail", &granted())).await;
    let person = people.lookup(user("anna")).await.unwrap();
    let [own] = &person.identifiers[..] else { panic!("{person:?}") };
    assert_eq!((own.kind.as_str(), own.value.as_str(), own.via.as_str()), ("user_id", "anna", "signed"));
    for ids in [&own.vendor_ids, &person.vendor_ids] {
        let owner = |id: &VendorId| (id.value.clone(), id.anonymous_id.clone(), id.user_id.clone());
        let expected = ("click-of-mail".to_owned(), None, Some("anna".to_owned()));
        assert_eq!(ids.values().map(owner).collect::<Vec<_>>(), [expected]);
    }

    // It counts as much as the tie of the user, which is by a proof.
    let (mut phone, mut laptop) = (world.browser(), world.browser());
    visit(&mut phone, "?gclid=click-of-phone").await;
    visit(&mut laptop, "?gclid=click-of-laptop").await;
    send_signed(&world, &purchase("anna", "?gclid=second-click-of-mail", &granted())).await;
    prove(&world, &mut phone, "anna", Proof::UserHash).await;
    claim(&mut laptop, "anna").await;
    let clicks = async || {
        let mut clicks = Vec::new();
        for id in [device(&phone), device(&laptop), user("anna")] {
            clicks.push(told(&world, &people, named(id)).await["gclid"].clone());
        }
        clicks
    };
    assert_eq!(clicks().await, ["second-click-of-mail"; 3], "the last one, of those with a proof");
    visit(&mut laptop.clone(), "?gclid=second-click-of-laptop").await;
    let mail = "second-click-of-mail";
    assert_eq!(clicks().await, [mail, "second-click-of-laptop", mail]);
    assert_sound(&world).await;
}

#[tokio::test]
async fn what_a_user_has_brought_stays_with_the_user_when_a_browser_goes() {
    let world = collecting().await;
    let people = People::of(&world);
    let mut phone = world.browser();
    visit(&mut phone, "").await;
    let of_phone = told(&world, &people, named(device(&phone))).await;
    send_signed(&world, &purchase("anna", "?gclid=click-of-mail", &granted())).await;
    claim(&mut phone, "anna").await;
    let of_both = with(&of_phone, [("gclid", "click-of-mail")]);
    for id in [device(&phone), user("anna")] {
        assert_eq!(told(&world, &people, named(id)).await, of_both);
    }
    let merge = people.lookup(user("anna")).await.unwrap().merges[0].merge_id.clone();
    people.unmerge(0, &merge).await.unwrap();
    assert_eq!(told(&world, &people, named(device(&phone))).await, of_phone);
    assert_eq!(
        told(&world, &people, named(user("anna"))).await,
        with(&Values::new(), [("gclid", "click-of-mail")])
    );
    people.delete(1, user("anna")).await.unwrap();
    assert!(told(&world, &people, named(user("anna"))).await.is_empty());
    assert_eq!(world.database.count("vendor_ids", "owner_kind = 1").await, 0);
    assert_sound(&world).await;
}

/// Silence grants where the pipeline says so; then the call needs no consent of its own.
#[tokio::test]
async fn where_silence_grants_the_call_needs_to_say_nothing_of_consent() {
    let world = World::start().await;
    let other = world.another_customer("implicit").await;
    let people = People::in_org(&world, &other.org_id.to_string());
    let mut server = world.browser_of(&other);
    server.origin = None;
    for (query, consent) in [
        ("?epik=first", Value::Null),
        ("?epik=second", json!({"marketing": false})),
        ("?epik=third", json!({"us_privacy": "1YYN"})),
    ] {
        let body = json!({"batch": [purchase("anna", query, &consent)]}).to_string();
        let request = server.request(Method::POST, "/v1/batch").bearer_auth(&server.key);
        let request = request.header("x-datafly-signature", sign(&other.server_secret, &body));
        assert_accepted(&server.send(request.body(body)).await, 1);
    }
    let told = people.delivered(user("anna")).await.vendor_ids;
    assert_eq!(told["epik"].value, "first", "what is denied is not collected");
    assert_eq!(people.canonical(browser("anna")).await, "", "a user is no browser");
}
