//! Neighbours of a tenant whose calls hang, merge without end or fill the memory: they are served.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use diesel_async::SimpleAsyncConnection;
use harness::{
    answers::assert_accepted,
    eventually,
    people::{People, cookie, login, visit},
    seed::Customer,
    signature::sign,
    visits::granted,
    world::World,
};
use proto::{
    reason_of,
    v1::{Caller, ErrorReason, ResolveRequest, Subject, caller::Kind},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::Code;
use tonic_types::StatusExt;
use uuid::Uuid;

use super::support::{Counts, assert_served, retry_after, visitor_of};

/// A batch of events of new visitors.
fn strangers(count: usize) -> Value {
    (0..count).map(|_| json!({"type": "page", "anonymousId": Uuid::new_v4()})).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_visitors_of_one_user_leave_the_neighbour_alone() {
    let world = World::start().await;
    let other = world.another_customer("implicit").await;
    let mut bomb = JoinSet::new();
    for _ in 0..20 {
        let mut browser = world.browser();
        bomb.spawn(async move {
            let mut events = strangers(500);
            for event in events.as_array_mut().unwrap() {
                event["userId"] = json!("everybody");
            }
            browser.batch(&events).await
        });
    }
    let mut answers = Vec::new();
    let mut served = 0;
    while answers.len() < 20 {
        assert_served(&mut world.browser_of(&other)).await;
        served += 1;
        answers.extend(std::iter::from_fn(|| bomb.try_join_next()).map(Result::unwrap));
    }
    assert!(served > 0);
    for answer in answers {
        match answer.status {
            200 => {
                let errors = answer.json()["errors"].as_array().unwrap().clone();
                assert!(errors.iter().all(|error| error["retry"] == json!(true)), "{errors:?}");
            }
            429 | 503 => assert!(retry_after(&answer) >= 1),
            status => panic!("HTTP {status}: {}", answer.text()),
        }
    }
}

/// A request that resolves one new visitor.
fn stranger(world: &World, customer: &Customer) -> ResolveRequest {
    let caller = visitor_of(world, customer, &customer.live_key, 1).caller.map(Kind::Collect);
    let subject = Subject { anonymous_id: Some(Uuid::new_v4().to_string()), ..Subject::default() };
    ResolveRequest {
        caller: Some(Caller { kind: caller }),
        subjects: vec![subject],
        ..ResolveRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_hang_take_one_tenant_s_places_and_no_more() {
    /// Calls of one organisation that a core takes at once.
    const CALLS_AT_ONCE: usize = 1024;
    let world = World::start().await;
    let other = world.another_customer("implicit").await;
    let token = &world.cluster.secrets.edge_token;
    let known = stranger(&world, &other);
    let ask = async || world.cluster.api(0, token).unwrap().resolve().resolve(known.clone()).await;
    ask().await.unwrap();

    // Whoever is new has to be stored, and that waits now.
    let mut lock = world.database.connection().await.unwrap();
    lock.batch_execute("BEGIN; LOCK TABLE links IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut calls = JoinSet::new();
    let (mut refused, mut served, mut waves) = (0, 0, 0);
    loop {
        // All of them have to be there before the first give up, which a busy machine may not manage every
        // time.
        if calls.is_empty() && refused == 0 && waves < 10 {
            waves += 1;
            for _ in 0..12 {
                let core = world.cluster.api(0, token).unwrap().resolve();
                for _ in 0..2 * CALLS_AT_ONCE / 12 {
                    let (mut core, request) = (core.clone(), stranger(&world, &world.customer));
                    calls.spawn(async move { core.resolve(request).await });
                }
            }
        }
        let Some(answer) = calls.join_next().await else { break };
        if let Some(status) = answer.unwrap().err().filter(|status| status.code() == Code::ResourceExhausted)
        {
            assert_eq!(reason_of(&status).map(|row| row.reason), Some(ErrorReason::Overloaded));
            let delay = status.get_details_retry_info().unwrap().retry_delay.unwrap();
            assert!(delay >= Duration::from_secs(1));
            refused += 1;
        }
        if refused == 1 && served == 0 {
            // A machine that is busy with other tests may be too late; refused the neighbour must not be.
            match ask().await {
                Ok(answer) => {
                    let error = answer.get_ref().resolutions[0].error.as_ref().map(|error| error.reason());
                    assert!(matches!(error, None | Some(ErrorReason::Unavailable)), "{error:?}");
                }
                Err(status) => assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}"),
            }
            served += 1;
        }
    }
    assert!(refused > 0 && served > 0, "{refused} refused, {served} served");
    lock.batch_execute("COMMIT").await.unwrap();
    eventually("a place again", async || {
        let mut core = world.cluster.api(0, token).unwrap().resolve();
        let answer = core.resolve(stranger(&world, &world.customer)).await;
        let answer = answer.map_err(|status| status.to_string())?.into_inner();
        answer.resolutions[0].error.clone().map_or(Ok(()), |error| Err(format!("{error:?}")))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn merges_that_wait_for_a_lock_hold_up_their_own_tenant_alone() {
    /// Calls that wait for the lock until their deadline, while the neighbour goes on.
    const HELD_UP_CALLS: usize = 32;
    /// Calls of the neighbour, of which some may be late.
    const NEIGHBOUR_CALLS: usize = 100;
    let world = World::start().await;
    let stuck = People::of(&world);
    let neighbour = People::in_org(&world, &world.another_customer("explicit").await.org_id.to_string());
    let victim = stuck.see(0, login("first", "victim")).await.canonical_id;
    let mut lock = world.database.connection().await.unwrap();
    let row = format!("BEGIN; SELECT FROM canonicals WHERE id = '{victim}' FOR UPDATE");
    lock.batch_execute(&row).await.unwrap();
    let held_up = Arc::new(AtomicUsize::new(0));
    let mut bombers = JoinSet::new();
    for bomber in 0..16 {
        let (stuck, held_up) = (stuck.clone(), held_up.clone());
        bombers.spawn(async move {
            // Until the neighbour has made its calls, however long that takes.
            for n in 0.. {
                let refused =
                    stuck.resolve(0, vec![login(format!("bot-{bomber}-{n}"), "victim")]).await.is_err();
                held_up.fetch_add(refused.into(), Ordering::Relaxed);
            }
        });
    }
    eventually("merges to wait for the lock", async || {
        let waiting = "datname = current_database() AND wait_event_type = 'Lock'";
        match world.database.count("pg_stat_activity", waiting).await {
            0 | 1 => Err("fewer than two".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    let (mut calls, mut late) = (0, Vec::new());
    while held_up.load(Ordering::Relaxed) < HELD_UP_CALLS || calls < NEIGHBOUR_CALLS {
        let (one, other) = (format!("one-{calls}"), format!("other-{calls}"));
        for subject in [visit(&one), visit(&other), cookie(&one, &other)] {
            late.extend(neighbour.resolve(0, vec![subject]).await.err());
            calls += 1;
        }
    }
    lock.batch_execute("COMMIT").await.unwrap();
    bombers.shutdown().await;
    // A machine that is busy with other tests may be too late at times.
    assert!(late.iter().all(|status| status.code() == Code::DeadlineExceeded), "{late:?}");
    assert!(late.len() * 10 <= calls, "{} of {calls} calls of the neighbour waited", late.len());
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_of_the_largest_bodies_at_once_fit() {
    const MEMORY_GROWTH_BYTES: u64 = 64 << 20;
    let world = World::start().await;
    let mut browser = world.browser();
    assert_accepted(&browser.view(&granted()).await, 1);
    let services = [&world.cluster.edge, &world.cluster.cores[0]];
    let before = services.map(|service| service.memory().unwrap_or(0));
    let largest: u64 = 512 * 1024;
    let event =
        json!({"type": "page", "anonymousId": browser.aid(), "properties": {"x": "y".repeat(32_000)}})
            .to_string();
    let count = usize::try_from(largest).unwrap() / (event.len() + 1);
    let mut body = format!("{{\"batch\":[{}]}}", vec![event; count - 1].join(","));
    body.push_str(&" ".repeat(512 * 1024 - body.len()));

    let mut senders = JoinSet::new();
    let signature = sign(&world.customer.server_secret, &body);
    for number in 0..200 {
        let (mut browser, body, signature) = (browser.clone(), body.clone(), signature.clone());
        senders.spawn(async move {
            let mut request = browser.request(Method::POST, "/v1/batch").bearer_auth(&browser.key);
            // The bodies of signed calls go on to the core.
            if number % 2 == 0 {
                request = request.header("x-datafly-signature", signature);
            }
            browser.send(request.body(body)).await
        });
    }
    let mut peak = before;
    let mut counts = Counts::new();
    while !senders.is_empty() {
        if let Ok(answer) = tokio::time::timeout(Duration::from_millis(2), senders.join_next()).await {
            let answer = answer.unwrap().unwrap();
            *counts.entry(answer.status).or_default() += 1;
            match answer.status {
                200 => assert_accepted(&answer, count - 1),
                _ => assert_eq!((answer.status, retry_after(&answer)), (503, 1), "{}", answer.text()),
            }
        }
        peak = std::array::from_fn(|at| peak[at].max(services[at].memory().unwrap_or(0)));
    }
    assert!(counts.contains_key(&200), "{counts:?}");
    assert!(
        peak.iter().zip(before).all(|(peak, before)| *peak < before + MEMORY_GROWTH_BYTES),
        "{before:?} {peak:?}"
    );
    assert_accepted(&browser.view(&granted()).await, 1);
}
