//! Syncs with their callbacks, and links to other domains of a customer.

use http::StatusCode;

use super::{Got, KEY, ORIGIN, edge, send, start};

#[tokio::test]
async fn a_sync_redirects_or_is_refused_or_does_nothing() {
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
    for (cookie, visitor) in [
        ("_dfid=old; _dfid=a%26b", Some("a&b")),
        ("_dfid=old; _dfid=new", Some("old")),
        ("_dfid=; _dfid=new", Some("new")),
        ("_dfid=", None),
    ] {
        send(&app, "GET", target, &[("cookie", cookie)], "").await;
        fake.asked(|asked| {
            let begun = asked.begin.pop().unwrap();
            assert_eq!(begun.cookie_anonymous_id.as_deref(), visitor, "{cookie}");
        });
    }
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
    send(&app, "GET", target, &[("cookie", "_dfid=old; _dfid=new")], "").await;
    assert_eq!(
        fake.asked(|asked| asked.store.pop().unwrap().cookie_anonymous_id),
        None,
        "the state says which"
    );
    let long = format!("/v1/sync/pinterest/callback?{}", "a".repeat(8 * 1024 + 1));
    for target in ["/v1/sync/%00/callback?state=s", "/v1/sync/a%3Bb/callback", &long] {
        image(&send(&app, "GET", target, &[], "").await);
    }
    assert_eq!(fake.asked(|asked| asked.store.len()), 0);
    image(&send(&edge(&[([127, 0, 0, 1], 1).into()]), "GET", target, &[], "").await);
}

#[tokio::test]
async fn a_link_token_is_for_the_visitor_of_the_cookie() {
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
