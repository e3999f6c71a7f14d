//! What an address may bring: bad signatures, returns from vendors, and visitors whom nobody knows yet.

use std::time::Instant;

use harness::{
    answers::assert_accepted,
    browser::{Answer, Browser},
    process::Service,
    signature::sign,
    visits::granted,
    world::{Options, World},
};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::support::{Counts, behind_proxy};

/// Requests that an address may have counted at once, and each second (`http-edge/src/throttle.rs`).
const BURST: usize = 500;
const PER_SECOND: f64 = 100.0;

/// Sends an event to an edge behind a proxy, from an address that the proxy names, signed where there is a signature.
async fn send(
    (client, edge, key): (&Client, &Service, &str),
    address: &str,
    signature: Option<String>,
    body: String,
) -> (u16, String) {
    let request = client.post(format!("http://{}/v1/t", edge.addr("http"))).bearer_auth(key);
    let request = request.header("x-forwarded-for", address).body(body);
    let request = match signature {
        Some(signature) => request.header("x-datafly-signature", signature),
        None => request,
    };
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_signatures_are_counted_though_somebody_signs_well() {
    const ATTEMPTS: usize = 2000;
    let world = World::start().await;
    let proxied = behind_proxy(&world).await;
    let (client, key) =
        (Client::builder().no_proxy().no_gzip().build().unwrap(), world.customer.live_key.clone());
    let body = json!({"type": "page", "anonymousId": Uuid::new_v4()}).to_string();
    let good = sign(&world.customer.server_secret, &body);
    let as_server = async |address: &str| {
        let (status, text) = send((&client, &proxied, &key), address, Some(good.clone()), body.clone()).await;
        assert_eq!(status, 200, "{text}");
    };
    // From the customer's own network, where the attacker is as well, and from elsewhere.
    for (attacker, server) in [("203.0.113.7", "203.0.113.7"), ("198.51.100.7", "203.0.113.8")] {
        as_server(server).await;
        let (began, mut senders) = (Instant::now(), JoinSet::new());
        for _ in 0..32 {
            let (client, key, body) = (client.clone(), key.clone(), body.clone());
            let url = format!("http://{}/v1/t", proxied.addr("http"));
            senders.spawn(async move {
                let mut counts = Counts::new();
                for _ in 0..ATTEMPTS / 32 {
                    let request = client.post(&url).bearer_auth(&key).header("x-forwarded-for", attacker);
                    let request = request.header("x-datafly-signature", format!("sha256={}", "0".repeat(64)));
                    let answer = request.body(body.clone()).send().await.unwrap();
                    *counts.entry(answer.status().as_u16()).or_default() += 1;
                }
                counts
            });
        }
        let mut counts = Counts::new();
        for (status, count) in senders.join_all().await.into_iter().flatten() {
            *counts.entry(status).or_default() += count;
        }
        // All who were under way when a good signature was followed by a bad one.
        let most = BURST as f64 + 33.0 + PER_SECOND * began.elapsed().as_secs_f64();
        assert!(counts[&401] as f64 <= most && counts[&429] > 0, "{attacker}: {counts:?}");
        as_server("203.0.113.9").await;
    }
    let judged = world.metric("datafly_key_checks_total", &[("outcome", "signature")]).await;
    assert!(judged < 2.0 * ATTEMPTS as f64, "{judged} signatures were looked at");
}

/// Events of new visitors, from an address that the proxy names.
async fn bring(world: &World, edge: &Service, address: &str, events: &Value, signed: bool) -> Answer {
    let collect = format!("http://{}", edge.addr("http"));
    let mut browser = Browser::new(&collect, &world.customer.live_key, &world.customer.origin);
    browser.origin = browser.origin.filter(|_| !signed);
    let body = json!({ "batch": events }).to_string();
    let mut request = browser.request(Method::POST, "/v1/batch").bearer_auth(&browser.key);
    request = request.header("x-forwarded-for", address);
    request = request.header("x-forwarded-host", world.cluster.edge.addr("http").to_string());
    if signed {
        request = request.header("x-datafly-signature", sign(&world.customer.server_secret, &body));
    }
    browser.send(request.body(body)).await
}

fn strangers(count: usize) -> Value {
    (0..count).map(|_| json!({"type": "page", "anonymousId": Uuid::new_v4()})).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_brings_so_many_new_visitors_and_known_ones_always() {
    /// Visitors that an address may bring at once (`limits/new_identities.rs`).
    const NEW_AT_ONCE: f64 = 1000.0;
    let (address, other) = ("2001:db8:1:1::1", "2001:db8:1:2::1");
    let world = World::start().await;
    let proxied = behind_proxy(&world).await;
    let known = json!({"type": "page", "anonymousId": "known", "context": {"consent": granted()}});
    assert_accepted(&bring(&world, &proxied, address, &json!([known]), false).await, 1);
    let (began, mut brought) = (Instant::now(), 1);
    let refused = loop {
        // Another address of the same network each time.
        let address = format!("2001:db8:1:1::{brought:x}");
        let answer = bring(&world, &proxied, &address, &strangers(500), false).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        if answer.json()["accepted"] == json!(0) {
            break answer;
        }
        assert_accepted(&answer, 500);
        brought += 500;
        assert!(brought as f64 <= NEW_AT_ONCE + PER_SECOND * began.elapsed().as_secs_f64(), "{brought}");
    };
    let errors = refused.json()["errors"].as_array().unwrap().clone();
    assert!(
        errors.iter().all(|error| error["code"] == "RATE_LIMITED" && error["retry"] == json!(true)),
        "{errors:?}"
    );
    assert_eq!(world.database.count("links", "kind = 0").await, i64::from(brought), "refused ones were made");
    // Of a batch those whom nobody knows are refused, and the others are not.
    let mut mixed = strangers(499);
    mixed.as_array_mut().unwrap().push(known);
    let answer = bring(&world, &proxied, address, &mixed, false).await;
    assert!(answer.json()["accepted"].as_u64().unwrap() >= 1, "{}", answer.text());
    assert_accepted(&bring(&world, &proxied, other, &strangers(500), false).await, 500);
    assert_accepted(&bring(&world, &proxied, address, &strangers(500), true).await, 500);
    let throttled = world.metric("datafly_new_identities_throttled_total", &[]).await;
    assert!(throttled >= 1.0, "{throttled}");
}

/// A visitor whom Redis has forgotten is not new.
#[tokio::test]
async fn who_is_stored_costs_an_address_nothing() {
    let world = World::start().await;
    let proxied = behind_proxy(&world).await;
    let visitors = strangers(500);
    for _ in 0..5 {
        assert_accepted(&bring(&world, &proxied, "203.0.113.7", &visitors, false).await, 500);
        world.flush_redis().await;
    }
    assert_eq!(world.metric("datafly_new_identities_throttled_total", &[]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn returns_from_vendors_are_counted_by_address() {
    let world = World::start().await;
    let began = Instant::now();
    let url = format!("{}/v1/sync/pinterest/callback?state=forged&uid=x", world.cluster.collect_url());
    let client = Client::builder().no_proxy().no_gzip().build().unwrap();
    let mut senders = JoinSet::new();
    for _ in 0..32 {
        let (client, url) = (client.clone(), url.clone());
        senders.spawn(async move {
            for _ in 0..2000 / 32 {
                assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
            }
        });
    }
    senders.join_all().await;
    let asked = world.sync_failures("pinterest", "bad_state").await;
    assert!(asked <= BURST as f64 + 1.0 + PER_SECOND * began.elapsed().as_secs_f64(), "{asked} of 2000");
    assert!(asked >= BURST as f64, "{asked} of 2000");
}

#[tokio::test]
async fn a_page_of_nothing_but_images_sends_an_address_to_a_vendor_once() {
    let world = World::with(Options { consent_mode: "implicit", ..Options::default() }).await;
    let proxied = behind_proxy(&world).await;
    let client =
        Client::builder().no_proxy().no_gzip().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let sync = async |address: &str| {
        let (key, aid) = (&world.customer.live_key, Uuid::new_v4());
        let edge = proxied.addr("http");
        let url = format!("http://{edge}/v1/sync/pinterest?pipeline_key={key}&aid={aid}&partner_id=1");
        let host = world.cluster.edge.addr("http").to_string();
        let request = client.get(url).header("x-forwarded-for", address).header("host", host);
        request.send().await.unwrap().status().as_u16()
    };
    for (address, status) in
        [("203.0.113.7", 302), ("203.0.113.7", 204), ("203.0.113.8", 302), ("203.0.113.7", 204)]
    {
        assert_eq!(sync(address).await, status, "{address}");
    }
    let refused = [("vendor", "pinterest"), ("reason", "not_due")];
    assert_eq!(world.metric("datafly_sync_refused_total", &refused).await, 2.0);
}
