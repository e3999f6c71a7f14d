//! When a signed call was signed: replays bring nobody back who was erased, and move no device.

use std::time::Duration;

use harness::{
    answers::assert_accepted,
    browser::{Answer, Browser},
    eventually,
    people::{People, browser, user},
    signature::sign,
    system::now,
    visits::granted,
    within,
    world::World,
};
use reqwest::Method;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A customer's server, which signs what it sends.
struct Server {
    http: Browser,
    secret: String,
}

impl Server {
    fn of(world: &World) -> Self {
        let mut http = world.browser();
        http.origin = None;
        Self { http, secret: world.customer.server_secret.clone() }
    }

    /// Sends one event, with the time of signing in the header where there is one.
    async fn send(&mut self, event: &Value, at: Option<OffsetDateTime>) -> Answer {
        self.post("/v1/batch", json!({"batch": [event]}).to_string(), at).await
    }

    async fn post(&mut self, path: &str, body: String, at: Option<OffsetDateTime>) -> Answer {
        let request = self.http.request(Method::POST, path).bearer_auth(&self.http.key);
        let request = match at.map(|at| at.unix_timestamp().to_string()) {
            None => request.header("x-datafly-signature", sign(&self.secret, &body)),
            Some(at) => request
                .header("x-datafly-signature", sign(&self.secret, &format!("{at}.{body}")))
                .header("x-datafly-timestamp", at),
        };
        self.http.send(request.body(body)).await
    }
}

/// A login on the tablet that tells its own time, and has no message ID.
fn login(user: &str, at: Option<OffsetDateTime>) -> Value {
    let timestamp = at.map(|at| at.format(&Rfc3339).unwrap());
    json!({"type": "identify", "anonymousId": "tablet", "userId": user, "timestamp": timestamp})
}

#[track_caller]
fn assert_erased(answer: &Answer, stamped: bool) {
    let error = &answer.json()["errors"][0];
    assert_eq!(error["code"], json!("ERASED"), "{}", answer.text());
    let message = error["message"].as_str().unwrap();
    assert_eq!(message.contains("X-Datafly-Timestamp"), !stamped, "{message}");
}

/// Waits until what is signed from now on is not of the second in which something was done.
async fn next_second() {
    let done = now();
    eventually("the next second", async || {
        if now().unix_timestamp() > done.unix_timestamp() + 1 { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
}

#[tokio::test]
async fn a_replayed_message_moves_no_device_back() {
    let world = World::start().await;
    let people = People::of(&world);
    let mut server = Server::of(&world);
    let tablet = async || people.canonical(browser("tablet")).await;
    let message = |user: &str, id: &str| json!({"type": "identify", "anonymousId": "tablet", "userId": user, "messageId": id});
    let at = Some(now());
    assert_accepted(&server.send(&message("anna", "m1"), at).await, 1);
    let anna = tablet().await;
    assert_accepted(&server.send(&message("bert", "m2"), at).await, 1);
    let bert = tablet().await;
    assert_ne!(anna, bert);
    assert_accepted(&server.send(&message("anna", "m1"), at).await, 1);
    assert_eq!(tablet().await, bert, "m1 has had its effect");
    assert_accepted(&server.send(&message("anna", "m3"), at).await, 1);
    assert_eq!(tablet().await, anna);
}

#[tokio::test]
async fn a_signed_event_moves_no_device_that_somebody_has_used_since() {
    let world = World::start().await;
    let people = People::of(&world);
    let mut server = Server::of(&world);
    let tablet = async || people.lookup(browser("tablet")).await.unwrap();
    let has = async |user: &str| {
        let found = tablet().await.identifiers;
        assert!(found.iter().any(|id| id.value == user), "{user}: {found:?}");
    };
    // Queued for long, and out of order.
    let ago = |minutes| Some(now() - time::Duration::minutes(minutes));
    let (first, second, late) = (login("anna", ago(90)), login("bert", ago(60)), login("carl", ago(70)));
    assert_accepted(&server.send(&first, None).await, 1);
    has("anna").await;
    assert_accepted(&server.send(&second, None).await, 1);
    has("bert").await;
    for old in [&first, &late] {
        assert_accepted(&server.send(old, None).await, 1);
        has("bert").await;
    }
    assert_ne!(people.canonical(user("carl")).await, "", "who is there all the same");
    let mut logout = login("bert", ago(65));
    logout["userId"] = Value::Null;
    logout["context"] = json!({"reset": true});
    assert_accepted(&server.send(&logout, None).await, 1);
    has("bert").await;
    let refusals = tablet().await.refusals;
    assert!(refusals.iter().any(|one| one.reason().as_str_name().ends_with("OUTDATED")), "{refusals:?}");

    // A page's login counts from now on: what a server has signed before does not undo it.
    let mut page = world.browser();
    page.anonymous_id = Some("tablet".to_owned());
    let mut event = page.page_view(&granted());
    event["userId"] = json!("dora");
    assert_accepted(&page.batch(&json!([event])).await, 1);
    has("dora").await;
    assert_accepted(&server.send(&login("bert", ago(1)), None).await, 1);
    has("dora").await;
    next_second().await;
    assert_accepted(&server.send(&login("bert", Some(now())), None).await, 1);
    has("bert").await;
    // The header's time counts before the event's own.
    next_second().await;
    assert_accepted(&server.send(&login("anna", ago(90)), Some(now())).await, 1);
    has("anna").await;
}

/// What does not say when it was signed is known again by itself, for as long as anybody is.
#[tokio::test]
async fn an_unstamped_event_moves_a_device_once_in_four_hundred_days() {
    let world = World::start().await;
    let people = People::of(&world);
    let mut server = Server::of(&world);
    let tablet = async || people.canonical(browser("tablet")).await;
    for user in ["anna", "bert"] {
        assert_accepted(&server.send(&login(user, None), None).await, 1);
    }
    let bert = tablet().await;
    assert_accepted(&server.send(&login("anna", None), None).await, 1);
    assert_eq!(tablet().await, bert, "sent again, to the letter");
    let mut other = login("anna", None);
    other["properties"] = json!({"visit": 2});
    assert_accepted(&server.send(&other, None).await, 1);
    assert_ne!(tablet().await, bert, "another event");
    assert_accepted(&server.send(&login("bert", None), None).await, 1);
    let anna = tablet().await;
    assert_ne!(anna, bert);

    let month = |days: u16| format!("date_trunc('month', (now() - interval '{days} days')::timestamp)::date");
    let (kept, over) = (month(399), month(432));
    world
        .database
        .execute(&format!(
            "SELECT keep_used_proofs({kept}), keep_used_proofs({over}); UPDATE used_proofs SET month = {kept}; \
             INSERT INTO used_proofs SELECT org_id, sha256(digest), {over} FROM used_proofs"
        ))
        .await;
    within(Duration::from_secs(120), "the reaper", async || {
        let partitions = "SELECT min(relid::text) FROM pg_partition_tree('used_proofs') WHERE isleaf";
        let first = world.database.text(partitions).await;
        let over = world.database.text(&format!("SELECT 'used_proofs_' || to_char({over}, 'YYYY_MM')")).await;
        if first > over { Ok(()) } else { Err(format!("{first} is left")) }
    })
    .await;
    assert_accepted(&server.send(&login("bert", None), None).await, 1);
    assert_eq!(tablet().await, anna, "an old one moves nobody");
}

#[tokio::test]
async fn a_call_signed_before_an_erasure_brings_nobody_back() {
    let world = World::start().await;
    let people = People::of(&world);
    let mut server = Server::of(&world);
    let event = json!({"type": "identify", "anonymousId": "tablet", "userId": "anna", "messageId": "m1"});
    let before = now() - time::Duration::minutes(1);
    assert_accepted(&server.send(&event, Some(before)).await, 1);
    let own = login("anna", Some(before));
    assert_accepted(&server.send(&own, None).await, 1);
    people.delete(0, user("anna")).await.unwrap();
    for (event, at) in [(&event, Some(before)), (&own, None)] {
        assert_erased(&server.send(event, at).await, true);
    }
    // Neither does one that does not say it, or says a time that is none or to come.
    let ahead = login("anna", Some(now() + time::Duration::minutes(30)));
    let mut odd = login("anna", None);
    odd["timestamp"] = json!("yesterday");
    for unstamped in [&event, &login("anna", None), &ahead, &odd] {
        assert_erased(&server.send(unstamped, None).await, false);
    }
    assert_eq!(world.database.count("links", "true").await, 0);
    let other = json!({"type": "identify", "anonymousId": "phone", "userId": "bert"});
    assert_accepted(&server.send(&other, None).await, 1);

    // What is signed afterwards, by a clock of whole seconds, is a stranger's; so is what a page sends.
    next_second().await;
    assert_accepted(&server.send(&event, Some(now())).await, 1);
    assert_accepted(&server.send(&login("anna", Some(now())), None).await, 1);
    let stranger = people.canonical(browser("tablet")).await;
    assert_ne!(stranger, "");
    // The older calls are as old as before, though all whom they name are known again.
    let late = json!({"type": "identify", "anonymousId": "tablet", "userId": "anna", "messageId": "m2"});
    assert_erased(&server.send(&late, Some(before - time::Duration::minutes(1))).await, true);
    assert_erased(&server.send(&own, None).await, true);
    assert_erased(&server.send(&late, None).await, false);
    let mut page = world.browser();
    page.anonymous_id = Some("tablet".to_owned());
    assert_accepted(&page.view(&granted()).await, 1);
    assert_eq!(people.canonical(browser("tablet")).await, stranger);
}

#[tokio::test]
async fn a_source_that_requires_stamps_takes_no_signature_without() {
    let world = World::start().await;
    let source = world.customer.source_id;
    world
        .database
        .execute(&format!("UPDATE sources SET require_timestamp = true WHERE id = '{source}'"))
        .await;
    let mut server = Server::of(&world);
    let jar = server.http.collect.clone();
    server.http.jar.set(&jar, "_dfid", "tablet");
    let event = login("anna", Some(now()));
    let refused = eventually("it to be required", async || {
        let answer = server.send(&event, None).await;
        if answer.status == 401 { Ok(answer) } else { Err(format!("HTTP {}", answer.status)) }
    })
    .await;
    assert_eq!(refused.code(), "INVALID_SIGNATURE");
    assert!(refused.text().contains("timestamp"), "{}", refused.text());
    assert_eq!(server.post("/v1/link", String::new(), None).await.status, 401);
    assert_accepted(&server.send(&event, Some(now())).await, 1);
    assert_eq!(server.post("/v1/link", String::new(), Some(now())).await.status, 200);
    assert_accepted(&world.browser().view(&granted()).await, 1);
}
