//! The routes against a core that answers as it is told, over real sockets.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    extract::ConnectInfo,
};
use http::{HeaderMap, Request, StatusCode};
use proto::{
    Reason,
    v1::{
        AuthenticateRequest, AuthenticateResponse, BeginSyncRequest, BeginSyncResponse, CheckOriginRequest,
        CheckOriginResponse, CreateLinkRequest, CreateLinkResponse, ExplainRequest, ExplainResponse,
        PendingSyncsRequest, PendingSyncsResponse, Resolution, ResolutionError, ResolveRequest,
        ResolveResponse, SameSite, StoreSyncResultRequest, StoreSyncResultResponse, SyncRedirect,
        SyncRefusal, VendorIdsRequest, VendorIdsResponse,
        auth_service_server::{AuthService, AuthServiceServer},
        begin_sync_response::Outcome,
        caller::Kind,
        resolve_service_server::{ResolveService, ResolveServiceServer},
        sync_service_server::{SyncService, SyncServiceServer},
    },
};
use serde_json::Value;
use serve::{Lifecycle, Workers};
use tonic::{Response as Answer, Status, service::Routes};
use tower::ServiceExt;

use super::*;

/// What the fake core was asked.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Asked>>);

#[derive(Default)]
struct Asked {
    resolve: Vec<ResolveRequest>,
    authenticate: usize,
    begin: Vec<BeginSyncRequest>,
    store: Vec<StoreSyncResultRequest>,
    traces: Vec<Option<String>>,
}

impl Fake {
    fn asked<T>(&self, read: impl FnOnce(&mut Asked) -> T) -> T {
        read(&mut self.0.lock().unwrap())
    }
}

/// `bad` is an unknown key, `limited` is over its rate, `slow` never answers.
async fn check_key(caller: Option<&proto::v1::Caller>) -> Result<(), Status> {
    let Some(Kind::Collect(caller)) = caller.and_then(|caller| caller.kind.as_ref()) else {
        return Err(Reason::of(ErrorReason::InvalidArgument).status(None));
    };
    match caller.pipeline_key.as_str() {
        "" | "bad" => Err(Reason::of(ErrorReason::InvalidPipelineKey).status(None)),
        "slow" => std::future::pending().await,
        "limited" => Err(Reason::of(ErrorReason::RateLimited).status_after(Duration::from_millis(20_100))),
        "denied" => Err(Reason::of(ErrorReason::RoleNotAllowed).status(None)),
        _ => Ok(()),
    }
}

#[tonic::async_trait]
impl ResolveService for Fake {
    async fn resolve(
        &self,
        request: tonic::Request<ResolveRequest>,
    ) -> Result<Answer<ResolveResponse>, Status> {
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer token");
        assert!(request.metadata().contains_key("grpc-timeout"));
        let trace = request.metadata().get("traceparent").map(|trace| trace.to_str().unwrap().to_owned());
        let request = request.into_inner();
        self.asked(|asked| {
            asked.traces.push(trace);
            asked.resolve.push(request.clone());
        });
        check_key(request.caller.as_ref()).await?;
        let resolution = |subject: &proto::v1::Subject| {
            let retry = subject.user_id.as_deref() == Some("away");
            Resolution {
                anonymous_id: subject.anonymous_id.clone().unwrap_or_else(|| "minted".into()),
                error: retry.then(|| ResolutionError {
                    reason: ErrorReason::Unavailable.into(),
                    message: String::new(),
                    retry,
                }),
                pending_syncs: vec![proto::v1::PendingSync {
                    vendor: "pinterest".into(),
                    url: "/v1/sync/pinterest".into(),
                    partner_id: "26".into(),
                }],
                cookies: vec![Cookie {
                    name: "_dfid".into(),
                    value: subject.anonymous_id.clone().unwrap_or_else(|| "minted".into()),
                    path: "/".into(),
                    ..Cookie::default()
                }],
                ..Resolution::default()
            }
        };
        Ok(Answer::new(ResolveResponse { resolutions: request.subjects.iter().map(resolution).collect() }))
    }

    async fn vendor_ids(
        &self,
        _: tonic::Request<VendorIdsRequest>,
    ) -> Result<Answer<VendorIdsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn create_link(
        &self,
        request: tonic::Request<CreateLinkRequest>,
    ) -> Result<Answer<CreateLinkResponse>, Status> {
        let link_token = format!("token of {}", request.into_inner().cookie_anonymous_id);
        Ok(Answer::new(CreateLinkResponse { link_token }))
    }
}

#[tonic::async_trait]
impl AuthService for Fake {
    async fn authenticate(
        &self,
        request: tonic::Request<AuthenticateRequest>,
    ) -> Result<Answer<AuthenticateResponse>, Status> {
        self.asked(|asked| asked.authenticate += 1);
        let caller = request.into_inner().caller.map(caller_message);
        check_key(caller.as_ref()).await.map(|()| Answer::new(AuthenticateResponse::default()))
    }

    async fn check_origin(
        &self,
        request: tonic::Request<CheckOriginRequest>,
    ) -> Result<Answer<CheckOriginResponse>, Status> {
        let allowed = request.get_ref().origin == ORIGIN && request.get_ref().host == "collect.example";
        Ok(Answer::new(CheckOriginResponse { allowed }))
    }
}

fn caller_message(caller: proto::v1::CollectCaller) -> proto::v1::Caller {
    crate::caller::message(caller)
}

#[tonic::async_trait]
impl SyncService for Fake {
    async fn pending_syncs(
        &self,
        _: tonic::Request<PendingSyncsRequest>,
    ) -> Result<Answer<PendingSyncsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn begin_sync(
        &self,
        request: tonic::Request<BeginSyncRequest>,
    ) -> Result<Answer<BeginSyncResponse>, Status> {
        let request = request.into_inner();
        check_key(request.caller.as_ref()).await?;
        self.asked(|asked| asked.begin.push(request.clone()));
        let outcome = match request.vendor.as_str() {
            "pinterest" => Outcome::Redirect(SyncRedirect {
                location: "https://ct.pinterest.com/user/?tid=1".into(),
                state_cookie: Some(Cookie {
                    name: "_dfs_pinterest".into(),
                    value: "state".into(),
                    path: "/v1/sync/pinterest".into(),
                    secure: true,
                    same_site: SameSite::None.into(),
                    ..Cookie::default()
                }),
            }),
            "criteo" => Outcome::Refusal(SyncRefusal::Consent.into()),
            _ => return Err(Reason::of(ErrorReason::VendorNotFound).status(None)),
        };
        Ok(Answer::new(BeginSyncResponse { outcome: Some(outcome) }))
    }

    async fn store_sync_result(
        &self,
        request: tonic::Request<StoreSyncResultRequest>,
    ) -> Result<Answer<StoreSyncResultResponse>, Status> {
        self.asked(|asked| asked.store.push(request.into_inner()));
        Ok(Answer::new(StoreSyncResultResponse::default()))
    }

    async fn explain(&self, _: tonic::Request<ExplainRequest>) -> Result<Answer<ExplainResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

const ORIGIN: &str = "https://shop.example";

/// An edge before a fake core.
async fn start() -> (Router, Fake) {
    let fake = Fake::default();
    let listener = serve::bind("LISTEN_ADDR", ([127, 0, 0, 1], 0).into()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let routes = Routes::new(ResolveServiceServer::new(fake.clone()))
        .add_service(AuthServiceServer::new(fake.clone()))
        .add_service(SyncServiceServer::new(fake.clone()));
    tokio::spawn(serve::serve(listener, "grpc", Workers::here(routes.into_axum_router()), Lifecycle::new()));
    (edge(&[addr]), fake)
}

fn edge(cores: &[SocketAddr]) -> Router {
    let urls: Vec<_> = cores.iter().map(|addr| format!("http://{addr}").parse().unwrap()).collect();
    app(Edge {
        core: CoreClient::new(&urls, "Bearer token".parse().unwrap()),
        proxies: Arc::default(),
        bodies: Bodies::default(),
        throttle: Arc::default(),
    })
}

struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn send(app: &Router, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Got {
    let mut request = Request::builder().method(method).uri(target).header("host", "collect.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let peer = ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 1)));
    let request = request.extension(peer).body(Body::from(body.to_owned())).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Got {
        status: parts.status,
        headers: parts.headers,
        body: to_bytes(body, 1 << 20).await.unwrap().to_vec(),
    }
}

const KEY: (&str, &str) = ("authorization", "Bearer dk_live_x");

#[tokio::test]
async fn a_batch_is_one_call_and_its_broken_events_are_named() {
    let (app, fake) = start().await;
    let body = r#"{"batch":[{"anonymousId":"a"},{"anonymousId":"a","type":"page"},{"anonymousId":"\ud800"},
        {"userId":"away"},{"anonymousId":"b"}]}"#;
    let headers = [KEY, ("origin", ORIGIN), ("traceparent", "00-aa-bb-01")];
    let got = send(&app, "POST", "/v1/batch", &headers, body).await;
    assert_eq!(got.status, StatusCode::OK);
    let json = got.json();
    assert_eq!((&json["success"], &json["accepted"]), (&true.into(), &3.into()));
    assert_eq!(json["anonymous_id"], "b");
    assert_eq!(json["pending_syncs"][0]["partner_id"], "26");
    assert_eq!(json["errors"][0]["index"], 2);
    assert_eq!(json["errors"][0]["code"], "INVALID_EVENT");
    assert_eq!(
        json["errors"][0]["message"],
        "The event is not valid. A text has a lone surrogate. Field: anonymousId."
    );
    assert!(json["errors"][0].get("retry").is_none());
    assert_eq!(json["errors"][1]["index"], 3);
    assert_eq!(
        (&json["errors"][1]["code"], &json["errors"][1]["retry"]),
        (&"UNAVAILABLE".into(), &true.into())
    );
    assert_eq!(got.header("access-control-allow-origin"), ORIGIN);
    assert_eq!(got.header("access-control-allow-credentials"), "true");
    assert_eq!(got.header("vary"), "Origin");
    assert_eq!(got.header("set-cookie"), "_dfid=b; Max-Age=0; Path=/");
    fake.asked(|asked| {
        assert_eq!((asked.resolve.len(), asked.authenticate), (1, 0));
        assert_eq!(asked.resolve[0].subjects.len(), 3);
        assert_eq!(asked.traces, [Some("00-aa-bb-01".to_owned())]);
        let Some(Kind::Collect(caller)) = asked.resolve[0].caller.clone().unwrap().kind else { panic!() };
        assert_eq!(
            (caller.host.as_str(), caller.client_ip.as_deref()),
            ("collect.example", Some("192.0.2.7"))
        );
        assert!(caller.signed_body.is_none());
    });
}

#[tokio::test]
async fn without_a_valid_event_the_caller_is_authenticated_all_the_same() {
    let (app, fake) = start().await;
    let got = send(&app, "POST", "/v1/batch", &[KEY], r#"{"batch":[null,1]}"#).await;
    assert_eq!((got.status, &got.json()["accepted"]), (StatusCode::OK, &0.into()));
    assert_eq!(got.json()["anonymous_id"], Value::Null);
    let got = send(&app, "POST", "/v1/batch?pipeline_key=bad", &[], r#"{"batch":[null]}"#).await;
    assert_eq!((got.status, got.code().as_str()), (StatusCode::UNAUTHORIZED, "INVALID_PIPELINE_KEY"));
    let headers = [KEY, ("origin", ORIGIN)];
    let got = send(&app, "POST", "/v1/t", &headers, r#"{"userId":5}"#).await;
    assert_eq!((got.status, got.code().as_str()), (StatusCode::BAD_REQUEST, "INVALID_EVENT"));
    assert_eq!(got.header("access-control-allow-origin"), ORIGIN);
    assert_eq!(fake.asked(|asked| (asked.authenticate, asked.resolve.len())), (3, 0));
}

#[tokio::test]
async fn a_single_events_error_is_the_answers() {
    let (app, _) = start().await;
    let got = send(&app, "POST", "/v1/i", &[KEY], r#"{"userId":"u","anonymousId":"a"}"#).await;
    assert_eq!((got.status, &got.json()["accepted"]), (StatusCode::OK, &1.into()));
    let got = send(&app, "POST", "/v1/t", &[KEY], r#"{"userId":"away"}"#).await;
    assert_eq!((got.status, got.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    let large = format!(r#"{{"x":"{}"}}"#, "a".repeat(33_000));
    let got = send(&app, "POST", "/v1/p", &[KEY], &large).await;
    assert_eq!((got.status, got.code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "EVENT_TOO_LARGE"));
}

#[tokio::test]
async fn a_refusal_is_readable_where_the_page_may_call_and_sets_no_cookie() {
    let (app, _) = start().await;
    let event = r#"{"anonymousId":"a"}"#;
    let (bad, slow) = (("authorization", "Bearer bad"), ("authorization", "Bearer slow"));
    for (headers, status, readable) in [
        (vec![("origin", ORIGIN)], StatusCode::UNAUTHORIZED, true),
        (vec![bad, ("origin", ORIGIN)], StatusCode::UNAUTHORIZED, true),
        (
            vec![KEY, ("origin", ORIGIN), ("content-encoding", "gzip")],
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            true,
        ),
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
        (vec![KEY, ("content-encoding", "gzip")], StatusCode::UNSUPPORTED_MEDIA_TYPE),
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
async fn a_key_over_its_rate_is_refused_here_until_it_may_try_again() {
    let (app, fake) = start().await;
    let headers = [("authorization", "Bearer limited"), ("origin", ORIGIN)];
    for _ in 0..3 {
        let got = send(&app, "POST", "/v1/t", &headers, r#"{"userId":"u"}"#).await;
        assert_eq!((got.status, got.code().as_str()), (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED"));
        assert_eq!(got.header("retry-after"), "21");
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
async fn a_signed_call_sends_its_body_and_gets_neither_cors_nor_cookies() {
    let (app, fake) = start().await;
    let headers = [KEY, ("x-datafly-signature", "sha256=00"), ("origin", ORIGIN), ("cookie", "_dfid=c")];
    let got = send(&app, "POST", "/v1/t", &headers, r#"{"userId":"u"} "#).await;
    assert_eq!(got.status, StatusCode::OK);
    assert!(
        !got.headers.contains_key("access-control-allow-origin") && !got.headers.contains_key("set-cookie")
    );
    fake.asked(|asked| {
        let Some(Kind::Collect(caller)) = asked.resolve[0].caller.clone().unwrap().kind else { panic!() };
        assert_eq!(caller.signed_body.as_deref(), Some(&br#"{"userId":"u"} "#[..]));
        assert!(asked.resolve[0].subjects[0].cookie_anonymous_id.is_none());
    });
}

#[tokio::test]
async fn a_sync_redirects_refuses_or_does_nothing() {
    let (app, fake) = start().await;
    let target = "/v1/sync/pinterest?pipeline_key=dk_live_x&aid=a%26b&partner_id=9";
    let got = send(&app, "GET", target, &[("referer", "https://shop.example/x"), ("sec-gpc", "1")], "").await;
    assert_eq!(got.status, StatusCode::FOUND);
    assert_eq!(got.header("location"), "https://ct.pinterest.com/user/?tid=1");
    assert_eq!(got.header("cache-control"), "no-store");
    assert_eq!(got.header("referrer-policy"), "no-referrer");
    assert_eq!(
        got.header("set-cookie"),
        "_dfs_pinterest=state; Max-Age=0; Path=/v1/sync/pinterest; Secure; SameSite=None"
    );
    fake.asked(|asked| {
        assert_eq!((asked.begin[0].anonymous_id.as_str(), asked.begin[0].sec_gpc), ("a&b", true));
        assert_eq!(asked.begin[0].referer.as_deref(), Some("https://shop.example/x"));
    });
    for (method, target, headers, status) in [
        ("HEAD", target, vec![], StatusCode::NO_CONTENT),
        ("GET", target, vec![("sec-purpose", "prefetch;prerender")], StatusCode::NO_CONTENT),
        ("GET", target, vec![("purpose", "prefetch")], StatusCode::NO_CONTENT),
        ("GET", "/v1/sync/criteo?pipeline_key=k&aid=a", vec![], StatusCode::NO_CONTENT),
        ("GET", "/v1/sync/pinterest?pipeline_key=slow&aid=a", vec![], StatusCode::NO_CONTENT),
        ("GET", "/v1/sync/pinterest?aid=a", vec![], StatusCode::UNAUTHORIZED),
        ("GET", "/v1/sync/nobody?pipeline_key=k&aid=a", vec![], StatusCode::NOT_FOUND),
        ("GET", "/v1/sync/Pinterest?pipeline_key=k&aid=a", vec![], StatusCode::NOT_FOUND),
        ("GET", "/v1/sync/pinterest%00?pipeline_key=k&aid=a", vec![], StatusCode::NOT_FOUND),
        ("GET", "/v1/sync/%ff?pipeline_key=k&aid=a", vec![], StatusCode::NOT_FOUND),
        ("GET", "/v1/sync/pinterest/?pipeline_key=k&aid=a", vec![], StatusCode::NOT_FOUND),
        ("GET", "/v1/sync/pinterest?pipeline_key=k&aid=a&aid=b", vec![], StatusCode::BAD_REQUEST),
        ("GET", "/v1/sync/pinterest?pipeline_key=k&aid=a%0d%0aX:y", vec![], StatusCode::BAD_REQUEST),
        ("GET", "/v1/sync/pinterest?pipeline_key=k&aid=%zz", vec![], StatusCode::BAD_REQUEST),
    ] {
        let got = send(&app, method, target, &headers, "").await;
        assert_eq!(got.status, status, "{method} {target} {headers:?}");
        assert!(!got.headers.contains_key("location"));
    }
    assert_eq!(fake.asked(|asked| asked.begin.len()), 3);
}

#[tokio::test]
async fn a_callback_always_gets_its_image() {
    let (app, fake) = start().await;
    let target = "/v1/sync/pinterest/callback?state=s&uid=%zz";
    let got = send(&app, "GET", target, &[("cookie", "_dfs_pinterest=st; _dfid=me")], "").await;
    let image = |got: &Got| {
        assert_eq!(
            (got.status, got.body.len(), got.header("content-type")),
            (StatusCode::OK, 43, "image/gif")
        );
        assert_eq!(
            (got.header("cache-control"), got.header("x-content-type-options")),
            ("no-store", "nosniff")
        );
    };
    image(&got);
    assert!(got.header("set-cookie").starts_with("_dfs_pinterest=; Max-Age=0; Path=/v1/sync/pinterest; "));
    fake.asked(|asked| {
        let stored = asked.store.pop().unwrap();
        assert_eq!(
            (stored.raw_query.as_str(), stored.state_cookie.as_deref()),
            ("state=s&uid=%zz", Some("st"))
        );
        assert_eq!(
            (stored.host.as_str(), stored.cookie_anonymous_id.as_deref()),
            ("collect.example", Some("me"))
        );
    });
    let long = format!("/v1/sync/pinterest/callback?{}", "a".repeat(8 * 1024 + 1));
    for target in ["/v1/sync/%00/callback?state=s", "/v1/sync/a%3Bb/callback", &long] {
        image(&send(&app, "GET", target, &[], "").await);
    }
    assert_eq!(fake.asked(|asked| asked.store.len()), 0);
    image(&send(&edge(&[([127, 0, 0, 1], 1).into()]), "GET", target, &[], "").await);
}

#[tokio::test]
async fn a_link_is_the_cookie_s_visitor_s() {
    let (app, _) = start().await;
    let headers = [KEY, ("origin", ORIGIN), ("cookie", "_dfid=me")];
    let got = send(&app, "POST", "/v1/link", &headers, r#"{"anonymousId":"somebody else"}"#).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.body, br#"{"link_token":"token of me","parameter":"_dfl","expires_in":120}"#.as_slice());
    assert_eq!(
        (got.header("cache-control"), got.header("access-control-allow-origin")),
        ("no-store", ORIGIN)
    );
    let stranger = send(&app, "POST", "/v1/link", &[KEY, ("origin", ORIGIN)], "").await;
    assert_eq!((stranger.status, stranger.code().as_str()), (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT"));
    assert_eq!(send(&app, "GET", "/v1/link", &[KEY], "").await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_preflight_names_the_exact_origin_or_nothing() {
    let (app, _) = start().await;
    for target in ["/v1/batch", "/v1/sync/pinterest", "/v1/anything"] {
        let got = send(&app, "OPTIONS", target, &[("origin", ORIGIN)], "").await;
        assert_eq!((got.status, got.header("access-control-allow-origin")), (StatusCode::NO_CONTENT, ORIGIN));
        assert_eq!(got.header("access-control-allow-headers"), "authorization, content-type");
        assert_eq!((got.header("access-control-max-age"), got.header("vary")), ("600", "Origin"));
    }
    for headers in [vec![("origin", "https://evil.example")], vec![("origin", "null")], vec![]] {
        let got = send(&app, "OPTIONS", "/v1/batch", &headers, "").await;
        assert_eq!(got.status, StatusCode::NO_CONTENT);
        assert!(got.headers.keys().all(|name| !name.as_str().starts_with("access-control")), "{headers:?}");
    }
}

#[tokio::test]
async fn a_core_that_is_away_is_503_and_one_that_is_not_takes_over() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let event = r#"{"anonymousId":"a"}"#;
    let got = send(&edge(&[nobody]), "POST", "/v1/t", &[KEY], event).await;
    assert_eq!((got.status, got.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    let (_, fake) = start().await;
    let listener = serve::bind("LISTEN_ADDR", ([127, 0, 0, 1], 0).into()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let routes = Routes::new(ResolveServiceServer::new(fake)).into_axum_router();
    tokio::spawn(serve::serve(listener, "grpc", Workers::here(routes), Lifecycle::new()));
    let app = edge(&[nobody, addr]);
    for _ in 0..8 {
        assert_eq!(send(&app, "POST", "/v1/t", &[KEY], event).await.status, StatusCode::OK);
    }
    let got = send(&app, "POST", "/v1/t", &[("authorization", "Bearer slow")], event).await;
    assert_eq!(got.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn what_is_no_route_answers_in_the_envelope() {
    let (app, _) = start().await;
    for (method, target, status, code) in [
        ("GET", "/", StatusCode::NOT_FOUND, "NOT_FOUND"),
        ("POST", "/v1/nothing", StatusCode::NOT_FOUND, "NOT_FOUND"),
        ("PUT", "/v1/batch", StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
        ("TRACE", "/v1/batch", StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
        ("POST", "/v1/enrich", StatusCode::NOT_IMPLEMENTED, "NOT_IMPLEMENTED"),
        ("GET", "/v1/enrich", StatusCode::NOT_IMPLEMENTED, "NOT_IMPLEMENTED"),
    ] {
        let got = send(&app, method, target, &[], "").await;
        assert_eq!((got.status, got.code().as_str()), (status, code), "{method} {target}");
        let allow = if status == StatusCode::METHOD_NOT_ALLOWED { "POST" } else { "" };
        assert_eq!(got.header("allow"), allow, "{method} {target}");
    }
}
