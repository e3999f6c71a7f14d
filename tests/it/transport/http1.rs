//! HTTP/1.1 as attackers speak it, over real sockets (`docs/threats.md` lists the attacks).

use std::time::Duration;

use harness::{
    answers::assert_accepted,
    browser::Browser,
    eventually,
    process::Service,
    raw::{rest, send, send_from, until},
    visits::granted,
    world::World,
};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};
use uuid::Uuid;

/// The end of a head's first lines; what follows is up to the test.
fn batch_head(browser: &Browser) -> String {
    format!(
        "POST /v1/batch HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nOrigin: {}\r\n",
        browser.collect.trim_start_matches("http://"),
        browser.key,
        browser.origin.as_deref().unwrap_or_default()
    )
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

#[track_caller]
fn assert_uncached(answer: &str, what: &str) {
    let head = answer.to_lowercase();
    let has = |line: &str| head.contains(&format!("\r\n{line}\r\n"));
    assert!(has("cache-control: no-store") && has("x-content-type-options: nosniff"), "{what}: {answer}");
}

/// Headers that are never finished and bodies of a byte a second, with the deadlines as they are in
/// production; the rest of the suite runs meanwhile. A body that is slow and keeps the pace is waited for.
#[tokio::test]
async fn slow_headers_and_slow_bodies_are_left_and_nobody_else_is() {
    let world = World::start().await;
    let mut browser = world.browser();
    let edge = world.cluster.edge.addr("http");
    let core = world.cluster.cores[0].addr("grpc");
    let mut slow = JoinSet::new();
    for (addr, half) in [(edge, "POST /v1/batch HTTP/1.1\r\nHost: x\r\nX-"), (edge, ""), (core, "PRI * HTT")]
    {
        slow.spawn(async move {
            assert_eq!(rest(send(addr, half).await).await, "", "{half:?}");
        });
    }
    let head = batch_head(&browser).replace("Host: x", &format!("Host: {edge}"));
    for length in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let mut stream = send(edge, format!("{head}{length}\r\n\r\n")).await;
        slow.spawn(async move {
            for _ in 0..60 {
                let byte: &[u8] = if length.starts_with('T') { b"1\r\n \r\n" } else { b" " };
                let _ = stream.write_all(byte).await;
                if tokio::time::timeout(Duration::from_secs(1), stream.readable()).await.is_ok() {
                    break;
                }
            }
            let answer = rest(stream).await;
            assert!(status(&answer) == "408" && answer.contains("REQUEST_TIMEOUT"), "{length}: {answer}");
        });
    }
    let patient = json!({"batch": [browser.page_view(&granted())], "pad": " ".repeat(48 * 1024)}).to_string();
    let head = format!("{head}Connection: close\r\nContent-Length: {}\r\n\r\n", patient.len());
    slow.spawn(async move {
        let mut stream = send(edge, head).await;
        // Longer than any body had before, and four times as fast as it must be.
        for part in patient.as_bytes().chunks(4 * 1024) {
            stream.write_all(part).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let answer = rest(stream).await;
        assert_eq!(status(&answer), "200", "{answer}");
    });
    while !slow.is_empty() {
        assert_accepted(&browser.view(&granted()).await, 1);
        if let Ok(Some(ended)) = tokio::time::timeout(Duration::from_millis(100), slow.join_next()).await {
            ended.unwrap();
        }
    }
    let reason = [("listener", "http"), ("reason", "header")];
    let ended = world.cluster.edge.metrics().await.sum("datafly_connections_ended_total", &reason);
    assert_eq!(ended, 2.0, "half-sent headers in the metrics");
    // What a slow body held is there again.
    let padded = json!({"batch": [browser.page_view(&granted())], "pad": " ".repeat(500 * 1024)}).to_string();
    assert_accepted(&browser.post("/v1/batch", padded).await, 1);
}

/// Idle sockets of many addresses, with a limit that makes 1,000 of them what 10,000 are to the default one.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn idle_sockets_by_the_thousand_keep_nobody_out() {
    const DESCRIPTORS: u32 = 300;
    let world = World::start().await;
    let core = format!("http://{}", world.cluster.cores[0].addr("grpc"));
    let env = [("IDENTITY_URL", core.as_str()), ("SERVICE_TOKEN", &world.cluster.secrets.edge_token)];
    let edge = Service::start_with_descriptors("http-edge", DESCRIPTORS, &env, &["http", "metrics"]);
    let edge = edge.await.unwrap();
    let collect = format!("http://{}", edge.addr("http"));
    let mut browser = Browser::new(&collect, &world.customer.live_key, &world.customer.origin);
    browser.host = Some(world.cluster.edge.addr("http").to_string());
    let mut idle = Vec::new();
    for number in 0..1_000_u16 {
        let half = if number % 2 == 0 { "" } else { "GET /v1/sync/pinterest HTTP/1.1\r\nHo" };
        idle.push(send_from(2 + u8::try_from(number % 64).unwrap(), edge.addr("http"), half).await);
        if number % 50 == 0 {
            assert_accepted(&browser.view(&granted()).await, 1);
            let mut stranger = browser.clone();
            stranger.anonymous_id = Some(Uuid::new_v4().to_string());
            assert_accepted(&stranger.view(&granted()).await, 1);
        }
        if let Some(open) = edge.open_descriptors() {
            assert!(open <= DESCRIPTORS as usize / 5 * 4, "{open} of {DESCRIPTORS} descriptors are taken");
        }
    }
    let reason = [("listener", "http"), ("reason", "full")];
    let made_room = edge.metrics().await.sum("datafly_connections_ended_total", &reason);
    assert!(made_room > 500.0, "{made_room} made room");
}

/// Content-Length beside Transfer-Encoding and its kin: one request is answered once, what is ambiguous is
/// refused, and nothing is smuggled.
#[tokio::test]
async fn ambiguous_framing_is_refused_and_nothing_is_smuggled() {
    let world = World::start().await;
    let browser = world.browser();
    let edge = world.cluster.edge.addr("http");
    let hidden = format!(
        "{}Content-Length: 51\r\n\r\n{}",
        batch_head(&browser),
        r#"{"batch":[{"type":"page","anonymousId":"smuggled"}]}"#
    );
    let refused = [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        "Content-Length: 3, 4\r\n\r\nabc",
        "Content-Length: +3\r\n\r\nabc",
        "Content-Length: -3\r\n\r\nabc",
        "Content-Length: 0x3\r\n\r\nabc",
        "Content-Length: 99999999999999999999\r\n\r\nabc",
        "Content-Length : 3\r\n\r\nabc",
        "Content-Length: 3\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabcXX0\r\n\r\n",
        "X\0: y\r\nContent-Length: 3\r\n\r\nabc",
        "X: a\rb\r\nContent-Length: 3\r\n\r\nabc",
    ];
    for tail in refused {
        let answer = rest(send(edge, format!("{}{tail}{hidden}", batch_head(&browser))).await).await;
        assert_eq!(status(&answer), "400", "{tail:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{tail:?}: {answer}");
    }
    let long = format!("Transfer-Encoding: chunked\r\n\r\n3;{}\r\nabc\r\n0\r\n\r\n", "x=y;".repeat(8 * 1024));
    let answer = rest(send(edge, format!("{}{long}{hidden}", batch_head(&browser))).await).await;
    assert_eq!(status(&answer), "400", "32 KiB of chunk extensions: {answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert_eq!(world.database.count("links", "true").await, 0, "something was smuggled");

    // What is unusual and clear is served, one answer a request.
    let body = r#"{"batch":[{"type":"page","anonymousId":"clear"}]}"#;
    let length = body.len();
    let clear = [
        format!("Content-Length: {length}\r\nContent-Length: {length}\r\n\r\n{body}"),
        format!("tRANSFER-eNCODING: Chunked\r\n\r\n{length:x};a=b\r\n{body}\r\n0\r\nX-Trailer: y\r\n\r\n"),
    ];
    for tail in clear {
        let mut stream = send(edge, format!("{}{tail}", batch_head(&browser))).await;
        let answer = until(&mut stream, "\r\n\r\n").await;
        assert_eq!(status(&answer), "200", "{tail:?}: {answer}");
    }
}

/// Headers, targets and bodies over their bounds, methods that no route has, a gzip bomb, and `Expect:
/// 100-continue` for a gigabyte: each is refused before it costs anything.
#[tokio::test]
async fn heads_and_bodies_over_the_bounds_and_methods_that_are_none() {
    let world = World::start().await;
    let browser = world.browser();
    let edge = world.cluster.edge.addr("http");
    let close = "Host: x\r\nConnection: close\r\n";
    for (number, head) in
        ["A: b\r\n".repeat(101), format!("A: {}\r\n", "b".repeat(16 * 1024))].iter().enumerate()
    {
        let answer = rest(send(edge, format!("GET /healthz HTTP/1.1\r\n{close}{head}\r\n")).await).await;
        assert_eq!(status(&answer), "431", "{number}: {answer}");
        // The parser knows the first bound itself, and answers with a bare status, which no cache keeps.
        if number > 0 {
            assert_uncached(&answer, "431");
        }
    }
    let target = format!("/v1/sync/pinterest?{}", "a".repeat(8 * 1024));
    let answer = rest(send(edge, format!("GET {target} HTTP/1.1\r\n{close}\r\n")).await).await;
    assert_eq!(status(&answer), "414", "{answer}");
    assert_uncached(&answer, "414");

    for (method, target, allow) in [
        ("TRACE", "/v1/batch", "POST"),
        ("PUT", "/v1/batch", "POST"),
        ("DELETE", "/v1/t", "POST"),
        ("BREW", "/v1/batch", "POST"),
        ("CONNECT", "/v1/batch", "POST"),
        ("TRACE", "/v1/sync/pinterest", "GET,HEAD"),
        ("PUT", "/v1/sync/pinterest/callback", "GET,HEAD"),
        ("TRACE", "/v1/enrich", "GET,HEAD,POST"),
        ("POST", "/healthz", "GET,HEAD"),
        ("PUT", "/readyz", "GET,HEAD"),
    ] {
        let answer =
            rest(send(edge, format!("{method} {target} HTTP/1.1\r\n{close}X-Secret: s\r\n\r\n")).await).await;
        assert_eq!(status(&answer), "405", "{method} {target}: {answer}");
        assert!(
            answer.to_lowercase().contains(&format!("allow: {}\r\n", allow.to_lowercase())),
            "{method}: {answer}"
        );
        assert!(!answer.contains("X-Secret"), "{method} reflects: {answer}");
        assert_uncached(&answer, target);
    }
    let answer = rest(
        send(
            edge,
            "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\nConnection: close\r\n\r\n",
        )
        .await,
    )
    .await;
    assert!(["400", "404", "405"].contains(&status(&answer)), "a proxy's CONNECT: {answer}");

    let head = batch_head(&browser).replace("Host: x", &format!("Host: {edge}"));
    let zipped =
        format!("{}Connection: close\r\nContent-Encoding: gzip\r\nContent-Length: 10240\r\n\r\n", head);
    let mut bomb = zipped.into_bytes();
    bomb.extend([0x1f, 0x8b, 8, 0].iter().cycle().take(10_240));
    let answer = rest(send(edge, bomb).await).await;
    assert!(status(&answer) == "400" && answer.contains("INVALID_JSON"), "{answer}");

    let patient =
        format!("{}Connection: close\r\nExpect: 100-continue\r\nContent-Length: 1073741824\r\n\r\n", head);
    let answer = rest(send(edge, patient).await).await;
    assert_eq!(status(&answer), "413", "before 100 Continue: {answer}");
}

/// Claims of a stranger about who they are (`X-Forwarded-For`) and where they came in (`Host`) are not
/// believed: the peer's address and the settings count.
#[tokio::test]
async fn forwarded_headers_and_hosts_of_strangers_do_not_count() {
    let world = World::start().await;
    let mut browser = world.browser();
    assert_accepted(&browser.view(&granted()).await, 1);
    let url = browser.sync_url("pinterest");
    let path = url.strip_prefix(&browser.collect).unwrap();
    let own = world.cluster.edge.addr("http").to_string();
    let forwarded = "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: https\r\nForwarded: host=evil.example\r\n";
    let callback = format!("redirect=http%3A%2F%2F{}%2Fv1", own.replace(':', "%3A"));
    for (host, found) in [(own.as_str(), "302"), ("evil.example", "204")] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{forwarded}\r\n");
        let answer = rest(send(world.cluster.edge.addr("http"), request).await).await;
        assert!(status(&answer) == found && !answer.contains("evil.example"), "{host}: {answer}");
        assert_eq!(answer.contains(&callback), found == "302", "{host}: {answer}");
    }
}

/// The time between two requests is not the header's: a proxy keeps its connections for a minute.
#[tokio::test]
async fn an_idle_connection_outlives_the_deadline_of_headers() {
    let world = World::start().await;
    let edge = world.cluster.edge.addr("http");
    let mut kept = TcpStream::connect(edge).await.unwrap();
    let request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    kept.write_all(request.as_bytes()).await.unwrap();
    until(&mut kept, "ok\n").await;
    let half = send(edge, "GET /healthz HTTP/1.1\r\nHost: x\r\n").await;
    assert_eq!(rest(half).await, "", "ends with its deadline");
    tokio::time::sleep(Duration::from_secs(1)).await;
    kept.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(status(&until(&mut kept, "ok\n").await), "200");
    eventually("one connection to be left", async || {
        match world.cluster.edge.metrics().await.sum("datafly_connections", &[("listener", "http")]) {
            1.0 => Ok(()),
            open => Err(format!("{open}")),
        }
    })
    .await;
}
