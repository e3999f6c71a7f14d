//! A provider that hangs holds up nobody else.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use harness::{
    answers::assert_accepted, enrich_sim::Fault, providers::Enriching, visits::granted, world::Options,
};
use serde_json::json;

#[tokio::test]
async fn a_provider_that_hangs_with_a_thousand_waiting_holds_up_no_event_and_no_other() {
    // A thousand people have a thousand addresses, which a proxy tells.
    let options = Options { trusted_proxies: "127.0.0.0/8", ..Options::default() };
    let own = Enriching::with(options, &["acxiom_realid"]).await;
    own.add_custom("hanging", &json!({"timeout": "10s"})).await;
    own.settle().await;
    own.sim.misbehave("hanging", Some(Fault::Hang));
    let mut calm = own.visitor_with("calm@example.com").await;
    let mut waiting = Vec::new();
    // Each fifty are followed by somebody who wants nothing of it: answered at once, while those before still wait.
    for fifty in 0..20 {
        let people: Vec<String> = (0..50).map(|at| format!("waiting-{fifty}-{at}")).collect();
        let event = |person: &String| {
            let mut event = calm.page_view(&granted());
            event["anonymousId"] = json!(person);
            event
        };
        let events: Vec<_> = people.iter().map(event).collect();
        assert_accepted(&own.world.browser().batch(&json!(events)).await, 50);
        for (at, person) in people.into_iter().enumerate() {
            let mut browser = own.world.browser();
            browser.address = Some(format!("10.0.{fifty}.{}", at + 1));
            let body = json!({"vendor": "hanging", "anonymous_id": person}).to_string();
            waiting.push(tokio::spawn(async move { browser.post("/v1/enrich", body).await }));
        }
        assert_accepted(&calm.view(&granted()).await, 1);
        let mut other = own.visitor_with(&format!("other-{fifty}@example.com")).await;
        own.id_of(&own.enrich(&mut other, "acxiom_realid").await);
    }
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for answer in join_all(waiting).await {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        *outcomes.entry(answer.json()["reason"].as_str().unwrap_or("none").to_owned()).or_default() += 1;
    }
    let (timeouts, busy) = (outcomes.remove("timeout"), outcomes.remove("busy"));
    assert!(outcomes.is_empty(), "{outcomes:?}");
    // As many calls at once as it has places; it has failed again and again then, and is left alone.
    assert!(timeouts.is_some_and(|calls| (10..=200).contains(&calls)), "{timeouts:?} and {busy:?}");
    assert_eq!(timeouts.unwrap_or_default() + busy.unwrap_or_default(), 1000);
    let opened = own.world.metric("datafly_provider_breaker_opened_total", &[("vendor", "custom")]).await;
    assert!(opened >= 1.0);
}

#[tokio::test]
async fn a_page_event_beside_the_call_does_not_wait_for_it() {
    let own = Enriching::with(Options::default(), &["liveramp_ats"]).await;
    own.sim.misbehave("liveramp_ats", Some(Fault::Hang));
    let mut browser = own.visitor_with("beside@example.com").await;
    let mut asking = browser.clone();
    let body = json!({"vendor": "liveramp_ats", "anonymous_id": asking.aid()}).to_string();
    let call = tokio::spawn(async move { asking.post("/v1/enrich", body).await });
    assert_accepted(&browser.view(&granted()).await, 1);
    assert!(!call.is_finished(), "the event was answered first");
    assert_eq!(call.await.unwrap().json()["reason"], "timeout");
}
