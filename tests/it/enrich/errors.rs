//! The specification's table of errors, row by row: what is skipped, what is asked again when, and what leaks nowhere.

use std::time::{Duration, Instant};

use harness::{
    enrich_sim::{CREDENTIAL, Fault},
    eventually,
    providers::{Enriching, assert_skipped},
    world::Options,
};
use serde_json::{Value, json};

const VENDOR: &str = "liveramp_ats";

/// The logs of all services so far.
fn logs(own: &Enriching) -> String {
    let cluster = &own.world.cluster;
    cluster.cores.iter().chain([&cluster.edge]).flat_map(|service| service.log()).collect()
}

#[tokio::test]
async fn a_failure_is_skipped_logged_once_and_tried_again_on_the_next_visit() {
    let own = Enriching::with(Options::default(), &[VENDOR]).await;
    let faults = [
        (Fault::Status(500), "status", "500"),
        (Fault::Status(503), "status", "503"),
        (Fault::Status(400), "status", "400"),
        (Fault::Status(302), "status", "302"),
        (Fault::Malformed, "malformed", ""),
        (Fault::Huge, "too_large", ""),
        (Fault::Says(json!({"envelope": {"nested": 1}})), "malformed", ""),
        (Fault::Says(json!({"envelope": "x".repeat(4097)})), "malformed", ""),
    ];
    for (number, (fault, reason, status)) in faults.into_iter().enumerate() {
        let mut browser = own.visitor_with(&format!("{reason}{status}{number}@example.com")).await;
        let before = logs(&own).matches("a provider was skipped").count();
        own.sim.misbehave(VENDOR, Some(fault.clone()));
        let answer = own.enrich(&mut browser, VENDOR).await;
        assert_skipped(&answer, reason);
        assert_eq!(answer["retry_after"], Value::Null, "the next visit will do: {answer}");
        let logged = eventually("the log", async || {
            let lines = logs(&own).matches("a provider was skipped").count();
            if lines > before { Ok(lines - before) } else { Err(format!("{lines} lines")) }
        })
        .await;
        assert_eq!(logged, 1, "{fault:?}");
        own.sim.misbehave(VENDOR, None);
        let answer = own.enrich(&mut browser, VENDOR).await;
        own.id_of(&answer);
    }
    // A vendor that echoes what it was sent leaks it nowhere.
    let all = logs(&own);
    assert!(!all.contains(CREDENTIAL) && !all.contains("example.com"), "{all}");
    let outcomes =
        own.world.metric("datafly_enrich_total", &[("vendor", VENDOR), ("outcome", "status")]).await;
    assert_eq!(outcomes, 4.0);
}

#[tokio::test]
async fn what_takes_too_long_is_skipped_and_asked_again() {
    let own = Enriching::with(Options::default(), &[VENDOR]).await;
    let mut browser = own.visitor_with("slow@example.com").await;
    for fault in [Fault::Slow(Duration::from_millis(2100)), Fault::Hang] {
        own.sim.misbehave(VENDOR, Some(fault));
        assert_skipped(&own.enrich(&mut browser, VENDOR).await, "timeout");
    }
    own.sim.misbehave(VENDOR, None);
    // A call that was given up may be ending still, and is shared until it has.
    eventually("the vendor to be asked again", async || {
        let answer = own.enrich(&mut browser, VENDOR).await;
        if answer["id"].is_string() { Ok(()) } else { Err(answer.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn who_knows_nobody_is_not_asked_again_for_a_while() {
    let own = Enriching::with(Options::default(), &[VENDOR, "acxiom_realid"]).await;
    let mut browser = own.visitor_with("nobody@example.com").await;
    for vendor in [VENDOR, "acxiom_realid"] {
        own.sim.misbehave(vendor, Some(Fault::NoMatch));
        for _ in 0..2 {
            let answer = own.enrich(&mut browser, vendor).await;
            assert_skipped(&answer, "no_id");
            assert!(answer["retry_after"].as_u64().is_some_and(|seconds| seconds > 3600), "{answer}");
        }
        assert_eq!(own.sim.seen(vendor).len(), 1, "{vendor}");
    }
    // A placeholder is nobody's ID.
    for nobody in [json!({"envelope": "null"}), json!({"envelope": ""}), json!({"envelope": null}), json!({})]
    {
        let mut browser = own.visitor_with(&format!("{}@example.com", nobody.to_string().len())).await;
        own.sim.misbehave(VENDOR, Some(Fault::Says(nobody.clone())));
        assert_skipped(&own.enrich(&mut browser, VENDOR).await, "no_id");
    }
}

#[tokio::test]
async fn refused_credentials_stop_all_calls_until_they_change() {
    let own = Enriching::with(Options { cores: 2, ..Options::default() }, &[]).await;
    for status in [401, 403] {
        let bad = json!({"api_key": format!("wrong-{CREDENTIAL}-{status}")});
        own.give(VENDOR, &json!({"base_url": own.sim.base_url(VENDOR)}), &bad).await;
        own.settle().await;
        own.sim.misbehave(VENDOR, Some(Fault::Status(status)));
        let before = own.sim.seen(VENDOR).len();
        for at in 0..4 {
            let mut browser = own.visitor_with(&format!("{status}-{at}@example.com")).await;
            let answer = own.enrich(&mut browser, VENDOR).await;
            assert_skipped(&answer, "credentials");
            assert!(answer["retry_after"].as_u64().is_some(), "{answer}");
        }
        assert_eq!(own.sim.seen(VENDOR).len(), before + 1, "on no core");
        let text = logs(&own);
        assert!(text.contains("configuration error") && !text.contains(CREDENTIAL), "{text}");
        let refused = own.world.database.count("provider_states", "refused_at IS NOT NULL").await;
        assert_eq!(refused, 1);

        own.sim.misbehave(VENDOR, None);
        own.enable(VENDOR, &json!({})).await;
        own.settle().await;
        let mut browser = own.visitor_with(&format!("{status}-after@example.com")).await;
        own.id_of(&own.enrich(&mut browser, VENDOR).await);
    }
    let metric = [("vendor", VENDOR), ("outcome", "credentials")];
    assert_eq!(own.world.metric("datafly_enrich_total", &metric).await, 8.0);
}

#[tokio::test]
async fn a_limit_is_heeded_by_all_instances_for_as_long_as_the_vendor_says() {
    let own = Enriching::with(Options { cores: 2, ..Options::default() }, &[VENDOR]).await;
    let in_three_seconds = || {
        let at = harness::system::now() + Duration::from_secs(3);
        let format = time::macros::format_description!(
            "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
        );
        at.format(&format).unwrap()
    };
    for number in 0..2 {
        let after = if number == 0 { "3".to_owned() } else { in_three_seconds() };
        own.sim.misbehave(VENDOR, Some(Fault::RateLimited(Some(after.clone()))));
        let mut browser = own.visitor_with(&format!("limited-{number}@example.com")).await;
        let before = own.sim.seen(VENDOR).len();
        let answer = own.enrich(&mut browser, VENDOR).await;
        assert_skipped(&answer, "rate_limited");
        assert!((1..=3).contains(&answer["retry_after"].as_u64().unwrap()), "{after}: {answer}");
        own.sim.misbehave(VENDOR, None);
        let began = Instant::now();
        let ends = eventually("the vendor to be asked again", async || {
            let answer = own.enrich(&mut browser, VENDOR).await;
            if answer["id"].is_string() { Ok(began.elapsed()) } else { Err(answer.to_string()) }
        })
        .await;
        assert!(ends > Duration::from_millis(1500), "{after}: after {ends:?}");
        assert_eq!(own.sim.seen(VENDOR).len(), before + 2, "{after}: nobody called meanwhile");
    }
}

#[tokio::test]
async fn a_store_that_is_away_skips_and_asks_nobody_twice() {
    let own = Enriching::with(Options::default(), &[VENDOR]).await;
    let mut browser = own.visitor_with("stores@example.com").await;
    own.world.redis_proxy.refuse().await;
    let answer = own.enrich(&mut browser, VENDOR).await;
    own.id_of(&answer);
    let stored = "SELECT count(*)::text FROM vendor_ids WHERE field = 'ramp_id'";
    assert_eq!(own.world.database.text(stored).await, "1");
}
