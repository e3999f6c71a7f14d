//! Collect hosts: a key is obeyed at those of its own source, however they are spelled, and by no form.

use harness::{
    answers::{assert_accepted, assert_gif},
    browser::{Answer, Browser},
    eventually,
    seed::Customer,
    signature::sign,
    visits::granted,
    world::World,
};
use reqwest::Method;
use serde_json::json;

/// The neighbour's own host, which leads to the same edge.
const HOST: &str = "collect.other.example";

/// Another organisation, whose collect host is [`HOST`] alone, as a browser of a visitor on its page sees it.
async fn neighbour(world: &World) -> (Customer, Browser) {
    let key = &world.cluster.secrets.encryption_key;
    let mut database = world.database.connection().await.unwrap();
    let customer = Customer::seed(&mut database, key, "explicit", "other.example").await.unwrap();
    customer.add_sync(&mut database, "pinterest", 90, &world.vendors.endpoint("pinterest")).await.unwrap();
    customer.add_collect_host(&mut database, &format!("https://{HOST}")).await.unwrap();
    let mut browser = world.browser_of(&customer);
    eventually("the neighbour to be known", async || {
        let answer = at(&mut browser, HOST, "/v1/batch").await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    let fresh = world.browser_of(&customer);
    (customer, fresh)
}

/// A page view to `path` of the edge, under the name `host`.
async fn at(browser: &mut Browser, host: &str, path: &str) -> Answer {
    let event = browser.page_view(&granted());
    let body = if path == "/v1/batch" { json!({"batch": [event]}) } else { event };
    let request = browser.request(Method::POST, path).header("host", host).bearer_auth(&browser.key);
    browser.send(request.body(body.to_string())).await
}

#[track_caller]
fn assert_stray(answer: &Answer) {
    assert_eq!((answer.status, &*answer.code()), (421, "HOST_NOT_ALLOWED"), "{}", answer.text());
    assert_opens_nothing(answer);
}

/// Checks that no page may read the answer, that it sets no cookie and leads nowhere.
#[track_caller]
fn assert_opens_nothing(answer: &Answer) {
    let opens = |name: &str| name.starts_with("access-control") || name == "set-cookie" || name == "location";
    assert!(!answer.headers.keys().any(|name| opens(name.as_str())), "{:?}", answer.headers);
}

#[tokio::test]
async fn a_key_opens_no_host_of_another_organisation() {
    let world = World::start().await;
    let (other, mut attacker) = neighbour(&world).await;
    // A visitor of the shop, on a page of the neighbour's: their browser sends the shop's cookies along.
    let mut visitor = world.browser();
    assert_accepted(&visitor.view(&granted()).await, 1);
    let (aid, own) = (visitor.aid().to_owned(), attacker.collect.trim_start_matches("http://").to_owned());
    attacker.jar = visitor.jar.clone();
    for path in ["/v1/batch", "/v1/t", "/v1/p", "/v1/i", "/v1/link"] {
        let answer = at(&mut attacker, &own, path).await;
        assert_stray(&answer);
        assert!(!answer.text().contains(&aid), "{path}: {}", answer.text());
        // What is no browser has no more of a claim to it.
        let origin = attacker.origin.take();
        assert_stray(&at(&mut attacker, &own, path).await);
        attacker.origin = origin;
    }
    let image = attacker.sync_url("pinterest");
    let answer = attacker.get(&image).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert_opens_nothing(&answer);
    let preflight = attacker.request(Method::OPTIONS, "/v1/batch");
    let preflight = preflight.header("access-control-request-method", "POST");
    let answer = attacker.send(preflight).await;
    assert_eq!(answer.status, 204);
    assert_opens_nothing(&answer);
    assert_eq!(world.metric("datafly_key_checks_total", &[("outcome", "host")]).await, 11.0);
    assert_eq!(attacker.jar.value(&attacker.collect, "_dfid"), Some(&*aid), "nothing was planted");

    // A sync that began at the neighbour's host does not end at the shop's.
    attacker.jar.clear();
    assert_eq!(at(&mut attacker, HOST, "/v1/batch").await.status, 200);
    let begin = attacker.request(Method::GET, &attacker.sync_url("pinterest").replace(&attacker.collect, ""));
    let redirect = attacker.send(begin.header("host", HOST)).await;
    assert_eq!(redirect.status, 302, "{}", redirect.text());
    let vendors = attacker.get(redirect.header("location").unwrap()).await;
    let callback = vendors.header("location").unwrap().to_owned();
    let path =
        callback.strip_prefix(&format!("https://{HOST}")).expect("the neighbour's own host").to_owned();
    attacker.jar.clear();
    let failures = world.sync_failures("pinterest", "bad_state").await;
    assert_gif(&attacker.get(&format!("{}{path}", attacker.collect)).await);
    assert_eq!(world.sync_failures("pinterest", "bad_state").await, failures + 1.0);
    assert_eq!(world.database.count("vendor_ids", "true").await, 0);
    let end = attacker.request(Method::GET, &path).header("host", HOST);
    assert_gif(&attacker.send(end).await);
    assert_eq!(world.database.count("vendor_ids", "true").await, 1);

    // The neighbour's server shows its secret, and so may call by any name.
    let body = json!({"batch": [{"type": "track", "userId": "anna"}]}).to_string();
    let signature = sign(&other.server_secret, &body);
    let mut server = world.browser_of(&other);
    server.origin = None;
    let request = server.request(Method::POST, "/v1/batch").bearer_auth(&other.live_key);
    let answer = server.send(request.header("x-datafly-signature", signature).body(body)).await;
    assert_accepted(&answer, 1);
    assert!(answer.set_cookies().is_empty());
}

#[tokio::test]
async fn a_host_is_one_however_it_is_spelled() {
    let world = World::start().await;
    let (_, mut browser) = neighbour(&world).await;
    for host in [HOST, "Collect.OTHER.example", "collect.other.example.", "collect.other.example:443"] {
        let answer = at(&mut browser, host, "/v1/batch").await;
        assert_accepted(&answer, 1);
        assert!(answer.header("access-control-allow-origin").is_some(), "{host}");
        let preflight = browser.request(Method::OPTIONS, "/v1/batch").header("host", host);
        let answer = browser.send(preflight.header("access-control-request-method", "POST")).await;
        assert!(answer.header("access-control-allow-origin").is_some(), "{host}");
    }
    for host in ["collect.other.example:8443", "collect.other.example.evil.example", "other.example", "x"] {
        assert_stray(&at(&mut browser, host, "/v1/batch").await);
    }
}

#[tokio::test]
async fn a_form_of_another_site_is_no_event() {
    let world = World::start().await;
    let mut browser = world.browser();
    let event = json!({"type": "page", "anonymousId": "planted"});
    for path in ["/v1/batch", "/v1/t", "/v1/p", "/v1/i", "/v1/link", "/v1/enrich"] {
        let path = format!("{path}?pipeline_key={}", browser.key);
        let form = browser.request(Method::POST, &path).header("content-type", "text/plain");
        let form = form.header("sec-fetch-mode", "navigate").header("sec-fetch-site", "cross-site");
        let answer = browser.send(form.body(json!({"batch": [event]}).to_string())).await;
        assert_eq!((answer.status, &*answer.code()), (403, "NAVIGATION_REFUSED"), "{path}");
        assert_opens_nothing(&answer);
    }
    assert_eq!(world.database.count("canonicals", "true").await, 0, "nobody was planted");
    for mode in ["cors", "no-cors", "same-origin"] {
        let body = json!({"batch": [browser.page_view(&granted())]}).to_string();
        let request = browser.request(Method::POST, "/v1/batch").bearer_auth(&browser.key);
        assert_accepted(&browser.send(request.header("sec-fetch-mode", mode).body(body)).await, 1);
    }
}
