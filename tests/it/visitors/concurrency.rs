//! Calls at once: over two cores, and of one visitor.

use std::{collections::HashSet, time::Duration};

use harness::{
    answers::assert_accepted,
    browser::Browser,
    eventually,
    visits::{denied, granted},
    world::{Options, World},
};
use proto::v1::{
    Caller, ConsentSignals, ResolveRequest, StoreSyncResultRequest, Subject, SyncOutcome, caller::Kind,
};
use serde_json::Value;
use tokio::task::JoinSet;
use tonic::{Code, Status};

async fn two_cores() -> World {
    World::with(Options { cores: 2, ..Options::default() }).await
}

/// Repeats a call that a busy machine was too late for, and answers also how often.
async fn at_last<T>(mut call: impl AsyncFnMut() -> Result<T, Status>) -> (T, usize) {
    for repeated in 0..20 {
        match call().await {
            Ok(answer) => return (answer, repeated),
            Err(status) => {
                assert!([Code::Unavailable, Code::DeadlineExceeded].contains(&status.code()), "{status}");
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("too late each time");
}

#[tokio::test]
async fn sixty_four_first_events_of_one_browser_make_one_identity() {
    let world = two_cores().await;
    let mut calls = JoinSet::new();
    for number in 0..64 {
        let token = &world.cluster.secrets.internal_token;
        let mut core = world.cluster.api(number % 2, token).unwrap().resolve();
        let subject = Subject {
            anonymous_id: Some("one-browser".to_owned()),
            consent: Some(ConsentSignals { json: Some(granted().to_string()), sec_gpc: false }),
            ..Subject::default()
        };
        let caller = Caller { kind: Some(Kind::OrgId(world.customer.org_id.to_string())) };
        let request =
            ResolveRequest { caller: Some(caller), subjects: vec![subject], ..ResolveRequest::default() };
        calls.spawn(at_last(async move || {
            let resolution = core.resolve(request.clone()).await?.into_inner().resolutions.remove(0);
            match resolution.error {
                Some(error) if error.retry => Err(Status::unavailable(error.message)),
                _ => Ok(resolution),
            }
        }));
    }
    let mut canonicals = HashSet::new();
    let (mut created, mut repeated) = (0, 0);
    for (resolution, times) in calls.join_all().await {
        assert_eq!(resolution.error, None);
        created += usize::from(resolution.created);
        repeated += times;
        canonicals.insert(resolution.canonical_id);
    }
    assert_eq!(canonicals.len(), 1, "{canonicals:?}");
    // The one that made it may not have been heard.
    assert!(created == 1 || (created == 0 && repeated > 0), "{created} calls claim to have made it");
    assert_eq!(
        world.database.count("canonicals", "true").await,
        1,
        "canonicals without a link are left over"
    );
    assert_eq!(world.database.count("links", "true").await, 1);
}

#[tokio::test]
async fn many_tabs_of_one_visitor_are_offered_a_vendor_once() {
    let world = two_cores().await;
    let browser = world.browser();
    browser.clone().view(&granted()).await;
    world.age("1 hour").await;
    let mut tabs = JoinSet::new();
    for _ in 0..20 {
        let mut tab = browser.clone();
        tabs.spawn(async move { tab.view(&granted()).await });
    }
    let answers = tabs.join_all().await;
    answers.iter().for_each(|answer| assert_accepted(answer, 1));
    let offers: usize = answers.iter().map(|answer| answer.offered().len()).sum();
    assert_eq!(offers, 1, "of 20 batches at once");
}

#[tokio::test]
async fn one_callback_sent_many_times_counts_once() {
    let world = two_cores().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    let callback = browser.sync_to_vendor("pinterest").await;
    let mut calls = JoinSet::new();
    for number in 0..16 {
        let token = &world.cluster.secrets.edge_token;
        let mut core = world.cluster.api(number % 2, token).unwrap().sync();
        let request = StoreSyncResultRequest {
            vendor: "pinterest".to_owned(),
            raw_query: callback.query().unwrap_or_default().to_owned(),
            host: callback.authority().to_owned(),
            ..StoreSyncResultRequest::default()
        };
        calls.spawn(at_last(async move || {
            match core.store_sync_result(request.clone()).await?.into_inner().outcome() {
                SyncOutcome::StoreFailed => Err(Status::unavailable("a store was too late")),
                outcome => Ok(outcome),
            }
        }));
    }
    let (outcomes, times): (Vec<SyncOutcome>, Vec<usize>) = calls.join_all().await.into_iter().unzip();
    let stored = outcomes.iter().filter(|outcome| **outcome == SyncOutcome::Stored).count();
    let refused = outcomes.iter().filter(|outcome| **outcome == SyncOutcome::BadState).count();
    let counted = world.metric("datafly_sync_succeeded_total", &[]).await;
    // The one that stored it may not have been heard.
    let unheard = stored == 0 && counted <= 1.0 && times.iter().any(|repeated| *repeated > 0);
    assert!(unheard || (stored == 1 && counted == 1.0), "{counted} counted, {outcomes:?}");
    assert_eq!(stored + refused, 16, "{outcomes:?}");
    assert!(world.vendor_id(browser.aid(), "pin_unauth").await.is_some());
}

#[tokio::test]
async fn both_cores_see_a_change_at_once() {
    let world = two_cores().await;
    let token = &world.cluster.secrets.internal_token;
    let mut browser: Browser = world.browser();
    browser.view(&granted()).await;
    browser.sync("pinterest").await;
    for round in 0..20 {
        // Each change goes through whichever core the edge picks; each core must answer with it.
        let consent = if round % 2 == 0 { denied() } else { granted() };
        assert_accepted(&browser.view(&consent).await, 1);
        for core in 0..2 {
            let request = proto::v1::VendorIdsRequest {
                org_id: world.customer.org_id.to_string(),
                identities: vec![proto::v1::IdentityRef {
                    id: Some(proto::v1::identity_ref::Id::AnonymousId(browser.aid().to_owned())),
                    browser: None,
                }],
                fields: Vec::new(),
                ..proto::v1::VendorIdsRequest::default()
            };
            let mut client = world.cluster.api(core, token).unwrap().resolve();
            let answer = client.vendor_ids(request).await.unwrap().into_inner().identities.remove(0);
            let json = answer.consent.and_then(|consent| consent.json).unwrap_or_default();
            assert_eq!(
                serde_json::from_str::<Value>(&json).ok(),
                Some(consent.clone()),
                "round {round}, core {core}"
            );
        }
    }
}

#[tokio::test]
async fn a_burst_of_new_visitors_is_taken_whole() {
    let world = two_cores().await;
    let timeouts = world.metric("datafly_pool_timeouts_total", &[]).await;
    let mut visits = JoinSet::new();
    for _ in 0..100 {
        let mut browser = world.browser();
        // As browsers do, those come again that a busy machine sends away.
        visits.spawn(eventually("the visitor to be taken", async move || {
            let answer = browser.view(&granted()).await;
            let retry = || answer.json()["errors"][0]["retry"] == Value::Bool(true);
            if [503, 504].contains(&answer.status) || retry() { Err(answer.text()) } else { Ok(answer) }
        }));
    }
    for answer in visits.join_all().await {
        assert_accepted(&answer, 1);
    }
    assert_eq!(world.database.count("consent", "true").await, 100);
    assert_eq!(world.metric("datafly_pool_timeouts_total", &[]).await, timeouts);
}
