//! The edge without its cores: they are gone, or their answers do not arrive.

use std::time::{Duration, Instant};

use harness::{
    answers::{assert_accepted, assert_gif},
    browser::Browser,
    eventually,
    process::Service,
    proxy::Proxy,
    visits::granted,
    wire::Protocol,
    within,
    world::{Options, World},
};
use serde_json::json;

/// Time within which the edge serves again after a core does: 2 s, and as much for a busy machine.
const RECOVERY_LIMIT: Duration = Duration::from_secs(4);

/// Checks what visitors get while no core answers: they are told to come again, and images are never an
/// error.
async fn assert_away(browser: &mut Browser, callback: &str) {
    let batch = browser.view(&granted()).await;
    assert_eq!((batch.status, batch.code().as_str()), (503, "UNAVAILABLE"), "{}", batch.text());
    assert!(batch.header("retry-after").is_some(), "{:?}", batch.headers);
    assert_eq!(browser.get(&browser.sync_url("pinterest")).await.status, 204);
    assert_gif(&browser.get(callback).await);
}

async fn is_back(browser: &mut Browser) {
    within(RECOVERY_LIMIT, "the edge to reach a core", async || match browser.view(&granted()).await {
        answer if answer.status == 200 && answer.json()["accepted"] == json!(1) => Ok(()),
        answer => Err(answer.text()),
    })
    .await;
}

#[tokio::test]
async fn without_cores_visitors_are_told_to_return_and_are_served_again() {
    let mut world = World::with(Options { cores: 2, ..Options::default() }).await;
    let mut browser = world.browser();
    assert_accepted(&browser.view(&granted()).await, 1);
    let callback = browser.sync_to_vendor("pinterest").await;
    for core in &mut world.cluster.cores {
        core.kill9().await;
    }
    assert_away(&mut browser, callback.as_str()).await;
    world.cluster.cores[1].restart().await.unwrap();
    is_back(&mut browser).await;
    world.cluster.cores[0].restart().await.unwrap();
    // Some of the edge's connections may still find out that their core is a new one.
    eventually("the callback to be stored", async || {
        assert_gif(&browser.get(callback.as_str()).await);
        let stored = world.vendor_id(browser.aid(), "pin_unauth").await;
        stored.map(drop).ok_or_else(|| "it is not".to_owned())
    })
    .await;
}

#[tokio::test]
async fn a_core_whose_answers_are_lost_takes_each_visitor_once() {
    let world = World::start().await;
    let proxy = Proxy::start(world.cluster.cores[0].addr("grpc"), Protocol::Opaque).await.unwrap();
    let env = [
        ("IDENTITY_URL", &*format!("http://{}", proxy.addr)),
        ("SERVICE_TOKEN", &world.cluster.secrets.edge_token),
    ];
    let edge = Service::start("http-edge", &env, &["http", "metrics"]).await.unwrap();
    let url = format!("http://{}", edge.addr("http"));
    let mut database = world.database.connection().await.unwrap();
    world.customer.add_collect_host(&mut database, &url).await.unwrap();
    // Until the core has heard of this host, it is nobody's.
    let mut browser = Browser::new(&url, &world.customer.live_key, &world.customer.origin);
    is_back(&mut browser).await;
    let callback = browser.sync_to_vendor("pinterest").await;
    let known = world.database.count("canonicals", "true").await;

    proxy.mute().await;
    for _ in 0..3 {
        let mut new = Browser::new(&url, &world.customer.live_key, &world.customer.origin);
        let began = Instant::now();
        let answer = new.view(&granted()).await;
        assert!([503, 504].contains(&answer.status), "{} {}", answer.status, answer.text());
        // The edge's deadline is 1 s; the rest is for a busy machine.
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
    assert_gif(&browser.get(callback.as_str()).await);
    let met = world.database.count("canonicals", "true").await - known;
    assert_eq!(met, 3, "each visitor once, though not heard");
    proxy.heal().await;
    is_back(&mut browser).await;
    assert_gif(&browser.get(callback.as_str()).await);
    assert_eq!(world.database.count("vendor_ids", "true").await, 1);
    let stored = world.metric("datafly_sync_succeeded_total", &[]).await;
    assert_eq!(stored, 1.0, "a callback that was not heard is not sent again");
    let answer = browser.batch(&json!([browser.page_view(&granted())])).await;
    assert_accepted(&answer, 1);
}
