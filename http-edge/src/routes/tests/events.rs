//! Events of pages and of customers' servers, `POST /v1/batch` and the single ones.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::ConnectInfo,
};
use futures_util::{FutureExt, future::join_all};
use http::{Request, StatusCode};
use http_body::Frame;
use proto::v1::caller::Kind;
use serde_json::Value;
use tonic::{Code, Status};
use tower::ServiceExt;

use super::{KEY, ORIGIN, client, send, start, start_core};
use crate::vendor_cookies::VendorCookies;

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
        assert_eq!((asked.resolve.len(), asked.authenticate, asked.announced), (1, 0, 1));
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
    let got = send(&app, "POST", "/v1/t", &headers, r#"{"userId":"\u0000"}"#).await;
    assert_eq!((got.status, got.code().as_str()), (StatusCode::BAD_REQUEST, "INVALID_EVENT"));
    assert_eq!(got.header("access-control-allow-origin"), ORIGIN);
    assert_eq!(fake.asked(|asked| (asked.authenticate, asked.resolve.len())), (2, 0));
}

#[tokio::test]
async fn the_error_of_a_single_event_is_the_answer() {
    let (app, _) = start().await;
    let got = send(&app, "POST", "/v1/i", &[KEY], r#"{"userId":"u","anonymousId":"a"}"#).await;
    assert_eq!((got.status, &got.json()["accepted"]), (StatusCode::OK, &1.into()));
    let got = send(&app, "POST", "/v1/t", &[KEY], r#"{"userId":"away"}"#).await;
    assert_eq!((got.status, got.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    let got = send(&app, "POST", "/v1/t", &[KEY], r#"{"userId":"one too many"}"#).await;
    assert_eq!((got.status, got.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "1"));
    let large = format!(r#"{{"x":"{}"}}"#, "a".repeat(33_000));
    let got = send(&app, "POST", "/v1/p", &[KEY], &large).await;
    assert_eq!((got.status, got.code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "EVENT_TOO_LARGE"));
}

#[tokio::test]
async fn what_does_not_count_of_an_event_is_a_warning_at_its_index() {
    let (app, fake) = start().await;
    let body = r#"{"batch":[{"anonymousId":"a"},{"anonymousId":"a","traits":{"phone":1.5,"email":7}},
        {"anonymousId":"\ud800","traits":{"email":7}},{"userId":"junk","anonymousId":"a"},{"userId":4711},
        {"anonymousId":"b","context":{"consent":7}}]}"#;
    let got = send(&app, "POST", "/v1/batch", &[KEY], body).await;
    let json = got.json();
    assert_eq!(json["accepted"], 5, "{json}");
    let warning = |index: u8, code: &str, message: &str| serde_json::json!({ "index": index, "code": code, "message": message });
    let expected = [
        warning(1, "MEMBER_LEFT_OUT", "traits.email must be text"),
        warning(1, "MEMBER_LEFT_OUT", "traits.phone must be text or an integer"),
        warning(3, "INVALID_PROOF", "context.userHash does not verify, or has expired"),
        warning(3, "MEMBER_LEFT_OUT", "traits.phone can't be used"),
        warning(3, "PLACEHOLDER", "userId is a placeholder"),
        warning(5, "CONSENT_NOT_UNDERSTOOD", "context.consent must be an object; until one comes it denies"),
    ];
    assert_eq!(json["warnings"], Value::from(expected.to_vec()));
    fake.asked(|asked| {
        let subjects = &asked.resolve[0].subjects;
        assert_eq!(subjects[2].user_id.as_deref(), Some("4711"));
        assert_eq!(subjects[3].consent.as_ref().unwrap().json.as_deref(), Some("7"), "to be denied");
    });
    let got = send(&app, "POST", "/v1/i", &[KEY], r#"{"userId":"u","traits":[1]}"#).await;
    assert_eq!((got.status, &got.json()["accepted"]), (StatusCode::OK, &1.into()));
    assert_eq!(got.json()["warnings"][0], warning(0, "MEMBER_LEFT_OUT", "traits must be an object"));
    let got = send(&app, "POST", "/v1/i", &[KEY], r#"{"userId":"u"}"#).await;
    assert!(got.json().get("warnings").is_none());
    let signed = [KEY, ("x-datafly-signature", "sha256=00")];
    let got = send(&app, "POST", "/v1/t", &signed, r#"{"userId":{}}"#).await;
    assert_eq!((got.status, got.code().as_str()), (StatusCode::BAD_REQUEST, "INVALID_IDENTIFIER"));
    assert_eq!(got.json()["error"]["message"], "userId must be text or an integer.");
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

/// A body that must not be looked at.
struct Unread;

impl HttpBody for Unread {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("the body was read first")
    }
}

#[tokio::test]
async fn the_key_is_asked_for_before_a_byte_of_the_body() {
    let (app, fake) = start().await;
    // A sender who waits for `100 Continue` has sent nothing that could be thrown away.
    let bad = [("authorization", "Bearer bad"), ("expect", "100-continue")];
    for signature in [None, Some(("x-datafly-signature", "sha256=00"))] {
        let mut request = Request::builder().method("POST").uri("/v1/batch");
        for (name, value) in bad.into_iter().chain(signature) {
            request = request.header(name, value);
        }
        let peer = ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 1)));
        let request = request.extension(peer).body(Body::new(Unread)).unwrap();
        assert_eq!(app.clone().oneshot(request).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(fake.asked(|asked| asked.announced), 2);
    // Who is known is not asked about again; of who signs nothing is known before the core has seen a signature.
    for _ in 0..3 {
        assert_eq!(send(&app, "POST", "/v1/t", &[KEY], r#"{"userId":"u"}"#).await.status, StatusCode::OK);
    }
    assert_eq!(fake.asked(|asked| asked.announced), 3);
    for _ in 0..3 {
        let signed = [KEY, ("x-datafly-signature", "sha256=00")];
        assert_eq!(send(&app, "POST", "/v1/t", &signed, r#"{"userId":"u"}"#).await.status, StatusCode::OK);
    }
    assert_eq!(fake.asked(|asked| asked.announced), 4);
}

#[tokio::test]
async fn the_vendors_cookies_are_asked_for_once_and_only_where_some_may_have_come() {
    let (app, fake) = start().await;
    let body = r#"{"anonymousId":"a"}"#;
    for (cookie, asked_so_far) in
        [(None, 0), (Some("_ga=GA1.2.1.2; session=x"), 1), (Some("_ga=GA1.2.1.2"), 1)]
    {
        let headers: Vec<_> = [KEY].into_iter().chain(cookie.map(|cookie| ("cookie", cookie))).collect();
        assert_eq!(send(&app, "POST", "/v1/t", &headers, body).await.status, StatusCode::OK);
        fake.asked(|asked| {
            let subject = &asked.resolve.last().unwrap().subjects[0];
            let forwarded: Vec<&str> = subject.vendor_cookies.keys().map(String::as_str).collect();
            assert_eq!(forwarded, cookie.map(|_| "_ga").into_iter().collect::<Vec<_>>());
            assert_eq!(asked.vendor_cookies, asked_so_far);
        });
    }
}

#[tokio::test]
async fn of_several_cookies_all_are_told_and_a_stale_one_is_ended() {
    let (app, fake) = start().await;
    let body = r#"{"anonymousId":"a"}"#;
    for (domain, cookie, ends) in [
        (Some("example"), "_dfid=old; _dfid=; _dfid=new; _ga=x; _ga=y", true),
        (Some("example"), "_dfid=old", false),
        (None, "_dfid=old; _dfid=new", false),
    ] {
        fake.asked(|asked| asked.cookie_domain = domain.map(str::to_owned));
        let got = send(&app, "POST", "/v1/t", &[KEY, ("cookie", cookie)], body).await;
        let set: Vec<_> = got.headers.get_all("set-cookie").iter().map(|set| set.to_str().unwrap()).collect();
        assert_eq!(set[..set.len() - 1] == ["_dfid=; Max-Age=0; Path=/"], ends, "{cookie}: {set:?}");
        assert!(set.last().unwrap().starts_with("_dfid=a;"), "the new one comes last: {set:?}");
    }
    fake.asked(|asked| {
        let subject = &asked.resolve[0].subjects[0];
        assert_eq!(subject.cookie_anonymous_id.as_deref(), Some("old"));
        assert_eq!(subject.cookie_anonymous_ids, ["new"]);
        assert_eq!((subject.vendor_cookies["_ga"].as_str(), subject.further_vendor_cookies.len()), ("x", 1));
    });
}

#[tokio::test]
async fn while_no_core_names_the_cookies_a_visitor_who_has_some_is_told_to_return() {
    let (app, fake) = start().await;
    let (headers, body) = ([KEY, ("cookie", "_ga=GA1.2.1.2")], r#"{"anonymousId":"a"}"#);
    for refusal in [Status::unimplemented("a core of before"), Status::unavailable("")] {
        fake.asked(|asked| asked.cookie_names = Err(refusal));
        let got = send(&app, "POST", "/v1/t", &headers, body).await;
        assert_eq!((got.status, got.code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"));
        assert_eq!(got.header("retry-after"), "1");
        assert_eq!(fake.asked(|asked| asked.resolve.len()), 0, "the core would take the cookie for lost");
    }
    fake.asked(|asked| asked.cookie_names = Ok(vec!["_ga".into()]));
    assert_eq!(send(&app, "POST", "/v1/t", &headers, body).await.status, StatusCode::OK);
}

#[tokio::test]
async fn one_question_that_fails_is_the_answer_of_all_who_wait_for_it() {
    let (fake, addr) = start_core().await;
    let (core, cookies) = (client(&[addr]), VendorCookies::default());
    fake.asked(|asked| asked.cookie_names = Err(Status::unavailable("")));
    let waiting = join_all((0..64).map(|_| cookies.names(&core))).await;
    assert!(
        waiting.iter().all(|names| names.as_ref().is_err_and(|status| status.code() == Code::Unavailable))
    );
    assert_eq!(fake.asked(|asked| asked.vendor_cookies), 1);
}

#[tokio::test]
async fn a_visitor_who_leaves_does_not_take_the_question_along() {
    let (fake, addr) = start_core().await;
    let (core, cookies) = (client(&[addr]), VendorCookies::default());
    fake.asked(|asked| asked.cookie_names = Ok(vec!["_ga".into()]));
    assert!(cookies.names(&core).now_or_never().is_none(), "polled once, and dropped");
    assert_eq!(*cookies.names(&core).await.unwrap(), ["_ga"]);
    assert_eq!(fake.asked(|asked| asked.vendor_cookies), 1);
}

#[tokio::test]
async fn a_name_that_a_core_has_told_stays_though_another_does_not_know_it() {
    let (fake, addr) = start_core().await;
    let (core, cookies) = (client(&[addr]), VendorCookies::default());
    for told in [vec!["_ga", "_new"], vec!["_ga"]] {
        fake.asked(|asked| asked.cookie_names = Ok(told.into_iter().map(str::to_owned).collect()));
        assert_eq!(*cookies.ask(&core).await.unwrap(), ["_ga", "_new"]);
        assert_eq!(*cookies.names(&core).await.unwrap(), ["_ga", "_new"]);
    }
}
