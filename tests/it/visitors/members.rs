//! Members of events as SDKs send them: what can't be used costs the event nothing else, and is told.

use harness::{
    answers::assert_accepted,
    browser::Answer,
    people::named,
    signature::sign,
    visits::granted,
    world::{Options, World},
};
use proto::v1::{VendorIdsRequest, identity_ref::Id};
use reqwest::Method;
use serde_json::{Value, json};

/// Warnings of an answer, each as index, code and message.
fn warnings(answer: &Answer) -> Vec<(u64, String, String)> {
    let body = answer.json();
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{body}")).to_owned();
    let all = body["warnings"].as_array().into_iter().flatten();
    all.map(|one| (one["index"].as_u64().unwrap(), text(&one["code"]), text(&one["message"]))).collect()
}

fn left_out(index: u64, message: &str) -> (u64, String, String) {
    (index, "MEMBER_LEFT_OUT".to_owned(), message.to_owned())
}

async fn canonical_of_user(world: &World, user: &str) -> String {
    let request = VendorIdsRequest {
        org_id: world.customer.org_id.to_string(),
        identities: vec![named(Id::UserId(user.to_owned()))],
        fields: Vec::new(),
        ..VendorIdsRequest::default()
    };
    let known = world.internal().resolve().vendor_ids(request).await.unwrap().into_inner().identities;
    known.into_iter().next().unwrap().canonical_id
}

/// PHP writes an empty map as `[]`, databases have numbers for IDs, and what identity does not use is anybody's.
#[tokio::test]
async fn another_json_type_costs_no_event() {
    let world = World::start().await;
    let mut browser = world.browser();
    let aid = browser.aid().to_owned();
    let events = json!([
        {"type": "page", "anonymousId": aid, "properties": [], "traits": [], "context": []},
        {"type": "page", "anonymousId": aid, "context": {"page": [], "consent": granted()}},
        {"type": 1, "event": {"a": 1}, "name": [7], "properties": "x", "anonymousId": aid},
        {"type": "identify", "anonymousId": aid, "userId": 4711, "traits": {"phone": 12025550143_u64}},
        {"type": "identify", "anonymousId": aid, "userId": "4711", "traits": {"email_sha256": "", "email": null}},
        {"type": "identify", "anonymousId": aid, "userId": "", "traits": {"email": "  "}},
    ]);
    let answer = browser.batch(&events).await;
    assert_accepted(&answer, 6);
    assert_eq!(warnings(&answer), []);
    assert_eq!(answer.offered(), ["pinterest"], "the consent counts");
    let known = world.vendor_ids(&aid).await.canonical_id;
    assert_eq!(canonical_of_user(&world, "4711").await, known, "a number is its own text");
    assert_eq!(world.database.count("links", "true").await, 2);
}

#[tokio::test]
async fn what_can_not_be_used_is_named_and_the_event_counts() {
    let world = World::start().await;
    let mut browser = world.browser();
    let aid = browser.aid().to_owned();
    let long = "a".repeat(2000);
    let events = json!([
        {"type": "identify", "anonymousId": aid, "userId": {"id": 7}, "traits": {"email": 7, "phone": 1.5}},
        {"type": "identify", "anonymousId": aid, "traits": {"email_sha256": "abc", "email": long}},
        {"type": "identify", "anonymousId": aid, "userId": "one", "user_id": "two"},
        {"type": "page", "anonymousId": aid, "context": {"page": "https://shop.example.com/", "reset": 0}},
        {"type": "page", "anonymousId": "a".repeat(129), "userId": "anna"},
        {"type": "page", "anonymousId": aid, "userId": "undefined"},
    ]);
    let answer = browser.batch(&events).await;
    assert_accepted(&answer, 6);
    let expected = [
        left_out(0, "traits.email must be text"),
        left_out(0, "traits.phone must be text or an integer"),
        left_out(0, "userId must be text or an integer"),
        left_out(1, "traits.email is over 1,024 bytes"),
        left_out(1, "traits.email_sha256 must be 64 hex digits"),
        left_out(2, "userId comes twice, with two values"),
        left_out(3, "context.page must be an object"),
        left_out(3, "context.reset must be true or false; anything but a way to say no counts as true"),
        left_out(4, "anonymousId is over 128 bytes"),
        (5, "PLACEHOLDER".to_owned(), "userId is a placeholder".to_owned()),
    ];
    assert_eq!(warnings(&answer), expected);
    for nobody in ["one", "two", "7", "undefined"] {
        assert_eq!(canonical_of_user(&world, nobody).await, "", "{nobody}");
    }
    let answer = browser.post("/v1/i", json!({"anonymousId": aid, "traits": 7}).to_string()).await;
    assert_accepted(&answer, 1);
    assert_eq!(warnings(&answer), [left_out(0, "traits must be an object")]);
    let answer = browser.view(&Value::Null).await;
    assert!(answer.json().get("warnings").is_none(), "{}", answer.text());
}

/// A browser always is somebody; a server's event that names nobody can't be taken.
#[tokio::test]
async fn an_event_is_lost_where_nothing_is_left_to_know_it_by() {
    let world = World::start().await;
    let mut browser = world.browser();
    let unusable = json!({"type": "page", "anonymousId": {"id": 7}, "userId": [1]});
    let answer = browser.batch(&json!([unusable])).await;
    assert_accepted(&answer, 1);
    let minted = answer.json()["anonymous_id"].as_str().unwrap().to_owned();
    assert!(uuid::Uuid::try_parse(&minted).is_ok(), "{minted}");
    let again = browser.batch(&json!([unusable, {"anonymousId": "a".repeat(200)}])).await;
    assert_accepted(&again, 2);
    assert_eq!(again.json()["anonymous_id"], json!(minted), "by the cookie");
    assert_eq!(warnings(&again).len(), 3);
    let mut stranger = world.browser();
    let answer = stranger.batch(&json!([{"anonymousId": "a".repeat(200)}])).await;
    assert_eq!(answer.json()["errors"][0]["code"], "INVALID_IDENTIFIER", "{}", answer.text());

    let body = json!({"batch": [unusable, {"anonymousId": 7, "userId": {}}]}).to_string();
    let mut server = world.browser();
    server.origin = None;
    let request = server.request(Method::POST, "/v1/batch").bearer_auth(&server.key);
    let request = request.header("x-datafly-signature", sign(&world.customer.server_secret, &body));
    let answer = server.send(request.body(body)).await.json();
    assert_eq!(answer["accepted"], json!(1), "{answer}");
    let error = json!({"index": 0, "code": "INVALID_IDENTIFIER",
        "message": "anonymousId must be text or an integer."});
    assert_eq!(answer["errors"], json!([error]));
    assert_eq!(answer["warnings"][0]["message"], "userId must be text or an integer");
}

/// Consent that can't be read may have been a denial, and silence would grant.
#[tokio::test]
async fn consent_that_can_not_be_read_denies_and_the_event_counts() {
    let world = World::with(Options { consent_mode: "implicit", ..Options::default() }).await;
    for consent in [
        format!(r#"{{"marketing":true,"tcf":"{}"}}"#, "C".repeat(9000)),
        r#"{"marketing":true},"consent":{"marketing":false}"#.to_owned(),
        r#""granted""#.to_owned(),
        "true".to_owned(),
    ] {
        let mut browser = world.browser();
        let event = format!(r#"{{"anonymousId":"{}","context":{{"consent":{consent}}}}}"#, browser.aid());
        let answer = browser.post("/v1/p", event).await;
        assert_accepted(&answer, 1);
        assert_eq!(answer.offered(), [""; 0], "{consent}");
        let told = warnings(&answer);
        assert_eq!((told.len(), told[0].1.as_str()), (1, "CONSENT_NOT_UNDERSTOOD"), "{told:?}");
        assert!(told[0].2.starts_with("context.consent "), "{told:?}");
        assert_eq!(browser.get(&browser.sync_url("pinterest")).await.status, 204, "{consent}");
    }
    let mut browser = world.browser();
    let answer = browser.view(&json!([])).await;
    assert_eq!(
        (answer.offered(), warnings(&answer)),
        (vec!["pinterest".to_owned()], vec![]),
        "PHP's empty map"
    );
}

/// Segment's HTTP API merges the batch's own context into each item, whose own members win.
#[tokio::test]
async fn a_batch_s_own_context_is_that_of_each_of_its_events() {
    let world = World::start().await;
    let mut browser = world.browser();
    let ids = ["one", "two", "three"];
    let body = json!({
        "sentAt": 7,
        "batch": [
            {"anonymousId": "one"},
            {"anonymousId": "two", "context": {"consent": {"marketing": false}}},
            {"anonymousId": "three", "context": {"page": {"title": "x"}}},
        ],
        "context": {"consent": granted(), "reset": true, "traits": 7},
    });
    let answer = browser.post("/v1/batch", body.to_string()).await;
    assert_accepted(&answer, 3);
    assert_eq!(warnings(&answer), [left_out(0, "context.traits must be an object")]);
    for (id, consent) in ids.into_iter().zip([granted(), json!({"marketing": false}), granted()]) {
        let stored = world.vendor_ids(id).await.consent.and_then(|consent| consent.json);
        assert_eq!(stored, Some(consent.to_string()), "{id}");
    }
}

/// An answer that nobody can read takes no lease.
#[tokio::test]
async fn who_wants_no_syncs_or_can_not_read_the_answer_is_offered_none() {
    let world = World::start().await;
    let mut browser = world.browser();
    let view = browser.page_view(&granted());
    let body = json!({"batch": [view], "syncs": false}).to_string();
    let answer = browser.post("/v1/batch", body).await;
    assert_accepted(&answer, 1);
    assert_eq!(answer.offered(), [""; 0], "asked for none");
    let mut single = view.clone();
    single["syncs"] = json!(false);
    assert_eq!(browser.post("/v1/p", single.to_string()).await.offered(), [""; 0], "asked for none");
    let beacon = format!("/v1/batch?pipeline_key={}", browser.key);
    let request = browser.request(Method::POST, &beacon).header("sec-fetch-mode", "no-cors");
    let answer = browser.send(request.body(json!({"batch": [view]}).to_string())).await;
    assert_accepted(&answer, 1);
    assert_eq!(answer.offered(), [""; 0], "a beacon's answer is read by nobody");
    assert_eq!(browser.batch(&json!([view])).await.offered(), ["pinterest"], "no lease was taken");
}
