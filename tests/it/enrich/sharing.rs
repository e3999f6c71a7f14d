//! One call for all who want the same: from one browser or from several, over one core or over two.

use std::sync::Arc;

use futures_util::future::join_all;
use harness::{
    enrich_sim::Fault,
    eventually,
    providers::{Enriching, VENDORS},
    world::Options,
};
use tokio::sync::Notify;

const VENDOR: &str = "liveramp_ats";

#[tokio::test]
async fn a_hundred_who_ask_the_same_at_once_make_one_call() {
    for cores in [1, 2] {
        let own = Enriching::with(Options { cores, ..Options::default() }, &[VENDOR]).await;
        let go = Arc::new(Notify::new());
        own.sim.misbehave(VENDOR, Some(Fault::Held(go.clone())));
        let mut browsers = Vec::new();
        for _ in 0..4 {
            browsers.push(own.visitor_with("shared@example.com").await);
        }
        let asking: Vec<_> = (0..100).map(|at| browsers[at % browsers.len()].clone()).collect();
        let answers = join_all(asking.into_iter().map(|mut browser| {
            let own = &own;
            async move { own.enrich(&mut browser, VENDOR).await }
        }));
        let (answers, ()) = tokio::join!(answers, async {
            eventually("the call", async || match own.sim.seen(VENDOR).len() {
                1 => Ok(()),
                calls => Err(format!("{calls} calls")),
            })
            .await;
            go.notify_one();
        });
        let ids: Vec<&str> = answers.iter().filter_map(|answer| answer["id"].as_str()).collect();
        let others: Vec<_> = answers.iter().filter(|answer| answer["id"].is_null()).collect();
        assert_eq!((ids.len(), own.sim.seen(VENDOR).len()), (100, 1), "{cores} cores: {others:?}");
        assert!(ids.iter().all(|id| *id == ids[0]));
        for browser in &browsers {
            assert_eq!(own.world.vendor_id(browser.aid(), "ramp_id").await.as_deref(), Some(ids[0]));
        }
        assert_eq!(own.world.database.count("enrichments", "true").await, 1);
    }
}

/// A core that is killed while it asks leaves nothing that keeps others from asking.
#[tokio::test]
async fn a_lease_of_who_was_killed_ends_by_itself() {
    let mut own = Enriching::with(Options { cores: 2, ..Options::default() }, &[VENDOR]).await;
    own.sim.misbehave(VENDOR, Some(Fault::Hang));
    let mut browser = own.visitor_with("killed@example.com").await;
    let mut asking = browser.clone();
    let body = serde_json::json!({"vendor": VENDOR, "anonymous_id": asking.aid()}).to_string();
    let call = tokio::spawn(async move { asking.post("/v1/enrich", body).await });
    eventually("the call", async || match own.sim.seen(VENDOR).len() {
        0 => Err("none".to_owned()),
        _ => Ok(()),
    })
    .await;
    for core in &mut own.world.cluster.cores {
        core.kill9().await;
        core.restart().await.unwrap();
    }
    call.abort();
    own.sim.misbehave(VENDOR, None);
    eventually("an answer after the lease", async || {
        let answer = browser
            .post(
                "/v1/enrich",
                serde_json::json!({"vendor": VENDOR, "anonymous_id": browser.aid()}).to_string(),
            )
            .await;
        if answer.status == 200 && answer.json()["id"].is_string() { Ok(()) } else { Err(answer.text()) }
    })
    .await;
}

/// Who is erased takes the answers along that were got for them.
#[tokio::test]
async fn an_erasure_takes_the_answers_along() {
    let own = Enriching::start().await;
    let mut browser = own.visitor_with("erased@example.com").await;
    for vendor in VENDORS {
        own.enrich(&mut browser, vendor).await;
    }
    assert_eq!(own.world.database.count("enrichments", "outcome = 'found'").await, 5);
    let erased =
        harness::people::People::of(&own.world).delete(0, harness::people::browser(browser.aid())).await;
    erased.unwrap();
    for table in ["enrichments", "vendor_ids"] {
        assert_eq!(own.world.database.count(table, "true").await, 0, "{table}");
    }
}
