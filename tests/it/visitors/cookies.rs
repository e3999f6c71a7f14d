//! The visitor's cookie and the state cookie, as browsers see them.

use harness::{
    answers::assert_accepted,
    browser::Answer,
    signature::sign,
    visits::{granted, make_due},
    world::{Options, World},
};
use reqwest::Method;
use serde_json::{Value, json};

/// The attributes of a cookie in an answer, sorted, with its value left out.
#[track_caller]
fn attributes(answer: &Answer, name: &str) -> Vec<String> {
    let prefix = format!("{name}=");
    let cookies: Vec<String> = answer.set_cookies().into_iter().filter(|c| c.starts_with(&prefix)).collect();
    assert_eq!(cookies.len(), 1, "{name} once: {:?}", answer.set_cookies());
    let mut attributes: Vec<String> =
        cookies[0].split(';').skip(1).map(|part| part.trim().to_ascii_lowercase()).collect();
    attributes.sort();
    attributes
}

#[tokio::test]
async fn on_a_loopback_host_the_visitor_s_cookie_is_lax_and_not_secure() {
    let world = World::start().await;
    let mut browser = world.browser();
    let answer = browser.view(&granted()).await;
    let attributes = attributes(&answer, "_dfid");
    assert_eq!(attributes, ["httponly", "max-age=34560000", "path=/", "samesite=lax"]);
    assert_eq!(browser.jar.value(&browser.collect, "_dfid"), Some(browser.aid()));
}

#[tokio::test]
async fn on_an_https_host_the_cookies_are_secure_and_carry_the_domain() {
    let world = World::with(Options { vendors: &["pinterest", "trade_desk"], ..Options::default() }).await;
    let source = world.customer.source_id;
    // In one transaction: the core must not see a source without any host.
    let sql = format!(
        "DELETE FROM collect_hosts WHERE source_id = '{source}'; \
         INSERT INTO collect_hosts (id, org_id, source_id, url, cookie_domain) VALUES \
         (gen_random_uuid(), '{}', '{source}', 'https://collect.example.com', 'example.com')",
        world.customer.org_id
    );
    world.database.execute(&sql).await;
    let mut browser = world.browser();
    let body = json!({"batch": [browser.page_view(&granted())]}).to_string();
    let answer = harness::eventually("the new host's cookie", async || {
        let request = browser.request(Method::POST, "/v1/batch").bearer_auth(&browser.key);
        let answer =
            browser.clone().send(request.header("host", "collect.example.com").body(body.clone())).await;
        let known = answer.set_cookies().iter().any(|cookie| cookie.contains("Domain=example.com"));
        if known { Ok(answer) } else { Err(format!("{:?}", answer.set_cookies())) }
    })
    .await;
    let expected = ["domain=example.com", "httponly", "max-age=34560000", "path=/", "samesite=lax", "secure"];
    assert_eq!(attributes(&answer, "_dfid"), expected);

    // From before the host had a domain the browser has another one, which would go on to be sent beside the new one.
    let request = browser.request(Method::POST, "/v1/batch").bearer_auth(&browser.key);
    let two = format!("_dfid=stale; _dfid={}", browser.aid());
    let request = request.header("host", "collect.example.com").header("cookie", two);
    let set = browser.clone().send(request.body(body)).await.set_cookies();
    let of_visitor: Vec<&String> = set.iter().filter(|cookie| cookie.starts_with("_dfid=")).collect();
    assert_eq!(of_visitor[0], "_dfid=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax");
    assert!(of_visitor.len() == 2 && of_visitor[1].contains("; Domain=example.com;"), "{set:?}");

    let url = browser.sync_url("trade_desk").replace(&browser.collect, "");
    let request = browser.request(Method::GET, &url).header("host", "collect.example.com");
    let redirect = browser.send(request).await;
    assert_eq!(redirect.status, 302, "{}", redirect.text());
    let expected = ["httponly", "max-age=600", "path=/v1/sync/trade_desk", "samesite=none", "secure"];
    assert_eq!(attributes(&redirect, "_dfs_trade_desk"), expected);

    let url = browser.sync_url("pinterest").replace(&browser.collect, "");
    let request = browser.request(Method::GET, &url).header("host", "collect.example.com");
    let redirect = browser.send(request).await;
    let location = redirect.header("location").unwrap_or_default().to_owned();
    assert!(
        location.contains("https%3A%2F%2Fcollect.example.com%2Fv1%2Fsync%2Fpinterest%2Fcallback"),
        "{location}"
    );
    assert!(
        redirect.set_cookies().is_empty(),
        "no cookie but for registered vendors: {:?}",
        redirect.set_cookies()
    );
}

#[tokio::test]
async fn the_callback_s_base_never_comes_from_the_request() {
    let world = World::start().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    let url = browser.sync_url("pinterest").replace(&browser.collect, "");
    let request = browser.request(Method::GET, &url).header("host", "evil.example");
    let answer = browser.send(request).await;
    let location = answer.header("location").unwrap_or_default();
    assert!(!location.contains("evil"), "{} {location}", answer.status);
}

#[tokio::test]
async fn a_cookie_that_differs_is_linked_and_rewritten() {
    let world = World::start().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    let first = browser.aid().to_owned();
    let canonical = world.vendor_ids(&first).await.canonical_id;

    // The page's storage was cleared; the cookie stayed.
    browser.anonymous_id = Some("second-id".to_owned());
    let answer = browser.view(&Value::Null).await;
    assert_accepted(&answer, 1);
    assert_eq!(answer.json()["anonymous_id"], json!("second-id"), "the event's counts");
    assert_eq!(browser.jar.value(&browser.collect, "_dfid"), Some("second-id"));
    assert_eq!(world.vendor_ids("second-id").await.canonical_id, canonical, "the device is recognised");
    assert_eq!(world.vendor_ids(&first).await.canonical_id, canonical);

    // A logout: a new person on the same device.
    let mut event = browser.page_view(&Value::Null);
    event["anonymousId"] = json!("third-id");
    event["context"]["reset"] = json!(true);
    assert_accepted(&browser.batch(&json!([event])).await, 1);
    let third = world.vendor_ids("third-id").await.canonical_id;
    assert!(!third.is_empty() && third != canonical, "{third} is not a new person");
    assert_eq!(browser.jar.value(&browser.collect, "_dfid"), Some("third-id"));
}

#[tokio::test]
async fn a_cookie_of_the_site_with_other_bytes_than_ascii_hides_none_of_ours() {
    let world = World::with(Options { vendors: &["trade_desk"], ..Options::default() }).await;
    let mut browser = world.browser();
    browser.jar.set(&browser.collect.clone(), "A_name", "Jürgen");
    browser.anonymous_id = None;
    let first = browser.view(&granted()).await;
    assert_accepted(&first, 1);
    let again = browser.view(&granted()).await;
    assert_eq!(again.json()["anonymous_id"], first.json()["anonymous_id"], "the visitor is known by _dfid");
    // The state's cookie stands beside it as well.
    browser.anonymous_id = first.json()["anonymous_id"].as_str().map(str::to_owned);
    browser.sync("trade_desk").await;
    assert!(world.vendor_id(browser.aid(), "ttd_uid").await.is_some());
}

#[tokio::test]
async fn a_sync_for_another_visitor_than_the_cookie_s_is_refused() {
    let world = World::start().await;
    let (mut browser, mut other) = (world.browser(), world.browser());
    browser.view(&granted()).await;
    other.view(&granted()).await;
    let answer = browser.get(&other.sync_url("pinterest")).await;
    assert_eq!(answer.status, 204, "the cookie is {}'s, the image {}'s", browser.aid(), other.aid());

    let url = browser.sync_url("pinterest").replace(&browser.collect, "");
    let foreign = browser.request(Method::GET, &url).header("referer", "https://evil.example/page");
    assert_eq!(browser.send(foreign).await.status, 204, "fired from a foreign page");
    let own = browser.request(Method::GET, &url).header("referer", "https://shop.example.com/basket");
    assert_eq!(browser.send(own).await.status, 302, "fired from the customer's page");
    make_due(&world, &browser).await;
    let none = browser.request(Method::GET, &url).header("referer", "");
    assert_eq!(browser.send(none).await.status, 302, "an empty Referer names no page");
}

/// Browsers send a host's own cookie and its domain's side by side, in an order that says nothing.
#[tokio::test]
async fn of_two_cookies_the_one_that_the_image_is_for_counts() {
    let world = World::start().await;
    for (cookie, status) in [
        ("_dfid=; _dfid={aid}", 302),
        ("_dfid=other; _dfid={aid}", 302),
        ("_dfid={aid}; _dfid=other", 302),
        ("_dfid=other; _dfid=another", 204),
    ] {
        let mut browser = world.browser();
        browser.view(&granted()).await;
        browser.jar.clear();
        let url = browser.sync_url("pinterest").replace(&browser.collect, "");
        let request = browser.request(Method::GET, &url);
        let request = request.header("cookie", cookie.replace("{aid}", browser.aid()));
        assert_eq!(browser.send(request).await.status, status, "{cookie}");
    }
}

#[tokio::test]
async fn what_is_not_a_browser_gets_no_cookie() {
    let world = World::start().await;
    let mut server = world.browser();
    let body = json!({"batch": [server.page_view(&granted())]}).to_string();
    let signature = sign(&world.customer.server_secret, &body);
    server.origin = None;
    let request = server.request(Method::POST, "/v1/batch").bearer_auth(&server.key);
    let answer = server.send(request.header("x-datafly-signature", signature).body(body)).await;
    assert_accepted(&answer, 1);
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(answer.header("access-control-allow-origin"), None);
}
