//! Refusals: readable for pages that may call, in one shape, and cheap for the core.

use std::net::SocketAddr;

use http::StatusCode;
use proto::v1::{
    auth_service_server::AuthServiceServer, caller::Kind, resolve_service_server::ResolveServiceServer,
};
use serve::{Exempt, Lifecycle, Workers};
use tonic::service::Routes;

use super::{KEY, ORIGIN, edge, send, start};

#[tokio::test]
async fn a_refusal_is_readable_where_the_page_may_call_and_sets_no_cookie() {
    let (app, _) = start().await;
    let event = r#"{"anonymousId":"a"}"#;
    let (bad, slow) = (("authorization", "Bearer bad"), ("authorization", "Bearer slow"));
    for (headers, status, readable) in [
        (vec![("origin", ORIGIN)], StatusCode::UNAUTHORIZED, true),
        (vec![bad, ("origin", ORIGIN)], StatusCode::UNAUTHORIZED, true),
        (vec![KEY, ("origin", ORIGIN), ("content-encoding", "br")], StatusCode::UNSUPPORTED_MEDIA_TYPE, true),
        (vec![bad, ("origin", "https://evil.example")], StatusCode::UNAUTHORIZED, false),
        (vec![bad, ("origin", ORIGIN), ("x-datafly-signature", "a")], StatusCode::UNAUTHORIZED, false),
        (vec![slow, ("origin", ORIGIN)], StatusCode::SERVICE_UNAVAILABLE, false),
    ] {
        let got = send(&app, "POST", "/v1/t", &headers, event).await;
        assert_eq!(got.status, status, "{headers:?}");
        assert_eq!(got.header("access-control-allow-origin") == ORIGIN, readable, "{headers:?}");
        assert_eq!(got.header("access-control-allow-credentials") == "true", readable, "{headers:?}");
        assert!(!got.headers.contains_key("set-cookie"), "{headers:?}");
    }
    for (headers, status) in [
        (vec![KEY, ("origin", ORIGIN), ("origin", "https://evil.example")], StatusCode::FORBIDDEN),
        (vec![KEY, ("x-datafly-signature", "a"), ("x-datafly-signature", "b")], StatusCode::UNAUTHORIZED),
        (vec![("authorization", "Bearer denied")], StatusCode::SERVICE_UNAVAILABLE),
        (vec![KEY, ("content-encoding", "br")], StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let got = send(&app, "POST", "/v1/t", &headers, event).await;
        assert_eq!(got.status, status, "{headers:?}");
        assert!(!got.headers.contains_key("access-control-allow-origin"), "{headers:?}");
        assert!(!got.headers.contains_key("set-cookie"), "{headers:?}");
    }
    let got = send(&app, "POST", "/v1/batch", &[KEY], &" ".repeat(524_289)).await;
    assert_eq!((got.status, got.code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE"));
}

#[tokio::test]
async fn a_preflight_names_the_exact_origin_or_nothing() {
    let (app, _) = start().await;
    for target in ["/v1/batch", "/v1/sync/pinterest", "/v1/anything"] {
        let got = send(&app, "OPTIONS", target, &[("origin", ORIGIN)], "").await;
        assert_eq!((got.status, got.header("access-control-allow-origin")), (StatusCode::NO_CONTENT, ORIGIN));
        assert_eq!(got.header("access-control-allow-headers"), "authorization, content-type");
        let vary = "Origin, Access-Control-Request-Headers";
        assert_eq!((got.header("access-control-max-age"), got.header("vary")), ("600", vary));
    }
    let (many, long) = (vec!["a"; 33].join(","), "a".repeat(1025));
    for (asked, allowed) in [
        ("authorization,content-type", true),
        ("authorization, traceparent,sentry-trace ,x-datadog-origin", true),
        (&vec!["a"; 32].join(","), true),
        (&many, false),
        (&long, false),
        ("", false),
        ("authorization,", false),
        ("*", true),
        ("a b", false),
        ("a;b", false),
        ("x-\u{fc}", false),
    ] {
        let headers = [("origin", ORIGIN), ("access-control-request-headers", asked)];
        let got = send(&app, "OPTIONS", "/v1/batch", &headers, "").await;
        let expected = if allowed { asked } else { "authorization, content-type" };
        assert_eq!(got.header("access-control-allow-headers"), expected, "{asked}");
        let got = send(&app, "OPTIONS", "/v1/batch", &[("origin", "null"), headers[1]], "").await;
        assert_eq!(got.header("vary"), "Origin, Access-Control-Request-Headers");
        assert_eq!(got.header("access-control-allow-headers"), "");
    }
    for headers in [vec![("origin", "https://evil.example")], vec![("origin", "null")], vec![]] {
        let got = send(&app, "OPTIONS", "/v1/batch", &headers, "").await;
        assert_eq!(got.status, StatusCode::NO_CONTENT);
        assert!(got.headers.keys().all(|name| !name.as_str().starts_with("access-control")), "{headers:?}");
    }
}

#[tokio::test]
async fn a_key_over_its_rate_is_refused_here_until_it_may_try_again() {
    let (app, fake) = start().await;
    let headers = [("authorization", "Bearer limited"), ("origin", ORIGIN)];
    for _ in 0..3 {
        let got = send(&app, "POST", "/v1/t", &headers, r#"{"userId":"u"}"#).await;
        assert_eq!((got.status, got.code().as_str()), (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED"));
        assert_eq!(
            (got.header("retry-after"), got.header("access-control-expose-headers")),
            ("21", "Retry-After")
        );
        assert_eq!(got.header("access-control-allow-origin"), ORIGIN, "the core has let the origin in");
    }
    let got = send(&app, "GET", "/v1/sync/pinterest?pipeline_key=limited&aid=a", &[], "").await;
    assert_eq!((got.status, got.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "21"));
    assert_eq!(fake.asked(|asked| asked.resolve.len()), 1, "the core was asked once");
    fake.asked(|asked| {
        let Some(Kind::Collect(caller)) = asked.resolve[0].caller.clone().unwrap().kind else { panic!() };
        assert_eq!(caller.events, 1);
    });
}

#[tokio::test]
async fn a_core_that_is_away_is_503_and_another_takes_over() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let event = r#"{"anonymousId":"a"}"#;
    let got = send(&edge(&[nobody]), "POST", "/v1/t", &[KEY], event).await;
    assert_eq!((got.status, got.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    let (_, fake) = start().await;
    let listener = serve::bind("LISTEN_ADDR", ([127, 0, 0, 1], 0).into()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let routes = Routes::new(ResolveServiceServer::new(fake.clone()))
        .add_service(AuthServiceServer::new(fake))
        .into_axum_router();
    tokio::spawn(serve::serve(listener, "grpc", Exempt::Nobody, Workers::here(routes), Lifecycle::new()));
    let app = edge(&[nobody, addr]);
    for _ in 0..8 {
        assert_eq!(send(&app, "POST", "/v1/t", &[KEY], event).await.status, StatusCode::OK);
    }
    let got = send(&app, "POST", "/v1/t", &[("authorization", "Bearer slow")], event).await;
    assert_eq!(got.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn an_unknown_route_or_method_has_the_shape_of_every_error() {
    let (app, _) = start().await;
    for (method, target, status, code) in [
        ("GET", "/", StatusCode::NOT_FOUND, "NOT_FOUND"),
        ("POST", "/v1/nothing", StatusCode::NOT_FOUND, "NOT_FOUND"),
        ("PUT", "/v1/batch", StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
        ("TRACE", "/v1/batch", StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
    ] {
        let got = send(&app, method, target, &[], "").await;
        assert_eq!((got.status, got.code().as_str()), (status, code), "{method} {target}");
        let uncached = (got.header("cache-control"), got.header("x-content-type-options"));
        assert_eq!(uncached, ("no-store", "nosniff"), "{method} {target}");
        let allow = if status == StatusCode::METHOD_NOT_ALLOWED { "POST" } else { "" };
        assert_eq!(got.header("allow"), allow, "{method} {target}");
    }
}
