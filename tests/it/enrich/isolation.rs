//! A provider that hangs holds up nobody else.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use harness::{
    answers::assert_accepted, enrich_sim::Fault, providers::Enriching, visits::granted, world::Options,
};
use serde_json::json;
use tokio::time::timeout;

#[tokio::test]
async fn a_vendor_that_hangs_with_a_thousand_waiting_holds_up_no_event_and_no_other_vendor() {
    // A thousand people have a thousand addresses, which a proxy tells.
    let options = Options { trusted_proxies: "127.0.0.0/8", ..Options::default() };
    let own = Enriching::with(options, &["liveramp_ats", "acxiom_realid"]).await;
    own.sim.misbehave("liveramp_ats", Some(Fault::Hang));
    let mut calm = own.visitor_with("calm@example.com").await;
    let mut waiting = Vec::new();
    let subjects: Vec<_> = (0..1000)
        .map(|at| {
            let mut event = calm.page_view(&granted());
            event["anonymousId"] = json!(format!("waiting-{at}"));
            event["traits"] = json!({"email": format!("waiting-{at}@example.com")});
            event
        })
        .collect();
    for events in subjects.chunks(100) {
        assert_accepted(&own.world.browser().batch(&json!(events)).await, events.len());
    }
    for at in 0..1000 {
        let mut browser = calm.clone();
        browser.anonymous_id = Some(format!("waiting-{at}"));
        browser.address = Some(format!("10.0.{}.{}", at / 250, at % 250 + 1));
        let body = json!({"vendor": "liveramp_ats", "anonymous_id": browser.aid()}).to_string();
        waiting.push(tokio::spawn(async move {
            // The jar is the calm visitor's; these are other people's browsers.
            browser.jar.clear();
            browser.post("/v1/enrich", body).await
        }));
    }
    // Meanwhile, far sooner than the vendor's two seconds a thousand times.
    let meanwhile = async {
        let mut answered = 0;
        while !waiting.iter().all(tokio::task::JoinHandle::is_finished) {
            assert_accepted(&calm.view(&granted()).await, 1);
            let mut other = own.visitor_with(&format!("other-{answered}@example.com")).await;
            own.id_of(&own.enrich(&mut other, "acxiom_realid").await);
            answered += 1;
        }
        answered
    };
    let answered = timeout(Duration::from_secs(60), meanwhile).await.expect("everybody is answered");
    assert!(answered > 0);
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for answer in join_all(waiting).await {
        let answer = answer.unwrap();
        let word = if answer.status == 200 {
            answer.json()["reason"].as_str().unwrap_or("none").to_owned()
        } else {
            format!("{} {}", answer.status, answer.code())
        };
        *outcomes.entry(word).or_default() += 1;
    }
    let known = ["timeout", "busy", "503 OVERLOADED"];
    assert!(outcomes.keys().all(|outcome| known.contains(&outcome.as_str())), "{outcomes:?}");
    assert!(outcomes["timeout"] >= 10 && outcomes["timeout"] <= 200, "{outcomes:?}");
    // It has failed again and again, and is left alone.
    let opened =
        own.world.metric("datafly_provider_breaker_opened_total", &[("vendor", "liveramp_ats")]).await;
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
