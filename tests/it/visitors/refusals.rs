//! Requests that are refused whole, and events that are refused alone.

use std::time::{Duration, Instant};

use harness::{
    answers::assert_accepted,
    browser::{Answer, Browser},
    eventually,
    visits::granted,
    world::World,
};
use reqwest::Method;
use serde_json::{Value, json};

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, code: &str, what: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{what}");
}

/// Sends a batch whose Authorization header is given as a whole.
async fn with_authorization(browser: &mut Browser, value: Option<&str>) -> Answer {
    let body = json!({"batch": [browser.page_view(&granted())]}).to_string();
    let mut request = browser.request(Method::POST, "/v1/batch").body(body);
    if let Some(value) = value {
        request = request.header("authorization", value);
    }
    browser.send(request).await
}

#[tokio::test]
async fn keys_that_open_nothing() {
    let world = World::start().await;
    let mut browser = world.browser();
    let long = format!("Bearer dk_live_{}", "k".repeat(4096));
    let basic = format!("Basic {}", browser.key);
    let cut = format!("Bearer {}", &browser.key[..browser.key.len() - 1]);
    for value in [
        None,
        Some("Bearer"),
        Some("Bearer "),
        Some(&*basic),
        Some("Bearer dk_live_unknown"),
        Some(&*long),
        Some(&*cut),
    ] {
        let answer = with_authorization(&mut browser, value).await;
        assert_refused(&answer, 401, "INVALID_PIPELINE_KEY", &format!("{value:?}"));
    }
    let beacon = format!("/v1/batch?pipeline_key={}", browser.key);
    let body = json!({"batch": [browser.page_view(&granted())]}).to_string();
    let request = browser.request(Method::POST, &beacon).header("content-type", "text/plain").body(body);
    assert_accepted(&browser.send(request).await, 1);
    // The page of a site behind a password sends its own Authorization with everything.
    let body = json!({"batch": [browser.page_view(&granted())]}).to_string();
    let request = browser.request(Method::POST, &beacon).header("authorization", "Basic c3RhZ2luZzpwdw==");
    assert_accepted(&browser.send(request.body(body)).await, 1);
    for key in ["", "dk_live_unknown"] {
        let url = browser.sync_url("pinterest").replace(&browser.key, key);
        assert_eq!(browser.get(&url).await.status, 401, "an image with the key {key:?}");
    }
}

#[tokio::test]
async fn a_revoked_key_is_refused_within_a_second() {
    let world = World::start().await;
    let mut browser = world.browser();
    assert_accepted(&browser.view(&granted()).await, 1);
    world.database.execute("UPDATE pipeline_keys SET revoked_at = now() WHERE environment = 'live'").await;
    let revoked = Instant::now();
    eventually("the key to be refused", async || match browser.view(&granted()).await.status {
        401 => Ok(()),
        status => Err(format!("HTTP {status}")),
    })
    .await;
    // Four times the second that is promised, for a machine that runs other tests as well.
    assert!(revoked.elapsed() < Duration::from_secs(4), "after {:?}", revoked.elapsed());
    assert_eq!(browser.get(&browser.sync_url("pinterest")).await.status, 401);
}

/// Origins that may not call where a source has those of [`DOMAINS`]: they differ from one in scheme, host or
/// port, or only look like one.
const FOREIGN: [&str; 36] = [
    "null",
    "*",
    "about:blank",
    "file://",
    "data:",
    "https://",
    "https://*",
    "https://evil.example",
    "http://shop.example.com",
    "https://shop.example.com:80",
    "https://shop.example.com:443",
    "https://shop.example.com:8443",
    "https://shop.example.com.",
    "https://shop.example.com/",
    "https://shop.example.com/page",
    "https://shop.example.com?a",
    "https://shop.example.com#a",
    "https://shop.example.com.evil.example",
    "https://evilshop.example.com",
    "https://shop.example.com@evil.example",
    "https://evil.example@shop.example.com",
    "https://user:pw@shop.example.com",
    "https://www.shop.example.com",
    "https://example.com",
    "https://shop-example.com",
    "https://shopxexample.com",
    "https://SHOP.EXAMPLE.COM",
    "HTTPS://shop.example.com",
    "https://shop.example.com https://evil.example",
    "https://shop.example.com,https://evil.example",
    "https://shop%2eexample.com",
    "https:shop.example.com",
    "//shop.example.com",
    "shop.example.com",
    "https://app.example.com",
    "http://localhost:3001",
];
const DOMAINS: [(&str, &str); 4] = [
    ("shop.example.com", "https://shop.example.com"),
    ("App.Example.com:8443", "https://app.example.com:8443"),
    ("http://localhost:3000", "http://localhost:3000"),
    ("bücher.example", "https://xn--bcher-kva.example"),
];

async fn preflight(browser: &mut Browser) -> Answer {
    let request =
        browser.request(Method::OPTIONS, "/v1/batch").header("access-control-request-method", "POST");
    browser.send(request.header("access-control-request-headers", "authorization,content-type")).await
}

/// Number of headers that let a page do something.
fn cors(answer: &Answer) -> usize {
    answer.headers.keys().filter(|name| name.as_str().starts_with("access-control")).count()
}

#[track_caller]
fn assert_readable(answer: &Answer, origin: &str) {
    assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(answer.header("access-control-expose-headers"), Some("Retry-After"));
    let vary = answer.header("vary").unwrap_or_default().to_lowercase();
    assert!(vary.contains("origin"), "{origin}: {vary}");
}

#[tokio::test]
async fn only_the_source_s_own_origins_may_call() {
    let world = World::start().await;
    let mut browser = world.browser();
    let domains = DOMAINS.map(|(domain, _)| format!("'{domain}'")).join(",");
    world.database.execute(&format!("UPDATE sources SET domains = ARRAY[{domains}]")).await;
    browser.origin = Some(DOMAINS[1].1.to_owned());
    eventually("the domains to be known", async || match cors(&preflight(&mut browser).await) {
        0 => Err("no CORS headers".to_owned()),
        _ => Ok(()),
    })
    .await;
    for (_, origin) in DOMAINS {
        browser.origin = Some(origin.to_owned());
        let answer = preflight(&mut browser).await;
        assert_eq!(answer.status, 204, "{origin}");
        assert_readable(&answer, origin);
        assert_eq!(answer.header("access-control-max-age"), Some("600"));
        let headers = answer.header("access-control-allow-headers").unwrap_or_default().to_lowercase();
        assert!(headers.contains("authorization") && headers.contains("content-type"), "{headers}");
        let answer = browser.view(&granted()).await;
        assert_accepted(&answer, 1);
        assert_readable(&answer, origin);
    }
    for origin in FOREIGN {
        browser.origin = Some(origin.to_owned());
        let answer = preflight(&mut browser).await;
        assert_eq!((answer.status, cors(&answer)), (204, 0), "{origin}: {:?}", answer.headers);
        let answer = browser.view(&granted()).await;
        assert_refused(&answer, 403, "ORIGIN_NOT_ALLOWED", origin);
        assert_eq!(cors(&answer), 0, "{origin}: {:?}", answer.headers);
    }
    browser.origin = None;
    assert_accepted(&browser.view(&granted()).await, 1);

    world.database.execute("UPDATE sources SET domains = '{}'").await;
    browser.origin = Some(DOMAINS[0].1.to_owned());
    eventually("the empty list to be known", async || match browser.view(&granted()).await.status {
        403 => Ok(()),
        status => Err(format!("HTTP {status}")),
    })
    .await;
    for (_, origin) in DOMAINS {
        browser.origin = Some(origin.to_owned());
        assert_eq!(cors(&preflight(&mut browser).await), 0, "{origin}");
        assert_refused(&browser.view(&granted()).await, 403, "ORIGIN_NOT_ALLOWED", origin);
    }
}

#[tokio::test]
async fn bodies_over_the_limits() {
    let world = World::start().await;
    let mut browser = world.browser();
    let padded = |size: usize| {
        let events = json!({"batch": [{"type": "page", "anonymousId": "a"}]}).to_string();
        events.clone() + &" ".repeat(size - events.len())
    };
    assert_accepted(&browser.post("/v1/batch", padded(512 * 1024)).await, 1);
    let answer = browser.post("/v1/batch", padded(512 * 1024 + 1)).await;
    assert_refused(&answer, 413, "PAYLOAD_TOO_LARGE", "one byte over");

    // Chunked, without a length.
    let chunks = (0..9).map(|_| Ok::<_, std::io::Error>(" ".repeat(64 * 1024)));
    let body = reqwest::Body::wrap_stream(tonic::codegen::tokio_stream::iter(chunks));
    assert_refused(&browser.post("/v1/batch", body).await, 413, "PAYLOAD_TOO_LARGE", "chunked");

    let event = json!({"type": "page", "anonymousId": "a"});
    assert_accepted(&browser.batch(&json!(vec![event.clone(); 500])).await, 500);
    let answer = browser.batch(&json!(vec![event; 501])).await;
    assert_refused(&answer, 413, "PAYLOAD_TOO_LARGE", "501 events");
    assert_eq!(world.database.count("links", "true").await, 1, "what was refused left no trace");
}

#[tokio::test]
async fn bodies_that_are_no_batch() {
    let world = World::start().await;
    let mut browser = world.browser();
    let event = r#"{"type":"page","anonymousId":"a"}"#;
    let cases: [(&[u8], &str); 12] = [
        (b"", "INVALID_JSON"),
        (b"{", "INVALID_JSON"),
        (b"null", "INVALID_JSON"),
        (b"[]", "INVALID_JSON"),
        (b"{'batch':[]}", "INVALID_JSON"),
        (br#"{"batch":{}}"#, "INVALID_JSON"),
        (br#"{"batch":[{"type":"page"}]} x"#, "INVALID_JSON"),
        (b"\xef\xbb\xbf{\"batch\":[{}]}", "INVALID_JSON"),
        (b"{\"batch\":[{\"type\":\"\xff\"}]}", "INVALID_JSON"),
        (b"{\"batch\":[{}] /* x */}", "INVALID_JSON"),
        (br#"{"batch":[]}"#, "EMPTY_BATCH"),
        (b"{}", "EMPTY_BATCH"),
    ];
    for (body, code) in cases {
        let answer = browser.post("/v1/batch", body.to_vec()).await;
        let what = String::from_utf8_lossy(body);
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        // An absent batch may count as malformed or as empty; both say what is wrong.
        assert!(answer.code() == code || what == "{}", "{what}: {}", answer.text());
    }
    let deep = format!(r#"{{"batch":[{event},{}{}]}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let answer = browser.post("/v1/batch", deep).await;
    assert!(answer.status == 400 || answer.json()["errors"][0]["index"] == json!(1), "{}", answer.text());

    let answer = browser.get(&format!("{}/v1/nothing", browser.collect)).await;
    assert_refused(&answer, 404, "NOT_FOUND", "an unknown path");
    let answer = browser.get(&format!("{}/v1/batch", browser.collect)).await;
    assert_refused(&answer, 405, "METHOD_NOT_ALLOWED", "GET of a POST path");
    assert!(answer.header("allow").is_some_and(|allow| allow.contains("POST")), "{:?}", answer.headers);
}

#[tokio::test]
async fn a_page_can_read_why_its_batch_was_refused() {
    let world = World::start().await;
    let mut browser = world.browser();
    let own = browser.origin.clone();
    // Of a page that may not call the body is not even looked at.
    let evil = Some("https://evil.example".to_owned());
    for (origin, readable, statuses) in [(own.clone(), own.as_deref(), [400, 413]), (evil, None, [403, 403])]
    {
        browser.origin = origin;
        for (body, status) in ["{bad".to_owned(), " ".repeat(512 * 1024 + 1)].into_iter().zip(statuses) {
            let answer = browser.post("/v1/batch", body).await;
            assert_eq!(answer.status, status, "{}", answer.text());
            assert_eq!(answer.header("access-control-allow-origin"), readable, "{:?}", answer.headers);
        }
    }
}

/// Broken events as raw JSON, the code each is refused with, and what is wrong with it.
fn broken() -> Vec<(String, &'static str, &'static str)> {
    let event = |rest: &str| format!(r#"{{"type":"track","anonymousId":"broken","event":"x"{rest}}}"#);
    let nested =
        |depth: usize| event(&format!(r#","properties":{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth)));
    vec![
        (r#"{"type":"track","anonymousId":"a\u0000b"}"#.to_owned(), "INVALID_EVENT", "NUL in the ID"),
        (event(r#","properties":{"a":"\u0000"}"#), "INVALID_EVENT", "NUL in a property"),
        (event(r#","properties":{"a":"\ud800"}"#), "INVALID_EVENT", "a lone surrogate"),
        (event(r#","properties":{"\udc00":1}"#), "INVALID_EVENT", "a lone surrogate as a key"),
        (event(r#","properties":{"a":1e400}"#), "INVALID_EVENT", "a number out of range"),
        (nested(128), "INVALID_EVENT", "nested 128 deep and more"),
        (nested(10_000), "INVALID_EVENT", "nested very deep"),
        (
            event(&format!(r#","properties":{{"a":"{}"}}"#, "x".repeat(32 * 1024))),
            "EVENT_TOO_LARGE",
            "over 32 KiB",
        ),
        ("7".to_owned(), "INVALID_EVENT", "a number"),
        ("null".to_owned(), "INVALID_EVENT", "null"),
        ("[]".to_owned(), "INVALID_EVENT", "an array"),
        (r#""text""#.to_owned(), "INVALID_EVENT", "a text"),
        (
            format!(r#"{{"type":"track","anonymousId":"{}"}}"#, "a".repeat(129)),
            "INVALID_IDENTIFIER",
            "an ID too long",
        ),
        (r#"{"type":"track","anonymousId":"a\nb"}"#.to_owned(), "INVALID_IDENTIFIER", "a control character"),
    ]
}

#[tokio::test]
async fn one_broken_event_spoils_no_other() {
    let world = World::start().await;
    for (number, (bad, code, what)) in broken().into_iter().enumerate() {
        let mut browser = world.browser();
        let good: Vec<String> =
            (0..5).map(|n| format!(r#"{{"type":"page","anonymousId":"good-{number}-{n}"}}"#)).collect();
        let (before, after) = good.split_at(3);
        let events = [before.join(","), bad, after.join(",")].join(",");
        let answer = browser.post("/v1/batch", format!(r#"{{"batch":[{events}]}}"#)).await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        let body = answer.json();
        assert_eq!(body["accepted"], json!(5), "{what}: {body}");
        let errors = body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert_eq!(errors.len(), 1, "{what}: {body}");
        assert_eq!((&errors[0]["index"], &errors[0]["code"]), (&json!(3), &json!(code)), "{what}: {body}");
        assert_ne!(errors[0]["retry"], json!(true), "{what}: it would fail again: {body}");
        let condition = format!("value LIKE 'good-{number}-%'");
        assert_eq!(world.database.count("links", &condition).await, 5, "{what}");
    }
    assert_eq!(
        world.database.count("links", "value NOT LIKE 'good-%'").await,
        0,
        "a broken event left a trace"
    );
}

#[tokio::test]
async fn many_broken_events_at_once_are_each_reported() {
    let world = World::start().await;
    let mut browser = world.browser();
    let broken = broken();
    let mut events = Vec::new();
    for (number, (bad, ..)) in broken.iter().enumerate() {
        events.push(bad.clone());
        events.push(format!(r#"{{"type":"page","anonymousId":"good-{number}"}}"#));
    }
    let answer = browser.post("/v1/batch", format!(r#"{{"batch":[{}]}}"#, events.join(","))).await;
    let body = answer.json();
    let reported: Vec<(u64, &str)> = body["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|error| {
            (error["index"].as_u64().unwrap_or(u64::MAX), error["code"].as_str().unwrap_or_default())
        })
        .collect();
    let expected: Vec<(u64, &str)> =
        broken.iter().enumerate().map(|(number, (_, code, _))| (number as u64 * 2, *code)).collect();
    assert_eq!(reported, expected);
    assert_eq!(body["accepted"], json!(broken.len()));
}

#[tokio::test]
async fn a_single_broken_event_has_its_own_status() {
    let world = World::start().await;
    let mut browser = world.browser();
    for (bad, code, what) in broken() {
        let status = if code == "EVENT_TOO_LARGE" { 413 } else { 400 };
        let answer = browser.post("/v1/t", bad).await;
        // What is no JSON object at all may be called so.
        let code = if answer.code() == "INVALID_JSON" { "INVALID_JSON" } else { code };
        assert_refused(&answer, status, code, what);
    }
    assert_eq!(world.database.count("links", "true").await, 0);
}

#[tokio::test]
async fn junk_identifiers_are_accepted_and_never_linked() {
    let world = World::start().await;
    let mut browser = world.browser();
    let junk = [
        "null",
        "undefined",
        "anonymous",
        "0",
        "[object Object]",
        "00000000-0000-0000-0000-000000000000",
        " ",
    ];
    let event = browser.page_view(&Value::Null);
    for id in junk {
        let mut event = event.clone();
        event["userId"] = json!(id);
        assert_accepted(&browser.batch(&json!([event])).await, 1);
    }
    assert_eq!(world.database.count("links", "kind = 1").await, 0, "a placeholder became a person");
    assert_eq!(world.database.count("links", "kind = 0").await, 1);
}

/// Headers of loads that the visitor may never see.
const SPECULATIVE: [(&str, &str); 6] = [
    ("sec-purpose", "prefetch"),
    ("sec-purpose", "prefetch;prerender"),
    ("sec-purpose", "prerender"),
    ("purpose", "preview"),
    ("x-purpose", "preview"),
    ("x-moz", "prefetch"),
];

/// A page that is rendered ahead can't fire its syncs, and is shown within the lease.
#[tokio::test]
async fn a_page_that_is_loaded_ahead_is_offered_no_syncs() {
    let world = World::start().await;
    let mut browser = world.browser();
    let body = json!({"batch": [browser.page_view(&granted())]}).to_string();
    for (name, value) in SPECULATIVE {
        let request =
            browser.request(Method::POST, "/v1/batch").bearer_auth(&browser.key).header(name, value);
        let answer = browser.send(request.body(body.clone())).await;
        assert_accepted(&answer, 1);
        assert_eq!(answer.offered(), [""; 0], "{name}: {value}");
    }
    assert_eq!(browser.view(&granted()).await.offered(), ["pinterest"], "no lease was taken");
}

/// Tracing adds headers of its own to each call of a page.
#[tokio::test]
async fn a_preflight_allows_the_headers_it_asks_for() {
    let world = World::start().await;
    let mut browser = world.browser();
    let traced = "authorization,baggage,content-type,sentry-trace,traceparent,tracestate,x-datadog-trace-id";
    for (asked, allowed) in [
        (traced.to_owned(), traced),
        (vec!["x-a"; 33].join(","), "authorization, content-type"),
        ("x".repeat(1025), "authorization, content-type"),
        ("authorization,{a}".to_owned(), "authorization, content-type"),
    ] {
        let request = browser.request(Method::OPTIONS, "/v1/batch");
        let request = request.header("access-control-request-method", "POST");
        let answer = browser.send(request.header("access-control-request-headers", asked)).await;
        assert_readable(&answer, &world.customer.origin);
        assert_eq!(answer.header("access-control-allow-headers"), Some(allowed));
        assert_eq!(answer.header("vary"), Some("Origin, Access-Control-Request-Headers"));
    }
}

#[tokio::test]
async fn vendors_and_visitors_that_a_sync_does_not_know() {
    let world = World::start().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    for vendor in ["nobody", "Pinterest", "pinterest%00", "criteo"] {
        let answer = browser.get(&browser.sync_url(vendor)).await;
        assert_refused(&answer, 404, "VENDOR_NOT_FOUND", vendor);
    }
    let url = browser.sync_url("pinterest");
    let aid = format!("&aid={}", browser.aid());
    for changed in [
        url.replace(&aid, ""),
        url.replace(&aid, "&aid="),
        url.replace(&aid, &format!("&aid={}", "a".repeat(1025))),
    ] {
        let answer = browser.get(&changed).await;
        assert_eq!(answer.status, 400, "{changed}: {}", answer.text());
    }
    let request = browser.request(Method::HEAD, &url.replace(&browser.collect, ""));
    let answer = browser.send(request).await;
    assert!(answer.status != 302, "HEAD must not begin a sync: {}", answer.status);
    for (name, value) in SPECULATIVE {
        let request = browser.request(Method::GET, &url.replace(&browser.collect, "")).header(name, value);
        let answer = browser.send(request).await;
        assert_eq!(answer.status, 204, "{name}: {value} must not begin a sync");
    }
    assert_eq!(world.metric("datafly_sync_attempted_total", &[]).await, 0.0);
}
