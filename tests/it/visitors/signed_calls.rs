//! Calls of a customer's server, signed with its secret, and sources that take no others.

use std::time::Duration;

use harness::{
    answers::{assert_accepted, assert_gif},
    browser::{Answer, Browser},
    eventually,
    people::named,
    seed::Customer,
    signature::sign,
    system::now,
    visits::granted,
    world::World,
};
use proto::{
    reason_of,
    v1::{Caller, CollectCaller, ErrorReason, PendingSyncsRequest, caller::Kind, identity_ref::Id},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{process::Command, task::JoinSet};

/// A customer's server, which sends no Origin.
fn server(world: &World, customer: &Customer) -> Browser {
    let mut server = world.browser_of(customer);
    server.origin = None;
    server
}

/// Sends one event, with these headers beside the key.
async fn send(server: &mut Browser, body: impl Into<reqwest::Body>, headers: &[(&str, &str)]) -> Answer {
    let mut request = server.request(Method::POST, "/v1/t").bearer_auth(&server.key);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    server.send(request.body(body)).await
}

async fn send_signed(server: &mut Browser, secret: &str, body: &str) -> Answer {
    send(server, body.to_owned(), &[("x-datafly-signature", &sign(secret, body))]).await
}

fn at(seconds: i64) -> String {
    (now().unix_timestamp() + seconds).to_string()
}

fn identify(anonymous_id: &str, user_id: &str, message_id: &str) -> String {
    json!({"type": "identify", "anonymousId": anonymous_id, "userId": user_id, "messageId": message_id,
        "context": {"consent": granted()}})
    .to_string()
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, code: &str, what: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {}", answer.text());
    let cors = answer.headers.keys().any(|name| name.as_str().starts_with("access-control"));
    assert!(!cors, "{what}: {:?}", answer.headers);
}

#[tokio::test]
async fn what_is_signed_as_it_should_be_is_a_server_s() {
    let world = World::start().await;
    let secret = &world.customer.server_secret;
    let mut server = server(&world, &world.customer);
    let body = identify("device-1", "customer-7", "m");
    let signature = sign(secret, &body);
    assert_accepted(&send_signed(&mut server, secret, &body).await, 1);
    // The bytes of the signature are compared, not the letters.
    let upper = format!("sha256={}", signature["sha256=".len()..].to_uppercase());
    assert_accepted(&send(&mut server, body.clone(), &[("x-datafly-signature", &upper)]).await, 1);
    for seconds in [0, -290, 290] {
        let (at, body) = (at(seconds), body.clone());
        let signature = sign(secret, &format!("{at}.{body}"));
        let headers = [("x-datafly-signature", &*signature), ("x-datafly-timestamp", &*at)];
        assert_accepted(&send(&mut server, body, &headers).await, 1);
    }
    // No CORS, whatever the Origin, and no cookies, whatever the event: no browser is to sign.
    for origin in [&*world.customer.origin, "https://evil.example", "null"] {
        server.origin = Some(origin.to_owned());
        let answer = send_signed(&mut server, secret, &body).await;
        assert_accepted(&answer, 1);
        let cors = answer.headers.keys().any(|name| name.as_str().starts_with("access-control"));
        assert!(!cors && answer.set_cookies().is_empty(), "{origin}: {:?}", answer.headers);
    }
    assert_eq!(
        world.database.count("links", "kind = 1 AND via = 'signed'").await,
        1,
        "a signed user_id is vouched for"
    );
}

#[tokio::test]
async fn what_is_not_signed_as_it_should_be_is_refused_and_leaves_nothing() {
    let world = World::start().await;
    let other = world.another_customer("explicit").await;
    let secret = &world.customer.server_secret;
    let mut server = server(&world, &world.customer);
    let body = identify("device-1", "customer-7", "m");
    let good = sign(secret, &body);
    let hex = &good["sha256=".len()..];
    let bit_off = |at: usize| {
        let digit = u8::from_str_radix(&hex[at..=at], 16).unwrap() ^ 1;
        format!("sha256={}{digit:x}{}", &hex[..at], &hex[at + 1..])
    };
    let timed = |seconds| sign(secret, &format!("{}.{body}", at(seconds)));
    let rows: Vec<(&str, Vec<(&str, String)>)> = vec![
        ("of another text", vec![("x-datafly-signature", sign(secret, &format!("{body} ")))]),
        ("first bit off", vec![("x-datafly-signature", bit_off(0))]),
        ("a bit off", vec![("x-datafly-signature", bit_off(31))]),
        ("last bit off", vec![("x-datafly-signature", bit_off(63))]),
        ("no prefix", vec![("x-datafly-signature", hex.to_owned())]),
        ("another hash", vec![("x-datafly-signature", format!("sha1={}", &hex[..40]))]),
        ("another hash's name", vec![("x-datafly-signature", format!("sha1={hex}"))]),
        ("empty", vec![("x-datafly-signature", String::new())]),
        ("prefix alone", vec![("x-datafly-signature", "sha256=".to_owned())]),
        ("63 digits", vec![("x-datafly-signature", good[..good.len() - 1].to_owned())]),
        ("65 digits", vec![("x-datafly-signature", format!("{good}0"))]),
        ("half of it", vec![("x-datafly-signature", good[..7 + 32].to_owned())]),
        ("no digits", vec![("x-datafly-signature", format!("sha256={}", "zz".repeat(32)))]),
        ("two", vec![("x-datafly-signature", good.clone()), ("x-datafly-signature", good.clone())]),
        ("another source's", vec![("x-datafly-signature", sign(&other.server_secret, &body))]),
        ("no secret", vec![("x-datafly-signature", sign("", &body))]),
        ("time not signed", vec![("x-datafly-signature", good.clone()), ("x-datafly-timestamp", at(0))]),
        ("signed time left out", vec![("x-datafly-signature", timed(0))]),
        ("too old", vec![("x-datafly-signature", timed(-400)), ("x-datafly-timestamp", at(-400))]),
        ("from the future", vec![("x-datafly-signature", timed(400)), ("x-datafly-timestamp", at(400))]),
        (
            "in milliseconds",
            vec![
                ("x-datafly-signature", sign(secret, &format!("{}000.{body}", at(0)))),
                ("x-datafly-timestamp", format!("{}000", at(0))),
            ],
        ),
        (
            "too old, and another's",
            vec![
                ("x-datafly-signature", sign(&other.server_secret, &format!("{}.{body}", at(-400)))),
                ("x-datafly-timestamp", at(-400)),
            ],
        ),
        (
            "no time",
            vec![
                ("x-datafly-signature", sign(secret, &format!("soon.{body}"))),
                ("x-datafly-timestamp", "soon".to_owned()),
            ],
        ),
        (
            "two times",
            vec![
                ("x-datafly-signature", timed(0)),
                ("x-datafly-timestamp", at(0)),
                ("x-datafly-timestamp", at(0)),
            ],
        ),
    ];
    for (what, headers) in &rows {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        for origin in [None, Some(world.customer.origin.clone())] {
            server.origin = origin;
            let answer = send(&mut server, body.clone(), &headers).await;
            let is_late = ["too old", "from the future", "no time", "in milliseconds"].contains(what);
            let code = if is_late { "SIGNATURE_EXPIRED" } else { "INVALID_SIGNATURE" };
            assert_refused(&answer, 401, code, what);
        }
    }
    server.origin = None;

    // What is too long is not even hashed, whoever signed it.
    let long = " ".repeat(512 * 1024 + 1);
    for signature in [sign(secret, &long), bit_off(0)] {
        let answer = send(&mut server, long.clone(), &[("x-datafly-signature", &signature)]).await;
        assert_refused(&answer, 413, "PAYLOAD_TOO_LARGE", "too long");
    }
    // A good signature makes no event of what is none.
    for broken in ["", "{", "null", "7", "user:customer-7"] {
        let answer = send_signed(&mut server, secret, broken).await;
        assert_eq!(answer.status, 400, "no event: {broken:?}: {}", answer.text());
    }
    let nobody = json!({"type": "identify"}).to_string();
    let answer = send_signed(&mut server, secret, &nobody).await;
    assert_refused(&answer, 400, "MISSING_IDENTIFIER", "a signed event that names nobody");
    assert_eq!(world.database.count("links", "true").await, 0, "something was stored");

    // A good signature opens nothing with a key that was revoked.
    world.database.execute("UPDATE pipeline_keys SET revoked_at = now()").await;
    eventually("the key to be refused", async || {
        let answer = send_signed(&mut server, secret, &body).await;
        if answer.status == 401 { Ok(answer) } else { Err(answer.text()) }
    })
    .await;
    let answer = send_signed(&mut server, secret, &body).await;
    assert_refused(&answer, 401, "INVALID_PIPELINE_KEY", "a revoked key");
}

#[tokio::test]
async fn secrets_overlap_while_they_are_rotated() {
    let world = World::start().await;
    let mut server = server(&world, &world.customer);
    let body = identify("device-1", "customer-7", "m");
    let old = world.customer.server_secret.clone();
    let new = "the-next-secret-of-this-source-0123456789";
    assert_refused(&send_signed(&mut server, new, &body).await, 401, "INVALID_SIGNATURE", "not yet issued");

    let expire = "UPDATE server_secrets SET expires_at = now() + interval";
    world.database.execute(&format!("{expire} '1 hour'")).await;
    let mut database = world.database.connection().await.unwrap();
    let key = &world.cluster.secrets.encryption_key;
    world.customer.add_server_secret(&mut database, key, new).await.unwrap();
    let status = async |server: &mut Browser, secret: &str, wanted: u16| {
        eventually("the secret to be known", async || {
            let answer = send_signed(server, secret, &body).await;
            if answer.status == wanted { Ok(()) } else { Err(answer.text()) }
        })
        .await;
    };
    status(&mut server, new, 200).await;
    assert_accepted(&send_signed(&mut server, &old, &body).await, 1);

    world.database.execute(&format!("{expire} '0 seconds' WHERE expires_at IS NOT NULL")).await;
    status(&mut server, &old, 401).await;
    assert_accepted(&send_signed(&mut server, new, &body).await, 1);

    // Without a secret, or with an empty one, nothing verifies.
    world.database.execute("DELETE FROM server_secrets").await;
    status(&mut server, new, 401).await;
    world.customer.add_server_secret(&mut database, key, "").await.unwrap();
    world.customer.add_server_secret(&mut database, key, &old).await.unwrap();
    status(&mut server, &old, 200).await;
    assert_refused(&send_signed(&mut server, "", &body).await, 401, "INVALID_SIGNATURE", "an empty secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_has_no_second_effect() {
    const TIMES: usize = 1000;
    let world = World::start().await;
    let secret = &world.customer.server_secret;
    let mut server = server(&world, &world.customer);
    let login = identify("tablet", "anna", "m1");
    let first = send_signed(&mut server, secret, &login).await;
    assert_accepted(&first, 1);
    assert_accepted(&send_signed(&mut server, secret, &identify("tablet", "bert", "m2")).await, 1);
    let stored = async || {
        let links = "SELECT string_agg(concat_ws(' ', kind, value, canonical_id, via, linked_at), ', ' ORDER BY value) \
                     FROM links";
        let counts = "SELECT concat_ws(' ', (SELECT count(*) FROM canonicals), (SELECT count(*) FROM merge_history), \
                      (SELECT count(*) FROM used_proofs), (SELECT count(*) FROM consent))";
        [world.database.text(links).await, world.database.text(counts).await]
    };
    let before = stored().await;
    // A message sent again a thousand times has the same answer, and one effect.
    let mut replays = JoinSet::new();
    for _ in 0..20 {
        let (mut server, signature, login) = (server.clone(), sign(secret, &login), login.clone());
        replays.spawn(async move {
            let mut answers = Vec::new();
            for _ in 0..TIMES / 20 {
                let headers = [("x-datafly-signature", signature.as_str())];
                let mut answer = send(&mut server, login.clone(), &headers).await;
                // A machine that is busy with all of these may be late.
                for _ in 0..5 {
                    if answer.status == 503 {
                        answer = send(&mut server, login.clone(), &headers).await;
                    }
                }
                answers.push(answer);
            }
            answers
        });
    }
    let answers: Vec<Answer> = replays.join_all().await.into_iter().flatten().collect();
    assert_eq!(answers.len(), TIMES);
    for answer in answers {
        assert_accepted(&answer, 1);
        assert_eq!(answer.json()["anonymous_id"], first.json()["anonymous_id"]);
    }
    assert_eq!(stored().await, before);
}

/// The example of the product's documentation, with its placeholders in it.
const EXAMPLE: &str = r#"# Compute the signature
BODY='{"type":"track","event":"Order Completed","userId":"user_123","properties":{"total":99.99}}'
SIGNATURE=$(echo -n "$BODY" | openssl dgst -sha256 -hmac "your_server_secret" | awk '{print $2}')
# Send the request
curl -X POST https://data.example.com/v1/t \
-H "Content-Type: application/json" \
-H "Authorization: Bearer dk_live_abc123" \
-H "X-Datafly-Signature: sha256=$SIGNATURE" \
-d "$BODY"
"#;

#[tokio::test]
async fn the_documented_example_works_as_written() {
    let world = World::start().await;
    let run = async |secret: &str| {
        let script = EXAMPLE
            .replace("your_server_secret", secret)
            .replace("https://data.example.com", &world.cluster.collect_url())
            .replace("dk_live_abc123", &world.customer.live_key);
        let ended = Command::new("bash").args(["-c", &script]).env("NO_PROXY", "*").output();
        let ended = tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap().unwrap();
        serde_json::from_slice::<Value>(&ended.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&ended.stderr)))
    };
    let answer = run(&world.customer.server_secret).await;
    assert_eq!((&answer["success"], &answer["accepted"]), (&json!(true), &json!(1)), "{answer}");
    assert_eq!(world.database.count("links", "kind = 1 AND via = 'signed'").await, 1);
    assert_eq!(run("another").await["error"]["code"], json!("INVALID_SIGNATURE"));
}

#[tokio::test]
async fn a_source_that_requires_signatures_takes_nothing_else() {
    let world = World::start().await;
    // Another source of the organisation's, on the same host.
    let Customer { source_id: source, org_id: org, test_org_id: test, .. } = world.customer;
    let (mut database, key) =
        (world.database.connection().await.unwrap(), &world.cluster.secrets.encryption_key);
    let other =
        Customer::seed_in(&mut database, org, test, key, "explicit", "other.example.com").await.unwrap();
    world.cluster.open(&mut database, &other, &world.vendors, &[]).await.unwrap();
    world
        .database
        .execute(&format!("UPDATE sources SET require_signature = true WHERE id = '{source}'"))
        .await;
    let mut browser = world.browser();
    // A page that was let in until now, which the edge remembers.
    let refused = eventually("it to be required", async || {
        let answer = browser.view(&granted()).await;
        if answer.status == 401 { Ok(answer) } else { Err(format!("HTTP {}", answer.status)) }
    })
    .await;
    assert_refused(&refused, 401, "INVALID_SIGNATURE", "a page the edge remembers");
    world.database.execute("DELETE FROM canonicals").await;
    world.flush_redis().await;

    // Nothing is taken of a page, nor of an app: neither can keep a secret.
    for origin in [Some(world.customer.origin.clone()), Some("https://evil.example".to_owned()), None] {
        browser.origin = origin;
        assert_refused(&browser.view(&granted()).await, 401, "INVALID_SIGNATURE", "a batch");
        assert_refused(&send(&mut browser, "{}", &[]).await, 401, "INVALID_SIGNATURE", "an event");
        let jar = browser.collect.clone();
        browser.jar.set(&jar, "_dfid", "device-1");
        assert_refused(&browser.post("/v1/link", "").await, 401, "INVALID_SIGNATURE", "a link");
        browser.jar.clear();
    }
    let collect = CollectCaller {
        pipeline_key: world.customer.live_key.clone(),
        host: world.cluster.edge.addr("http").to_string(),
        ..CollectCaller::default()
    };
    let plan = PendingSyncsRequest {
        caller: Some(Caller { kind: Some(Kind::Collect(collect)) }),
        identity: Some(named(Id::AnonymousId("device-1".to_owned()))),
        pipeline_id: None,
    };
    let edge = world.cluster.api(0, &world.cluster.secrets.edge_token).unwrap();
    let status = edge.sync().pending_syncs(plan).await.unwrap_err();
    assert_eq!(reason_of(&status).unwrap().reason, ErrorReason::InvalidSignature);

    // A page may not even ask, unless another source on the host lets it.
    let mut preflight = async |origin: &str| {
        browser.origin = Some(origin.to_owned());
        let request =
            browser.request(Method::OPTIONS, "/v1/batch").header("access-control-request-method", "POST");
        let answer = browser.send(request).await;
        assert_eq!(answer.status, 204);
        answer.header("access-control-allow-origin").map(str::to_owned)
    };
    assert_eq!(preflight(&world.customer.origin).await, None);
    assert_eq!(preflight(&other.origin).await.as_ref(), Some(&other.origin));
    assert_eq!(world.database.count("links", "true").await, 0);
    assert_accepted(&world.browser_of(&other).view(&granted()).await, 1);

    // Its server is heard, and whom it speaks of can be synced: images carry no signature.
    let mut server = server(&world, &world.customer);
    let secret = &world.customer.server_secret;
    let answer = send_signed(&mut server, secret, &identify("device-1", "customer-7", "m")).await;
    assert_accepted(&answer, 1);
    let mut page = world.browser();
    page.anonymous_id = Some("device-1".to_owned());
    assert_gif(page.sync("pinterest").await.last().unwrap());
    assert!(world.vendor_id("device-1", "pin_unauth").await.is_some());
    // Of whom it never spoke nothing is kept: consent lacks.
    let mut stranger = world.browser();
    let answer = stranger.get(&stranger.sync_url("pinterest")).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
}

#[tokio::test]
async fn live_and_test_see_nothing_of_each_other() {
    let world = World::start().await;
    let secret = &world.customer.server_secret;
    let mut live = server(&world, &world.customer);
    let mut test = live.clone();
    test.key.clone_from(&world.customer.test_key);
    // One secret signs for both, so it is the key alone that tells the worlds apart.
    assert_accepted(&send_signed(&mut live, secret, &identify("live-device", "anna", "m1")).await, 1);
    assert_accepted(&send_signed(&mut test, secret, &identify("test-device", "anna", "m1")).await, 1);
    assert_accepted(&send_signed(&mut test, secret, &identify("live-device", "bert", "m2")).await, 1);
    let (org, sibling) = (world.customer.org_id.to_string(), world.customer.test_org_id.to_string());
    let canonical = async |org: &str, device: &str| world.vendor_ids_in(org, device).await.canonical_id;
    assert_ne!(canonical(&org, "live-device").await, canonical(&sibling, "live-device").await);
    assert_eq!(canonical(&org, "test-device").await, "");
    assert_ne!(canonical(&sibling, "test-device").await, "");

    // Over gRPC, each key with a visitor of either world.
    let edge = world.cluster.api(0, &world.cluster.secrets.edge_token).unwrap();
    let pending = async |key: &str, identity: Id| {
        let collect = CollectCaller {
            pipeline_key: key.to_owned(),
            host: world.cluster.edge.addr("http").to_string(),
            ..CollectCaller::default()
        };
        let plan = PendingSyncsRequest {
            caller: Some(Caller { kind: Some(Kind::Collect(collect)) }),
            identity: Some(named(identity)),
            pipeline_id: None,
        };
        edge.sync().pending_syncs(plan).await.map(drop).map_err(|status| reason_of(&status).unwrap().reason)
    };
    let device = |name: &str| Id::AnonymousId(name.to_owned());
    let (live_key, test_key) = (&world.customer.live_key, &world.customer.test_key);
    assert_eq!(pending(live_key, device("live-device")).await, Ok(()));
    assert_eq!(pending(test_key, device("test-device")).await, Ok(()));
    assert_eq!(pending(live_key, device("test-device")).await, Err(ErrorReason::IdentityNotFound));
    assert_eq!(pending(live_key, Id::UserId("bert".to_owned())).await, Err(ErrorReason::IdentityNotFound));
    let theirs = Id::CanonicalId(canonical(&org, "live-device").await);
    assert_eq!(pending(test_key, theirs.clone()).await, Err(ErrorReason::IdentityNotFound));
    assert_eq!(pending(live_key, theirs).await, Ok(()));

    // A sync begun with one key is stored in its world.
    for (key, own, elsewhere) in [(live_key, &org, &sibling), (test_key, &sibling, &org)] {
        let mut page = world.browser();
        page.key.clone_from(key);
        assert_accepted(&page.view(&granted()).await, 1);
        assert_gif(page.sync("pinterest").await.last().unwrap());
        assert_eq!(world.vendor_ids_in(own, page.aid()).await.vendor_ids.len(), 1);
        let there = world.vendor_ids_in(elsewhere, page.aid()).await;
        assert!(there.canonical_id.is_empty() && there.vendor_ids.is_empty(), "{there:?}");
    }
}
